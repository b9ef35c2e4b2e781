"""Pair labels with detections in rows instead of padded tensors, by the assignment behind the errors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.metrics.assignment import Partners, assign_partners
from keypoint_detection.metrics.keypoint_errors import target_lengths

SAMPLES_AT_ONCE = 256
"""Padded tensors are made of so many samples: memory stays flat for any number of images."""


@dataclass(frozen=True)
class LabelRows:
    """Hold l labels, by sample, then channel.

    Attributes:
        sample: int64 `[l]`.
        channel: int64 `[l]`.
        xy: float64 `[l, 2]`, original pixels, as the scores saw them.
        visibility: uint8 `[l]`, 1 or 2.
        length: float32 `[l]`, pixels that errors are divided by for PCK; NaN where undefined.
        point: int64 `[l]`, the row of the label among the points of the COCO file's table.
    """

    sample: NDArray[np.int64]
    channel: NDArray[np.int64]
    xy: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    length: NDArray[np.float32]
    point: NDArray[np.int64]


@dataclass(frozen=True)
class DetectionRows:
    """Hold d detections, by sample, then channel.

    Attributes:
        sample: int64 `[d]`.
        channel: int64 `[d]`.
        xy: float64 `[d, 2]`, original pixels.
        score: float64 `[d]`.
        occluded: bool `[d]`, those that were found to be covered; none where the detector does not tell.
    """

    sample: NDArray[np.int64]
    channel: NDArray[np.int64]
    xy: NDArray[np.float64]
    score: NDArray[np.float64]
    occluded: NDArray[np.bool_]


@dataclass(frozen=True)
class Pairs:
    """Hold what became of each of l labels.

    Attributes:
        distance: float64 `[l]`, pixels to the partner; NaN where the label does not count or is missed.
        detection: int64 `[l]`, the row of the partner among the detections, -1 likewise.
        missed: bool `[l]`, labels that count and have no partner.
        counted: bool `[l]`, labels that count: the visibility rule does not exclude them.
    """

    distance: NDArray[np.float64]
    detection: NDArray[np.int64]
    missed: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @classmethod
    def none(cls, count: int) -> "Pairs":
        """Return pairs of labels that do not count."""
        flags = np.zeros(count, bool)
        return cls(np.full(count, np.nan), np.full(count, -1), flags, flags)


def pair_labels(
    labels: LabelRows,
    detections: DetectionRows,
    num_samples: int,
    num_channels: int,
    required_visibility: int,
) -> Pairs:
    """Pair the m labels of a sample and channel with its m best detections; see `assign_partners`.

    Args:
        labels: The labels.
        detections: The detections.
        num_samples: q.
        num_channels: c.
        required_visibility: Labels below this flag do not count, nor do the detections on them.
    """
    label_group = labels.sample * num_channels + labels.channel
    found_group = detections.sample * num_channels + detections.channel
    pairs = Pairs.none(len(label_group))
    for first in range(0, num_samples, SAMPLES_AT_ONCE):
        last = min(first + SAMPLES_AT_ONCE, num_samples)
        groups = (first * num_channels, last * num_channels)
        mine, theirs = _Slots.of(label_group, groups), _Slots.of(found_group, groups)
        if mine.rows.start == mine.rows.stop:
            continue
        shape = (last - first, num_channels)
        partners = _partners(
            labels, detections, mine, theirs, shape=shape, required_visibility=required_visibility
        )
        _store(pairs, partners, mine, theirs)
    return Pairs(pairs.distance, pairs.detection, pairs.counted & (pairs.detection < 0), pairs.counted)


@dataclass(frozen=True)
class _Slots:
    """Say where rows of the groups of a chunk lie in a padded array `[groups, most]`."""

    rows: slice
    group: NDArray[np.int64]
    slot: NDArray[np.int64]
    start: NDArray[np.int64]
    most: int

    @classmethod
    def of(cls, group: NDArray[np.int64], chunk: tuple[int, int]) -> "_Slots":
        first, last = np.searchsorted(group, chunk).tolist()
        inside = group[first:last]
        start = np.searchsorted(group, inside)
        slot = np.arange(first, last) - start
        return cls(slice(first, last), inside - chunk[0], slot, start, int(slot.max(initial=0)) + 1)

    def padded(self, values: NDArray[Any], shape: tuple[int, int], padding: float) -> torch.Tensor:
        """Return the values `[r, ...]` of all rows as `[samples, channels, most, ...]`."""
        filled = np.full((shape[0] * shape[1], self.most, *values.shape[1:]), padding, values.dtype)
        filled[self.group, self.slot] = values[self.rows]
        return torch.from_numpy(filled).reshape(*shape, *filled.shape[1:])


def _partners(
    labels: LabelRows,
    detections: DetectionRows,
    mine: _Slots,
    theirs: _Slots,
    *,
    shape: tuple[int, int],
    required_visibility: int,
) -> Partners:
    visibility = mine.padded(labels.visibility, shape, 0)
    lengths = target_lengths(mine.padded(labels.length, shape, np.nan), visibility)
    return assign_partners(
        theirs.padded(detections.xy, shape, np.nan),
        theirs.padded(detections.score, shape, 0.0),
        mine.padded(labels.xy, shape, np.nan),
        visibility,
        ignored=(visibility > 0) & (visibility < required_visibility),
        length=lengths,
    )


def _store(pairs: Pairs, partners: Partners, mine: _Slots, theirs: _Slots) -> None:
    """Write the partners of a chunk into the rows of its labels."""
    at = (mine.group, mine.slot)
    distance, detection, counted = (
        part.flatten(0, 1).numpy()[at] for part in (partners.distance, partners.detection, partners.counted)
    )
    first_row = np.zeros(partners.counted.shape[:2].numel(), np.int64)
    first_row[theirs.group] = theirs.start
    pairs.distance[mine.rows] = distance
    pairs.detection[mine.rows] = np.where(detection < 0, -1, first_row[mine.group] + detection)
    pairs.counted[mine.rows] = counted
