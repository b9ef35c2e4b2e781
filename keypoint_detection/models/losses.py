"""Losses between heatmap logits and targets, one value per channel; pure functions on logits."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.registry import Registry

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
LOSSES: Registry[Loss] = Registry("loss")

SQUARED_SCALE = 20.0


def _channel_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return values.mean(dim=(0, 2, 3))
    return (values * weight).sum(dim=(0, 2, 3)) / weight.sum(dim=(0, 2, 3)).clamp(min=1e-6)


@LOSSES.register("BCE")
def bce(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the binary cross-entropy per channel."""
    return _channel_mean(
        F.binary_cross_entropy_with_logits(logits.float(), target.float(), reduction="none"), weight
    )


@LOSSES.register("MSE")
def mse(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the squared error of the probabilities per channel."""
    return SQUARED_SCALE * _channel_mean((logits.float().sigmoid() - target.float()) ** 2, weight)


@LOSSES.register("SmoothL1")
def smooth_l1(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the smooth L1 error of the probabilities per channel."""
    return SQUARED_SCALE * _channel_mean(
        F.smooth_l1_loss(logits.float().sigmoid(), target.float(), beta=0.1, reduction="none"), weight
    )


def entropy_floor(target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the least BCE per channel."""
    target = target.float()
    return _channel_mean(-(torch.xlogy(target, target) + torch.xlogy(1 - target, 1 - target)), weight)
