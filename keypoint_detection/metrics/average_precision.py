"""Average precision of keypoints per channel and threshold, by pixel distance or by keypoint similarity."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.matching import (
    check_shapes,
    match_detections,
    present_detections,
    present_targets,
)
from keypoint_detection.metrics.matching_rule import (
    DEFAULT_SIGMA,
    MatchingRule,
    Similarity,
    similarity_of_thresholds,
)
from keypoint_detection.metrics.precision_recall import (
    Interpolation,
    Matches,
    average_precision_of_matches,
)

__all__ = ["KeypointAveragePrecision", "keypoint_average_precision", "similarity_of_thresholds"]


@torch.no_grad()
def match_keypoints(
    rule: MatchingRule,
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    scale: Tensor | None = None,
) -> Matches:
    """Find the true positives of a batch, in float64 on its device; see `KeypointAveragePrecision.update`."""
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
    """Return the average precision of keypoints, pooled over images; see `KeypointAveragePrecision`.

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

    In each image and channel the detections take, in the order of their score, the nearest free target within
    the threshold; a detection that finds none is a false positive. Nearest is least distance in pixels, or
    highest `OKS = exp(-d^2 / (2 s^2 k^2))` with s^2 the area of the object and k = 2 sigma; a match has `d <=
    threshold` or `OKS >= threshold`. Precision over recall is drawn over all images, equal scores as one
    step; precision is replaced by its greatest value at the same or a higher recall, and AP is the area
    below. The order of images, detections and targets has no influence. A channel without targets is NaN and
    left out of the mean; a channel with targets and without detections is 0.

    Args:
        num_channels: c.
        thresholds: t numbers: distances in pixels, > 0, or similarities in (0, 1].
        similarity: `"distance"` or `"oks"`.
        sigmas: For "oks": the keypoint constant, one or c of them.
        interpolation: `"all"` points of the curve, or the mean at COCO's `"101"` recalls.

    Source: matching and envelope as in PASCAL VOC (Everingham et al., IJCV 2010) with the nearest free target
    in place of the best overlap; OKS as in COCO; the treatment of ties is ours.

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
        self.num_channels = num_channels
        self.interpolation: Interpolation = interpolation
        self.rule = MatchingRule.create(num_channels, thresholds, similarity, sigmas)
        # A collection lets metrics with equal states share one: matches equal by chance must not join two.
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
            ValueError: Shapes that do not fit, a score that is NaN, or for "oks" an area that is missing or
                not > 0.
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
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
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
