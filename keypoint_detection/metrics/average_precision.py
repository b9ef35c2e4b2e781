"""Average precision of keypoints per channel and threshold, by pixel distance or by object keypoint similarity."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.matching import (
    check_shapes,
    lexicographic_order,
    match_detections,
    present_detections,
    present_targets,
    sortable_bits,
)
from keypoint_detection.metrics.matching_rule import (
    DEFAULT_SIGMA,
    MatchingRule,
    Similarity,
    similarity_of_thresholds,
)

Interpolation = Literal["all", "101"]

__all__ = ["KeypointAveragePrecision", "keypoint_average_precision", "similarity_of_thresholds"]


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


def match_keypoints(
    rule: MatchingRule,
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    scale: Tensor | None = None,
) -> Matches:
    """Find the true positives of a batch in float64 on its device; for the arguments see `KeypointAveragePrecision`."""
    check_shapes(preds, scores, target, visibility)
    detected, present = present_detections(preds, scores), present_targets(target, visibility)
    scores = scores.double()
    matched = match_detections(
        preds.double().masked_fill(~detected[..., None], torch.nan),
        scores,
        target.double().masked_fill(~present[..., None], torch.nan),
        rule.limits(),
        variance=rule.variance(scale, present),
    )
    return Matches(scores[detected], matched[detected], detected.sum(-1), present.sum(-1))


def average_precision_of_matches(matches: Matches, interpolation: Interpolation = "all") -> Tensor:
    """Return the area under the precision-recall curve, per channel and threshold, pooled over images.

    Detections with the same score, of whatever image, enter the curve together. It runs on the CPU, with every sum in
    a fixed order: any device and any order of the images give the same bits.

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


def keypoint_average_precision(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    thresholds: Sequence[float],
    *,
    similarity: Similarity = "distance",
    scale: Tensor | None = None,
    sigmas: float | Sequence[float] = DEFAULT_SIGMA,
    interpolation: Interpolation = "all",
) -> dict[str, Tensor]:
    """Return the average precision of keypoints, pooled over images; the definition is `KeypointAveragePrecision`'s.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`, 0 where there is none.
        thresholds: t numbers: distances in pixels, > 0, or similarities in (0, 1].
        similarity: What the thresholds bound.
        scale: `[n, c, m]`, for "oks": area of the object of each target in square pixels.
        sigmas: For "oks": the keypoint constant, one or c of them.
        interpolation: "all" points of the precision envelope, or COCO's "101".

    Returns:
        `"map"`, a scalar in [0, 1] or NaN, and `"ap"`, `[c, t]`; float64, on the CPU.

    Example:
        >>> preds = torch.tensor([[[[10.0, 10.0], [50.0, 50.0]]]])
        >>> scores = torch.tensor([[[0.9, 0.8]]])
        >>> target = torch.tensor([[[[11.0, 10.0], [53.0, 54.0]]]])
        >>> keypoint_average_precision(preds, scores, target, torch.full((1, 1, 2), 2), [2, 5])["ap"].tolist()
        [[0.5, 1.0]]
    """
    check_shapes(preds, scores, target, visibility)
    rule = MatchingRule.create(preds.shape[1], thresholds, similarity, sigmas)
    _check_interpolation(interpolation)
    matches = match_keypoints(rule, preds, scores, target, visibility, scale=scale)
    return _with_mean(average_precision_of_matches(matches, interpolation))


