"""Losses between logits and signed targets, one value per channel; pure functions on logits.

A logit x stands for the value `m = tanh(x / 2) = 2 sigmoid(x) - 1`; the target t lies in [-1, 1]. Losses that
take their meaning from a background of probability 0, or from peaks that are all positive (Focal,
AdaptiveWing, KL), have no signed form.
"""

from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.models.losses import (
    Loss,
    binary_cross_entropy,
    channel_mean,
    check_shapes,
    foreground_weight,
    plain,
)
from keypoint_detection.registry import Registry

SIGNED_GRADIENT_SCALE = 0.5
"""What MSE is multiplied by: at m = 0, where every pixel starts, its gradient is that of cross-entropy."""

SIGNED_BETA = 0.2
"""Difference of map values where SmoothL1 turns from square to straight: 0.1 in terms of probabilities."""

SIGNED_LOSSES: Registry[Loss] = Registry("loss of --occlusion signed")


def signed_map(logits: Tensor) -> Tensor:
    """Return the value of a signed map, float32 `tanh(x / 2)` in [-1, 1], for logits x of any shape."""
    return (plain(logits) / 2.0).tanh()


@SIGNED_LOSSES.register("BCE")
def signed_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy of `p = sigmoid(logits)` with the probability `(t + 1) / 2`, `[c]`."""
    return binary_cross_entropy(logits, (target + 1.0) / 2.0, weight)


@SIGNED_LOSSES.register("MSE")
def signed_squared_error(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `0.5 (1 + 20 |t|) (m - t)^2` per channel `[c]`; see `foreground_weight`."""
    check_shapes(target, logits=logits, weight=weight)
    target = plain(target)
    values = F.mse_loss(signed_map(logits), target, reduction="none")
    return SIGNED_GRADIENT_SCALE * channel_mean(values * foreground_weight(target.abs()), weight)


@SIGNED_LOSSES.register("SmoothL1")
def signed_smooth_l1(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `0.5 (1 + 20 |t|) s(m - t)` per channel `[c]`; see `foreground_weight`.

    `s(d)` is `d^2 / 0.4` for `|d| < 0.2` and `|d| - 0.1` beyond: a wrong flag pulls less than with the MSE.
    """
    check_shapes(target, logits=logits, weight=weight)
    target = plain(target)
    values = F.smooth_l1_loss(signed_map(logits), target, reduction="none", beta=SIGNED_BETA)
    return SIGNED_GRADIENT_SCALE * channel_mean(values * foreground_weight(target.abs()), weight)
