"""Average precision of matched detections: the area under their precision-recall curve."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from keypoint_detection.metrics.matching import lexicographic_order, sortable_bits

Interpolation = Literal["all", "101"]

WEIGHTED_AT_ONCE = 2**15
"""Weighted detections held at once: they stay in the cache, and below torch's grain for several threads.

Operations this short gain little from a second thread and wait long for it where other work has the cores.
"""


class Matches(NamedTuple):
    """Hold matched detections, ordered by image, then channel; this is what the metric stores.

    Attributes:
        scores: `[d]` float64.
        matched: `[d, t]` bool, the true positives at each threshold.
        ignored: `[d, t]` bool, those left out at each threshold: neither true nor false positives.
        num_detections: `[n, c]` int64, the detections of each image and channel.
        num_targets: `[n, c]` int64, likewise; without the ignored ones.
    """

    scores: Tensor
    matched: Tensor
    ignored: Tensor
    num_detections: Tensor
    num_targets: Tensor

    @classmethod
    def without_images(cls, num_channels: int, num_thresholds: int) -> "Matches":
        """Return the matches of no image."""
        flags = torch.zeros(0, num_thresholds, dtype=torch.bool)
        counts = torch.zeros(0, num_channels, dtype=torch.int64)
        return cls(torch.zeros(0, dtype=torch.float64), flags, flags.clone(), counts, counts.clone())


class Ranking(NamedTuple):
    """Tell the order of the d detections of all images: by channel, then score, best first.

    Attributes:
        order: `[d]` int64, index of the detection at each place.
        channel: `[d]` int64, its channel.
        ends: `[d]` bool, the last detection of each distinct score in its channel.
    """

    order: Tensor
    channel: Tensor
    ends: Tensor


@torch.no_grad()
def average_precision_of_matches(
    matches: Matches, interpolation: Interpolation = "all", weights: Tensor | None = None
) -> Tensor:
    """Return the area under the precision-recall curve, per channel and threshold, pooled over images.

    Detections with the same score, of whatever image, enter the curve together. It runs on the CPU, with
    every sum in a fixed order: any device and any order of the images give the same bits, and so do weights
    and images that are there several times.

    Args:
        matches: Matched detections of n images and c channels.
        interpolation: "all" points of the precision envelope, or COCO's "101".
        weights: int64 `[b, n]`, >= 0: how often each image counts, in each of b samples.

    Returns:
        `[c, t]`, or with weights `[b, c, t]`, float64 in [0, 1]; NaN where the channel has no target.

    Raises:
        ValueError: Weights of another shape, not whole numbers, or negative.
    """
    matches = Matches(*(part.cpu() for part in matches))
    if weights is not None:
        _check_weights(weights, len(matches.num_detections))
        return _weighted_areas(matches, _rank(matches), interpolation, weights.cpu().long())
    return _areas(matches, _rank(matches), interpolation)


def _rank(matches: Matches) -> Ranking:
    n, c = matches.num_detections.shape
    scores = matches.scores.double()
    channel = torch.arange(c).repeat(n).repeat_interleave(matches.num_detections.flatten())
    order = lexicographic_order([channel, sortable_bits(-scores)])
    scores, channel = scores[order], channel[order]
    ends = torch.ones(len(order), dtype=torch.bool)
    ends[:-1] = (scores[1:] != scores[:-1]) | (channel[1:] != channel[:-1])
    return Ranking(order, channel, ends)


def _areas(matches: Matches, ranking: Ranking, interpolation: str) -> Tensor:
    """Return the areas `[c, t]`, of all channels at once."""
    order, channel, count = ranking.order, ranking.channel, matches.num_detections.sum(0)
    c = len(count)
    longest = max(1, int(count.max()) if c else 0)
    slot = torch.arange(len(order)) - (count.cumsum(0) - count)[channel] + channel * longest

    def per_channel(values: Tensor) -> Tensor:
        padded = torch.zeros(c * longest, dtype=values.dtype).index_put((slot,), values)
        return padded.reshape(c, longest)

    ends, num_targets, areas = per_channel(ranking.ends), matches.num_targets.sum(0), []
    none_ignored = not bool(matches.ignored.any())
    for hits, ignored in zip(matches.matched[order].unbind(1), matches.ignored.unbind(1), strict=True):
        found = per_channel(hits.long()).cumsum(1)
        counted = torch.arange(1, longest + 1)
        if not none_ignored:
            counted = per_channel((~ignored[order]).long()).cumsum(1).clamp(min=1)
        precision = torch.where(ends, found.double() / counted, 0.0)
        reached = torch.where(ends, found, 0).cummax(1).values
        areas.append(_area_under_curve(reached, precision, num_targets, interpolation))
    return torch.stack(areas, dim=1)


def _weighted_areas(matches: Matches, ranking: Ranking, interpolation: str, weights: Tensor) -> Tensor:
    """Return the areas `[b, c, t]`, channel by channel, for some of the samples at a time."""
    num_targets = weights @ matches.num_targets
    totals = weights @ matches.num_detections
    # Counts in 32 bits take half the time; they are as exact while they fit.
    small = totals.numel() == 0 or int(totals.max()) <= torch.iinfo(torch.int32).max
    # One more image of weight 0 stands for "none yet".
    weights = torch.nn.functional.pad(weights, (0, 1)).to(torch.int32 if small else torch.int64)
    areas = torch.empty((*num_targets.shape, matches.matched.shape[1]), dtype=torch.float64)
    image = torch.arange(len(matches.num_detections)).repeat_interleave(matches.num_detections.sum(1))
    ranked = (ranking.ends, *(part[ranking.order] for part in (image, matches.matched, matches.ignored)))
    lengths = matches.num_detections.sum(0).tolist()
    for channel, part in enumerate(zip(*(values.split(lengths) for values in ranked), strict=True)):
        ends, image, matched, ignored = part
        curves = [_steps(ends, image, *flags) for flags in zip(matched.T, ignored.T, strict=True)]
        step = max(1, WEIGHTED_AT_ONCE // max(1, lengths[channel]))
        for rows in (slice(start, start + step) for start in range(0, len(weights), step)):
            running = _running(weights[rows], image)
            for column, steps in enumerate(curves):
                areas[rows, channel, column] = _weighted_area(
                    steps, running, weights[rows], num_targets[rows, channel], interpolation
                )
    return areas


class Steps(NamedTuple):
    """Hold the p steps of one curve: the distinct scores with a true positive, the only ones that matter.

    At the others no recall is gained, and their precision is not above that of the step before.

    Attributes:
        detections: `[p]` int64, detections up to the end of each step.
        hits: `[p]` int64, true positives among them.
        left_out: `[p]` int64, ignored detections among them.
        hit_images: Image of each true positive, best first.
        left_out_images: Image of each ignored detection, best first.
    """

    detections: Tensor
    hits: Tensor
    left_out: Tensor
    hit_images: Tensor
    left_out_images: Tensor


def _steps(ends: Tensor, image: Tensor, matched: Tensor, ignored: Tensor) -> Steps:
    """Return the steps of one channel at one threshold; every argument `[l]`, by score, best first."""
    last = ends.nonzero().squeeze(-1)
    hits = matched.cumsum(0)[last]
    gains = hits.diff(prepend=hits.new_zeros(1)) > 0
    last, hits = last[gains], hits[gains]
    return Steps(last + 1, hits, ignored.cumsum(0)[last], image[matched], image[ignored])


def _weighted_area(
    steps: Steps, running: Tensor, weights: Tensor, num_targets: Tensor, interpolation: str
) -> Tensor:
    """Return the areas `[b]` under one curve.

    Args:
        steps: Where the curve has its steps.
        running: `[b, l + 1]` weighted number of the first 0 ... l detections.
        weights: `[b, n + 1]`, of the images, the last one 0.
        num_targets: `[b]` weighted.
        interpolation: "all" or "101".
    """
    found = _at(_running(weights, steps.hit_images), steps.hits)
    counted = _at(running, steps.detections)
    if len(steps.left_out_images):
        counted = counted - _at(_running(weights, steps.left_out_images), steps.left_out)
    return _area_under_curve(found, found.double() / counted.clamp(min=1), num_targets, interpolation)


def _running(weights: Tensor, images: Tensor) -> Tensor:
    """Return the running sums `[b, q + 1]`, from 0, of the weights `[b, n + 1]` of q images."""
    images = torch.nn.functional.pad(images, (1, 0), value=weights.shape[1] - 1)
    return weights.gather(1, images.expand(len(weights), -1)).cumsum(1, dtype=weights.dtype)


def _at(sums: Tensor, index: Tensor) -> Tensor:
    return sums.gather(1, index.expand(len(sums), -1))


def _area_under_curve(reached: Tensor, precision: Tensor, num_targets: Tensor, interpolation: str) -> Tensor:
    """Return the average precision `[r]` of r curves of l steps.

    Args:
        reached: `[r, l]` integers, true positives up to each step.
        precision: `[r, l]` float64; 0 at a step that is not one.
        num_targets: `[r]` int64.
        interpolation: "all" or "101".
    """
    envelope = precision.flip(1).cummax(1).values.flip(1)
    if interpolation == "101":
        # k * 0.01 with its rounding, and "first recall >= level", are pycocotools'.
        levels = (torch.arange(101, dtype=torch.float64) * 0.01).repeat(len(reached), 1)
        at = torch.searchsorted(reached.double() / num_targets[:, None], levels)
        terms = torch.nn.functional.pad(envelope, (0, 1)).gather(1, at)
        area = terms.cumsum(1)[:, -1] / 101
    else:
        gained = reached.diff(dim=1, prepend=torch.zeros_like(reached[:, :1]))
        # The sum of the last running sum alone is that sum, and 0 without steps.
        area = (gained * envelope).cumsum(1)[:, -1:].sum(1) / num_targets
    return area.masked_fill(num_targets == 0, torch.nan)


def _check_weights(weights: Tensor, num_images: int) -> None:
    whole = not (weights.is_floating_point() or weights.is_complex())
    if weights.ndim != 2 or weights.shape[1] != num_images or not whole:
        raise ValueError(
            f"expected weights [b, {num_images}] of whole numbers, got {weights.dtype} {list(weights.shape)}"
        )
    if bool((weights < 0).any()):
        raise ValueError(f"expected weights >= 0, got {int(weights.min())}")
