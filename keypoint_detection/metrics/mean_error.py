"""Mean distance between keypoints and their detections, in pixels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import Partners, assign_partners
from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.error_sums import ErrorSums, mean_errors, sum_errors


def keypoint_mean_error(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    ignored: Tensor | None = None,
) -> dict[str, Tensor | int]:
    """Return the mean distance of targets to their detections; the definition is `KeypointMeanError`'s.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        ignored: `[n, c, m]` bool, targets whose pairs and misses do not count; a detection on them disturbs
            nobody.

    Returns:
        `"value"`, a scalar in pixels over everything, `"per_channel"`, `[c]` pixels, both float64 and NaN
        where there is nothing to average, and the integers `"missed"` and `"count"`, targets without and with
        a detection.

    Raises:
        ValueError: Shapes that do not fit, or a score that is NaN.

    Example:
        >>> preds = torch.tensor([[[[3.0, 4.0]]], [[[torch.nan, torch.nan]]]])
        >>> target = torch.tensor([[[[0.0, 0.0]]], [[[9.0, 9.0]]]])
        >>> error = keypoint_mean_error(preds, torch.ones(2, 1, 1), target, torch.full((2, 1, 1), 2))
        >>> float(error["value"]), error["count"], error["missed"]
        (5.0, 1, 1)
    """
    return _summary(_sums(assign_partners(preds, scores, target, visibility, ignored=ignored)))


class KeypointMeanError(Metric):
    """Mean distance between keypoints and their detections in pixels, over everything and per channel.

    The m targets of an image and channel get the m best-scoring detections as partners, by the least total
    distance (`assign_partners`). A target without a partner has no distance: it is counted in `"missed"`,
    which belongs beside the value. A channel without any pair is NaN.

    Args:
        num_channels: c.

    Source: ours; called end-point error or, wrongly, RMSE elsewhere.

    Example:
        >>> metric = KeypointMeanError(num_channels=1)
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> metric.update(preds, torch.tensor([[[0.9]]]), target, torch.tensor([[[2]]]))
        >>> metric.compute()["per_channel"].tolist()
        [5.0]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    # The names differ from those of KeypointRMSE: a collection lets metrics with equal states share one.
    distance_total: Tensor
    distance_count: Tensor
    distance_missed: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        self.num_channels = num_channels
        zeros = torch.zeros(num_channels, dtype=torch.int64)
        self.add_state("distance_total", torch.stack([zeros, zeros], dim=-1), dist_reduce_fx="sum")
        self.add_state("distance_count", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("distance_missed", zeros.clone(), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        *,
        ignored: Tensor | None = None,
    ) -> None:
        """Add a batch; for the arguments see `keypoint_mean_error`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        sums = _sums(assign_partners(preds, scores, target, visibility, ignored=ignored))
        self.distance_total = self.distance_total + sums.total
        self.distance_count = self.distance_count + sums.count
        self.distance_missed = self.distance_missed + sums.missed

    def compute(self) -> dict[str, Tensor | int]:
        """Return `"value"`, `"per_channel"`, `"missed"` and `"count"`, as `keypoint_mean_error` does."""
        return _summary(ErrorSums(self.distance_total, self.distance_count, self.distance_missed))

    def _wrap_compute(self, compute: Callable) -> Callable[[], dict[str, Any]]:
        return keep_axes(super()._wrap_compute(compute), {"per_channel": 1})


def _sums(partners: Partners) -> ErrorSums:
    return sum_errors(partners.distance, partners.missed)


def _summary(sums: ErrorSums) -> dict[str, Tensor | int]:
    value, per_channel = mean_errors(sums)
    missed, count = int(sums.missed.sum()), int(sums.count.sum())
    return {"value": value, "per_channel": per_channel, "missed": missed, "count": count}
