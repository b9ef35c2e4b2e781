"""Labelled points that the decoder cannot tell apart: too close to each other, or too many of them."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.doctor_round_trip import decode_patches
from keypoint_detection.doctor_samples import LabelSamples

BLUR_SIGMAS = 2.3
"""Equal Gaussians closer than this many sigma have no valley between them when they are summed, as the maps
of a trained network look like; the targets are combined by maximum, which keeps closer ones apart."""
EXAMPLES = 5


class Pairs(NamedTuple):
    """Hold e pairs of labels of one channel and sample.

    Attributes:
        one: int64 `[e]`, index of a label of the samples.
        two: int64 `[e]`, likewise, greater.
        distance_px: float64 `[e]`, in heatmap pixels.
    """

    one: NDArray[np.int64]
    two: NDArray[np.int64]
    distance_px: NDArray[np.float64]

    def select(self, mask: NDArray[np.bool_]) -> "Pairs":
        """Return the pairs of a mask or an index."""
        return Pairs(self.one[mask], self.two[mask], self.distance_px[mask])


def merging_points(samples: LabelSamples) -> dict[str, Any]:
    """Return which points of a channel come back as one when both are drawn and decoded.

    Both come back if each has a detection of its own that is closer to it than half their distance. Each pair
    is looked at alone, in all samples. With direct regression there are no maps and nothing merges.

    Returns:
        `pairs` (how many merge), `points` (in them), `share` of all labelled points, `images`,
        `suppressed` (pairs of those within the radius of suppression), `same_place` (pairs of those at one
        place, which no settings tell apart), `blurred` (pairs closer than 2.3 sigma, which a network has to
        tell apart more sharply than by the sum of two Gaussians) and `examples`, the closest first.
    """
    if samples.settings.head == "regression":
        return _summary(samples, merging_pairs(samples), 0)
    near = near_pairs(samples)
    blurred = int((near.distance_px < BLUR_SIGMAS * samples.settings.sigma_px).sum())
    return _summary(samples, near.select(merges(samples, near)), blurred)


def merging_pairs(samples: LabelSamples) -> Pairs:
    """Return the pairs that merge; none with direct regression, which has no maps."""
    near = near_pairs(samples)
    if samples.settings.head == "regression":
        return near.select(np.zeros(len(near.one), bool))
    return near.select(merges(samples, near))


def crowded_channels(samples: LabelSamples) -> dict[str, Any]:
    """Return where a channel of a sample has more points than there can be detections.

    Returns:
        `limit`, `most` (points in a channel of a sample), `samples` (with too many), and `worst`: image id,
        file name and channel of the fullest one, None where no sample has too many.
    """
    settings, counted = samples.settings, np.flatnonzero(samples.counts)
    group = samples.sample[counted] * len(samples.channels) + samples.channel[counted]
    places, sizes = np.unique(group, return_counts=True)
    limit = detections_per_channel(samples)
    over, most = sizes > limit, int(sizes.max(initial=0))
    worst = None
    if over.any():
        sample, channel = divmod(int(places[sizes.argmax()]), len(samples.channels))
        worst = {**_image(samples, sample), "channel": samples.channel_names[channel]}
    crowded = len(np.unique(places[over] // len(samples.channels)))
    return {"head": settings.head, "limit": limit, "most": most, "samples": crowded, "worst": worst}


def detections_per_channel(samples: LabelSamples) -> int:
    """Return the most detections of a channel in a sample, as `decode_batch` takes them."""
    if samples.settings.head == "regression":
        return 1
    if samples.settings.input_mode == "instance":
        return max(len(channel) for channel in samples.channels)
    return samples.settings.max_keypoints


def near_pairs(samples: LabelSamples) -> Pairs:
    """Return the pairs of labels of one channel and sample that might merge, by their distance."""
    settings, xy = samples.settings, samples.heatmap_xy.astype(np.float64)
    radius = max(3.0, BLUR_SIGMAS * settings.sigma_px, 1.5 * (settings.min_distance_px + 1))
    labels = np.flatnonzero(samples.counts)
    group = (samples.sample * len(samples.channels) + samples.channel)[labels]
    ones, twos = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, int(np.bincount(group).max(initial=0)) if len(group) else 0):
        together = np.flatnonzero(group[step:] == group[:-step])
        one, two = labels[together], labels[together + step]
        near = np.linalg.norm(xy[one] - xy[two], axis=1) < radius
        ones.append(one[near])
        twos.append(two[near])
    one, two = np.concatenate(ones), np.concatenate(twos)
    return Pairs(one, two, np.linalg.norm(xy[one] - xy[two], axis=1))


def merges(samples: LabelSamples, pairs: Pairs) -> NDArray[np.bool_]:
    """Tell which pairs come back as one, or as two at the wrong places, `[e]`."""
    points = samples.heatmap_xy[np.stack([pairs.one, pairs.two], axis=1)]
    map_hw = samples.heatmap_hw[samples.sample[pairs.one]]
    reach = float(pairs.distance_px.max(initial=0.0)) / 2
    found = decode_patches(points, map_hw, samples.settings, reach_px=reach)
    error = np.linalg.norm(found[:, :, None] - points[:, None], axis=-1)  # detection, label
    straight = np.maximum(error[:, 0, 0], error[:, 1, 1])
    crossed = np.maximum(error[:, 0, 1], error[:, 1, 0])
    return ~(np.fmin(straight, crossed) < pairs.distance_px / 2)


def _summary(samples: LabelSamples, pairs: Pairs, blurred: int) -> dict[str, Any]:
    labels = np.unique(np.concatenate([pairs.one, pairs.two]))
    one, two = samples.point[pairs.one], samples.point[pairs.two]
    original = np.linalg.norm(samples.table.xy[one] - samples.table.xy[two], axis=1)
    apart = np.abs(samples.heatmap_xy[pairs.one] - samples.heatmap_xy[pairs.two]).max(axis=1, initial=0)
    closest = np.argsort(original, kind="stable")[:EXAMPLES]
    return {
        "pairs": len(pairs.one),
        "points": len(labels),
        "share": len(labels) / max(int(samples.counts.sum()), 1),
        "images": len(np.unique(samples.row[samples.sample[pairs.one]])),
        "suppressed": int((apart <= samples.settings.min_distance_px).sum()),
        "same_place": int((original < 1e-3).sum()),
        "blurred": blurred,
        "examples": [_example(samples, pairs, int(index)) for index in closest],
    }


def _example(samples: LabelSamples, pairs: Pairs, index: int) -> dict[str, Any]:
    table, labels = samples.table, (pairs.one[index], pairs.two[index])
    points = samples.point[list(labels)]
    return {
        **_image(samples, int(samples.sample[labels[0]])),
        "annotation_ids": table.instance_ids[table.instance[points]].tolist(),
        "names": [table.names[name] for name in table.name_index[points]],
        "channel": samples.channel_names[samples.channel[labels[0]]],
        "distance_px": math.dist(*table.xy[points]),
        "heatmap_distance_px": float(pairs.distance_px[index]),
    }


def _image(samples: LabelSamples, sample: int) -> dict[str, Any]:
    row, table = int(samples.row[sample]), samples.table
    return {"image_id": int(table.image_ids[row]), "file_name": table.file_names[row]}
