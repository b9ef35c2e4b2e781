"""Mean distance between keypoints and their detections in units of a length, such as the side of a box."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import assign_partners
from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.error_sums import ErrorSums, mean_errors, sum_errors
from keypoint_detection.metrics.keypoint_errors import relative_errors, target_lengths


class _Sums(NamedTuple):
    errors: ErrorSums
    undefined: Tensor


def normalized_mean_error(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    scale: Tensor,
    *,
    ignored: Tensor | None = None,
) -> dict[str, Tensor | int]:
    """Return the mean of distance / length over targets with a detection; see `NormalizedMeanError`.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        scale: Length in pixels, `[n]` or `[n, c, m]`; one that is not finite and > 0 is undefined.
        ignored: `[n, c, m]` bool, targets whose pairs and misses do not count; a detection on them disturbs
            nobody.

    Returns:
        `"value"`, a scalar over everything, `"per_channel"`, `[c]`, both float64 and NaN where there is
        nothing to average, and the integers `"count"` and `"missed"`, targets with a length that have and
        have not a detection, and `"undefined"`, targets without a length.

    Raises:
        ValueError: Shapes that do not fit, a score that is NaN, or a distance of 2^40 lengths or more.

    Example:
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> scores, visibility = torch.ones(1, 1, 1), torch.tensor([[[2]]])
        >>> float(normalized_mean_error(preds, scores, target, visibility, torch.tensor([20.0]))["value"])
        0.25
    """
    return _summary(_sums(preds, scores, target, visibility, scale, ignored=ignored))


class NormalizedMeanError(Metric):
    """Mean of distance / length between keypoints and their detections, over everything and per channel.

    The m targets of an image and channel get the m best-scoring detections as partners, by the least total
    distance in pixels (`assign_partners`). A target with a length and without a partner is counted in
    `"missed"`, one without a length in `"undefined"`; neither is part of the value. A channel without any
    pair is NaN.

    Args:
        num_channels: c.

    Source: ours; with the distance between the eyes as the length it is the NME of face alignment.

    Example:
        >>> metric = NormalizedMeanError(num_channels=1)
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> metric.update(preds, torch.tensor([[[0.9]]]), target, torch.tensor([[[2]]]), torch.tensor([20.0]))
        >>> metric.compute()["per_channel"].tolist()
        [0.25]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    # The names differ from those of the other errors: a collection lets metrics with equal states share one.
    ratio_total: Tensor
    ratio_count: Tensor
    ratio_missed: Tensor
    ratio_undefined: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        self.num_channels = num_channels
        zeros = torch.zeros(num_channels, dtype=torch.int64)
        self.add_state("ratio_total", torch.stack([zeros, zeros], dim=-1), dist_reduce_fx="sum")
        self.add_state("ratio_count", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("ratio_missed", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("ratio_undefined", zeros.clone(), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        scale: Tensor,
        *,
        ignored: Tensor | None = None,
    ) -> None:
        """Add a batch; for the arguments see `normalized_mean_error`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        sums, undefined = _sums(preds, scores, target, visibility, scale, ignored=ignored)
        self.ratio_total = self.ratio_total + sums.total
        self.ratio_count = self.ratio_count + sums.count
        self.ratio_missed = self.ratio_missed + sums.missed
        self.ratio_undefined = self.ratio_undefined + undefined

    def compute(self) -> dict[str, Tensor | int]:
        """Return what `normalized_mean_error` does, over all batches."""
        errors = ErrorSums(self.ratio_total, self.ratio_count, self.ratio_missed)
        return _summary(_Sums(errors, self.ratio_undefined))

    def _wrap_compute(self, compute: Callable) -> Callable[[], dict[str, Any]]:
        return keep_axes(super()._wrap_compute(compute), {"per_channel": 1})


@torch.no_grad()
def _sums(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    scale: Tensor,
    *,
    ignored: Tensor | None,
) -> _Sums:
    length = target_lengths(scale, visibility)
    partners = assign_partners(preds, scores, target, visibility, ignored=ignored, length=length)
    measured = ~length.isnan()
    errors = sum_errors(relative_errors(partners.distance, length), partners.missed & measured)
    return _Sums(errors, (partners.counted & ~measured).sum((0, 2)))


def _summary(sums: _Sums) -> dict[str, Tensor | int]:
    value, per_channel = mean_errors(sums.errors)
    return {
        "value": value,
        "per_channel": per_channel,
        "missed": int(sums.errors.missed.sum()),
        "count": int(sums.errors.count.sum()),
        "undefined": int(sums.undefined.sum()),
    }
