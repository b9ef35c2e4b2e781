"""Root of the mean squared distance between keypoints and their detections, in pixels."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import Partners, assign_partners
from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.error_sums import (
    ErrorSums,
    fixed_point,
    floating_point,
    mean_errors,
    sum_errors,
)


def keypoint_rmse(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    ignored: Tensor | None = None,
) -> dict[str, Tensor | int]:
    """Return the root of the mean squared distance of targets to their detections; see `KeypointRMSE`.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        ignored: `[n, c, m]` bool, targets whose pairs and misses do not count; a detection on them disturbs
            nobody.

    Returns:
        `"value"`, a scalar in pixels over everything, `"image_value"`, the mean of the images' own values,
        `"per_channel"`, `[c]` pixels, all float64 and NaN where there is nothing to average, and the integers
        `"missed"` and `"count"`, targets without and with a detection.

    Raises:
        ValueError: Shapes that do not fit, or a score that is NaN.

    Example:
        >>> preds = torch.tensor([[[[3.0, 4.0]]], [[[1.0, 0.0]]]])
        >>> target, visibility = torch.zeros(2, 1, 1, 2), torch.full((2, 1, 1), 2)
        >>> error = keypoint_rmse(preds, torch.ones(2, 1, 1), target, visibility)
        >>> round(float(error["value"]) ** 2, 9)
        13.0
        >>> float(error["image_value"])
        3.0
    """
    points, images = _sums(assign_partners(preds, scores, target, visibility, ignored=ignored))
    return _summary(points, images)


class KeypointRMSE(Metric):
    """Root of the mean squared distance between keypoints and their detections, pooled and per image.

    `sqrt(mean(dx^2 + dy^2))` over points, not over coordinates (which is smaller by sqrt(2)). `"value"` and
    `"per_channel"` take all images at once; `"image_value"` takes the root within each image, over its points
    of all channels, and then the mean over the images that have any pair. The m targets of an image and
    channel get the m best-scoring detections as partners, by the least total distance (`assign_partners`),
    the same as for `KeypointMeanError`. A target without a partner has no distance: it is counted in
    `"missed"`, which belongs beside the value. A channel without any pair is NaN.

    Args:
        num_channels: c.

    Source: ours.

    Example:
        >>> metric = KeypointRMSE(num_channels=1)
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> metric.update(preds, torch.tensor([[[0.9]]]), target, torch.tensor([[[2]]]))
        >>> metric.compute()["per_channel"].tolist()
        [5.0]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    # The names differ from those of KeypointMeanError: a collection lets metrics with equal states share one.
    square_total: Tensor
    square_count: Tensor
    square_missed: Tensor
    image_total: Tensor
    image_count: Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        self.num_channels = num_channels
        zeros = torch.zeros(num_channels, dtype=torch.int64)
        self.add_state("square_total", torch.stack([zeros, zeros], dim=-1), dist_reduce_fx="sum")
        self.add_state("square_count", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("square_missed", zeros.clone(), dist_reduce_fx="sum")
        self.add_state("image_total", torch.zeros(1, 2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("image_count", torch.zeros(1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        *,
        ignored: Tensor | None = None,
    ) -> None:
        """Add a batch; for the arguments see `keypoint_rmse`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        points, images = _sums(assign_partners(preds, scores, target, visibility, ignored=ignored))
        self.square_total = self.square_total + points.total
        self.square_count = self.square_count + points.count
        self.square_missed = self.square_missed + points.missed
        self.image_total = self.image_total + images.total
        self.image_count = self.image_count + images.count

    def compute(self) -> dict[str, Tensor | int]:
        """Return `"value"`, `"image_value"`, `"per_channel"`, `"missed"`, `"count"`, as `keypoint_rmse`."""
        points = ErrorSums(self.square_total, self.square_count, self.square_missed)
        return _summary(
            points, ErrorSums(self.image_total, self.image_count, torch.zeros_like(self.image_count))
        )

    def _wrap_compute(self, compute: Callable) -> Callable[[], dict[str, Any]]:
        return keep_axes(super()._wrap_compute(compute), {"per_channel": 1})


def _sums(partners: Partners) -> tuple[ErrorSums, ErrorSums]:
    """Return the sums of the squared distances, and of the root mean squares of the images as one channel."""
    squared = partners.distance.square()
    pairs = (~squared.isnan()).sum((1, 2))
    # Fixed-point as well, so that the order of channels and targets changes no bit; NaN without pairs.
    root = (floating_point(fixed_point(squared).sum((1, 2))) / pairs).sqrt()[:, None, None]
    return sum_errors(squared, partners.missed), sum_errors(root, torch.zeros_like(root, dtype=torch.bool))


def _summary(points: ErrorSums, images: ErrorSums) -> dict[str, Tensor | int]:
    value, per_channel = mean_errors(points)
    return {
        "value": value.sqrt(),
        "image_value": mean_errors(images)[0],
        "per_channel": per_channel.sqrt(),
        "missed": int(points.missed.sum()),
        "count": int(points.count.sum()),
    }
