"""Average precision of matched detections: the area under their precision-recall curve."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from keypoint_detection.metrics.matching import lexicographic_order, sortable_bits

Interpolation = Literal["all", "101"]


class Matches(NamedTuple):
    """Hold matched detections, ordered by image, then channel; this is what the metric stores.

    Attributes:
        scores: `[d]` float64.
        matched: `[d, t]` bool, the true positives at each threshold.
        num_detections: `[n, c]` int64, the detections of each image and channel.
        num_targets: `[n, c]` int64, likewise.
    """

    scores: Tensor
    matched: Tensor
    num_detections: Tensor
    num_targets: Tensor


def average_precision_of_matches(matches: Matches, interpolation: Interpolation = "all") -> Tensor:
    """Return the area under the precision-recall curve, per channel and threshold, pooled over images.

    Detections with the same score, of whatever image, enter the curve together. It runs on the CPU, with
    every sum in a fixed order: any device and any order of the images give the same bits.

    Args:
        matches: Matched detections of n images and c channels.
        interpolation: "all" points of the precision envelope, or COCO's "101".

    Returns:
        `[c, t]` float64 in [0, 1]; NaN where the channel has no target.
    """
    scores, matched, num_detections, num_targets = (part.cpu() for part in matches)
    scores = scores.double()
    n, c = num_detections.shape
    channel = torch.arange(c).repeat(n).repeat_interleave(num_detections.flatten())
    order = lexicographic_order([channel, sortable_bits(-scores)])
    scores, matched, channel = scores[order], matched[order], channel[order]
    count = num_detections.sum(0)
    longest = max(1, int(count.max()) if c else 0)
    slot = torch.arange(len(order)) - (count.cumsum(0) - count)[channel] + channel * longest
    last_of_score = torch.ones(len(order), dtype=torch.bool)
    last_of_score[:-1] = (scores[1:] != scores[:-1]) | (channel[1:] != channel[:-1])
    ends = torch.zeros(c * longest, dtype=torch.bool).index_put((slot,), last_of_score).reshape(c, longest)
    areas = []
    for hits in matched.unbind(1):
        found = torch.zeros(c * longest, dtype=torch.int64).index_put((slot,), hits.long())
        found = found.reshape(c, longest).cumsum(1)
        areas.append(_area_under_curve(found, ends, num_targets.sum(0), interpolation))
    return torch.stack(areas, dim=1)


def _area_under_curve(found: Tensor, ends: Tensor, num_targets: Tensor, interpolation: str) -> Tensor:
    """Return the average precision `[c]` of detections in score order.

    Args:
        found: `[c, l]` int64, true positives up to each detection.
        ends: `[c, l]` bool, the last detection of each distinct score; False in the padding.
        num_targets: `[c]` int64.
        interpolation: "all" or "101".
    """
    rank = torch.arange(1, found.shape[1] + 1)
    precision = torch.where(ends, found.double() / rank, 0.0)
    envelope = precision.flip(1).cummax(1).values.flip(1)
    if interpolation == "101":
        # k * 0.01 with its rounding, and "first recall >= level", are pycocotools'.
        levels = (torch.arange(101, dtype=torch.float64) * 0.01).repeat(len(found), 1)
        at = torch.searchsorted(found.double() / num_targets[:, None], levels)
        area = torch.nn.functional.pad(envelope, (0, 1)).gather(1, at).cumsum(1)[:, -1] / 101
    else:
        reached = torch.where(ends, found, 0).cummax(1).values
        gained = reached.diff(dim=1, prepend=torch.zeros_like(reached[:, :1]))
        area = (gained * envelope).cumsum(1)[:, -1] / num_targets
    return area.masked_fill(num_targets == 0, torch.nan)