class KeypointAveragePrecision(Metric):
    """Average precision of keypoints per channel and threshold, with any number of keypoints per channel.

    In each image and channel the detections take, in the order of their score, the nearest free target within the
    threshold; a detection that finds none is a false positive. Nearest is least distance in pixels, or highest
    `OKS = exp(-d^2 / (2 s^2 k^2))` with s^2 the area of the object and k = 2 sigma; a match has `d <= threshold` or
    `OKS >= threshold`. Precision over recall is drawn over all images, equal scores as one step; precision is
    replaced by its greatest value at the same or a higher recall, and AP is the area below. The order of images,
    detections and targets has no influence. A channel without targets is NaN and left out of the mean; a channel
    with targets and without detections is 0.

    Args:
        num_channels: c.
        thresholds: t numbers: distances in pixels, > 0, or similarities in (0, 1].
        similarity: `"distance"` or `"oks"`.
        sigmas: For "oks": the keypoint constant, one or c of them.
        interpolation: `"all"` points of the curve, or the mean at COCO's `"101"` recalls.

    Source: matching and envelope as in PASCAL VOC (Everingham et al., IJCV 2010) with the nearest free target in place
    of the best overlap; OKS as in COCO; the treatment of ties is ours.

    Example:
        >>> metric = KeypointAveragePrecision(num_channels=1, thresholds=[2, 5])
        >>> preds, scores = torch.tensor([[[[10.0, 10.0], [50.0, 50.0]]]]), torch.tensor([[[0.9, 0.8]]])
        >>> target, visibility = torch.tensor([[[[11.0, 10.0], [53.0, 54.0]]]]), torch.tensor([[[2, 2]]])
        >>> metric.update(preds, scores, target, visibility)
        >>> float(metric.compute()["map"])
        0.75
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    scores: list[Tensor]
    matched: list[Tensor]
    num_detections: list[Tensor]
    num_targets: list[Tensor]

    def __init__(
        self,
        num_channels: int,
        thresholds: Sequence[float],
        similarity: Similarity = "distance",
        *,
        sigmas: float | Sequence[float] = DEFAULT_SIGMA,
        interpolation: Interpolation = "all",
    ) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        _check_interpolation(interpolation)
        self.num_channels, self.interpolation = num_channels, interpolation
        self.rule = MatchingRule.create(num_channels, thresholds, similarity, sigmas)
        # A collection lets metrics with equal states share one: equal matches by chance must not join two rules.
        numbers = [float(similarity == "oks"), *self.rule.thresholds, *self.rule.sigmas]
        self.add_state("definition", torch.tensor(numbers, dtype=torch.float64), dist_reduce_fx="max")
        for name in Matches._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        scale: Tensor | None = None,
    ) -> None:
        """Match the detections of a batch.

        Args:
            preds: `[n, c, k, 2]` detections in original-image pixels, NaN padded; any floating type.
            scores: `[n, c, k]`, any range, not NaN where there is a detection.
            target: `[n, c, m, 2]` ground truth in the same pixels.
            visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
            scale: `[n, c, m]`, for "oks": area of the object of each target in square pixels.

        Raises:
            ValueError: Shapes that do not fit, a score that is NaN, or for "oks" an area that is missing or not > 0.
        """
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        matches = match_keypoints(self.rule, preds, scores, target, visibility, scale=scale)
        for name, part in matches._asdict().items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with nothing, in the right types."""
        channels, flags = self.num_channels, {"dtype": torch.int64, "device": self.device}
        nothing = Matches(
            torch.zeros(0, dtype=torch.float64, device=self.device),
            torch.zeros(0, len(self.rule.thresholds), dtype=torch.bool, device=self.device),
            torch.zeros(0, channels, **flags),
            torch.zeros(0, channels, **flags),
        )
        for name, empty in nothing._asdict().items():
            state = getattr(self, name)
            if isinstance(state, list) and not state:
                state.append(empty)
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor]:
        """Return `"map"`, a scalar, and `"ap"`, `[c, t]`; float64 in [0, 1] or NaN."""
        matches = Matches(*(dim_zero_cat(getattr(self, name)) for name in Matches._fields))
        return _with_mean(average_precision_of_matches(matches, self.interpolation).to(self.device))

    def _wrap_compute(self, compute: Callable) -> Callable:
        return keep_axes(super()._wrap_compute(compute), {"ap": 2})


def _with_mean(table: Tensor) -> dict[str, Tensor]:
    return {"map": table.nanmean(), "ap": table}


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in ("all", "101"):
        raise ValueError(f'expected interpolation "all" or "101", got {interpolation!r}')
