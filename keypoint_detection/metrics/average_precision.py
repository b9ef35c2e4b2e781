"""Average precision of keypoints per channel and threshold, by pixel distance or by keypoint similarity."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.keypoint_matching import match_keypoints
from keypoint_detection.metrics.matching import check_shapes
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


def keypoint_average_precision(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    thresholds: Sequence[float],
    *,
    similarity: Similarity = "distance",
    scale: Tensor | None = None,
    sigmas: float | Sequence[float] | Tensor = DEFAULT_SIGMA,
    interpolation: Interpolation = "all",
    ignored: Tensor | None = None,
    regions: Tensor | None = None,
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
        sigmas: For "oks": the keypoint constant, one or c of them, or a tensor `[n, c, m]`, one a target.
        interpolation: "all" points of the precision envelope, or COCO's "101".
        ignored: `[n, c, m]` bool, targets that are neither to be found nor false.
        regions: `[n, r, 4]` boxes (x, y, width, height) in pixels of crowds, NaN padded.

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
    of_channel, of_target = (DEFAULT_SIGMA, sigmas) if isinstance(sigmas, Tensor) else (sigmas, None)
    rule = MatchingRule.create(preds.shape[1], thresholds, similarity, of_channel)
    _check_interpolation(interpolation)
    points = (preds, scores, target, visibility)
    matches = match_keypoints(rule, *points, scale=scale, ignored=ignored, regions=regions, sigmas=of_target)
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

    What is to be ignored comes second: of the detections that found no target at a threshold those inside a
    region are left out, neither true nor false, and the others take in the same way the nearest free ignored
    target within the threshold, one each, and are left out too.

    Args:
        num_channels: c.
        thresholds: t numbers: distances in pixels, > 0, or similarities in (0, 1].
        similarity: `"distance"` or `"oks"`.
        sigmas: For "oks": the keypoint constant, one or c of them.
        interpolation: `"all"` points of the curve, or the mean at COCO's `"101"` recalls.

    Source: matching and envelope as in PASCAL VOC (Everingham et al., IJCV 2010) with the nearest free target
    in place of the best overlap; OKS and what is ignored as in COCO; the treatment of ties is ours.

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
    ignored: list[Tensor]
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
        *,
        ignored: Tensor | None = None,
        regions: Tensor | None = None,
        sigmas: Tensor | None = None,
    ) -> None:
        """Match the detections of a batch.

        Args:
            preds: `[n, c, k, 2]` detections in original-image pixels, NaN padded; any floating type.
            scores: `[n, c, k]`, any range, not NaN where there is a detection.
            target: `[n, c, m, 2]` ground truth in the same pixels.
            visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
            scale: `[n, c, m]`, for "oks": area of the object of each target in square pixels.
            ignored: `[n, c, m]` bool, targets that are neither to be found nor false.
            regions: `[n, r, 4]` COCO boxes (x, y, width, height) of crowds in the same pixels, NaN padded. A
                point from x - 0.5 to x + width - 0.5 is inside, since boxes count from the image's corner.
            sigmas: `[n, c, m]`, for "oks": keypoint constant of each target, in place of the constructor's.

        Raises:
            ValueError: Shapes that do not fit, a score that is NaN, or for "oks" an area or a keypoint
                constant that is missing or not > 0.
        """
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        extra = {"scale": scale, "ignored": ignored, "regions": regions, "sigmas": sigmas}
        matches = match_keypoints(self.rule, preds, scores, target, visibility, **extra)
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
        nothing = Matches.without_images(self.num_channels, len(self.rule.thresholds))
        fill_empty_states(self, nothing._asdict())
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor]:
        """Return `"map"`, a scalar, and `"ap"`, `[c, t]`; float64 in [0, 1] or NaN."""
        return _with_mean(average_precision_of_matches(self.matches(), self.interpolation).to(self.device))

    def matches(self) -> Matches:
        """Return everything matched so far, on the CPU; of this process alone unless the state is synced."""
        if isinstance(self.scores, list) and not self.scores:
            return Matches.without_images(self.num_channels, len(self.rule.thresholds))
        return Matches(*(dim_zero_cat(getattr(self, name)).cpu() for name in Matches._fields))

    def _wrap_compute(self, compute: Callable) -> Callable:
        return keep_axes(super()._wrap_compute(compute), {"ap": 2})


def _with_mean(table: Tensor) -> dict[str, Tensor]:
    return {"map": table.nanmean(), "ap": table}


def _check_interpolation(interpolation: str) -> None:
    if interpolation not in ("all", "101"):
        raise ValueError(f'expected interpolation "all" or "101", got {interpolation!r}')
