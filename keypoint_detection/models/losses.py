"""Losses between heatmap logits and targets, one value per channel; pure functions on logits."""

from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.registry import Registry

GRADIENT_SCALE = 28.0
"""What MSE and SmoothL1 are multiplied by: `1 / (2 p (1 - p))` at p = 0.018, which every pixel starts with.

There the squared error then has the gradient of cross-entropy with respect to the logit. By itself it is 28
times smaller, and far smaller still once p has fallen, so that learning rates and Adam's epsilon would mean
something else.
"""

FOREGROUND_GAIN = 20.0
"""How much more a pixel under a peak counts in MSE and SmoothL1 than the background."""

SMOOTH_L1_BETA = 0.1
"""Difference of probabilities where SmoothL1 turns from square to straight; at 1 it would be half the MSE."""

SMALLEST_WEIGHT = 1e-6


class Loss(Protocol):
    """Compare logits with targets."""

    def __call__(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute one value per channel.

        Args:
            logits: `[n, c, h, w]`, any float type; computed in float32.
            target: `[n, c, h, w]`, probabilities in [0, 1].
            weight: `[n, c, h, w]`, >= 0, 0 leaves a pixel out; None counts all pixels alike.

        Returns:
            `[c]`, float32: the mean over images and pixels, by weight; 0 where all weights are 0.

        Raises:
            ValueError: If logits, target and weight differ in shape.
        """
        ...


LOSSES: Registry[Loss] = Registry("loss")


@LOSSES.register("BCE")
def binary_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the cross-entropy `-t log p - (1 - t) log(1 - p)`, `p = sigmoid(logits)`, per channel `[c]`."""
    _check_shapes(target, logits=logits, weight=weight)
    values = F.binary_cross_entropy_with_logits(_plain(logits), _plain(target), reduction="none")
    return _channel_mean(values, weight)


@LOSSES.register("MSE")
def squared_error(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `28 (1 + 20 t) (p - t)^2`, `p = sigmoid(logits)`, per channel `[c]`; see `foreground_weight`."""
    _check_shapes(target, logits=logits, weight=weight)
    target = _plain(target)
    values = F.mse_loss(_plain(logits).sigmoid(), target, reduction="none")
    return GRADIENT_SCALE * _channel_mean(values * foreground_weight(target), weight)


@LOSSES.register("SmoothL1")
def smooth_l1(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `28 (1 + 20 t) s(p - t)` with `p = sigmoid(logits)`, per channel `[c]`; see `foreground_weight`.

    `s(d)` is `d^2 / 0.2` for `|d| < 0.1` and `|d| - 0.05` beyond: a wrong label pulls less than with the MSE.
    """
    _check_shapes(target, logits=logits, weight=weight)
    target = _plain(target)
    values = F.smooth_l1_loss(_plain(logits).sigmoid(), target, reduction="none", beta=SMOOTH_L1_BETA)
    return GRADIENT_SCALE * _channel_mean(values * foreground_weight(target), weight)


def foreground_weight(target: Tensor, gain: float = FOREGROUND_GAIN) -> Tensor:
    """Return `1 + gain * target`, the weight of each pixel in MSE and SmoothL1.

    A map is nearly all background. The quickest way down from the start is to push every pixel towards 0,
    where the gradient of these losses through the sigmoid vanishes and little is left to learn from. The gain
    lets the few pixels under peaks hold against that; the best answer to a certain target is still the
    target. (Source: ours.)

    Args:
        target: `[n, c, h, w]`, probabilities in [0, 1].
        gain: Weight of a peak's centre above that of the background, >= 0.

    Returns:
        `[n, c, h, w]`, >= 1.
    """
    return 1.0 + gain * target


def entropy_floor(target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the least cross-entropy that any prediction can reach: the entropy of the target itself.

    Args:
        target: `[n, c, h, w]`, probabilities in [0, 1].
        weight: `[n, c, h, w]`, >= 0, as given to the loss; None counts all pixels alike.

    Returns:
        `[c]`, float32, the mean over images and pixels of `-t log t - (1 - t) log(1 - t)`, by weight.

    Raises:
        ValueError: If target and weight differ in shape.
    """
    _check_shapes(target, weight=weight)
    target = _plain(target).detach()
    uncertain = (target > 0.0) & (target < 1.0)  # few pixels; everywhere else the entropy is 0
    chance = target[uncertain]
    values = torch.zeros_like(target)
    # log1p is exact for the faint tails of a peak, where 1 - t rounds to 1.
    values[uncertain] = -chance * chance.log() - (1.0 - chance) * torch.log1p(-chance)
    return _channel_mean(values, weight)


def _plain(values: Tensor) -> Tensor:
    """Return float32 values in plain memory order: mixing in channels-last logits is slower."""
    return values.float().contiguous()


def _channel_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    axes = (0, 2, 3)
    if weight is None:
        return values.mean(dim=axes)
    scale = _plain(weight)
    return (scale * values).sum(dim=axes) / scale.sum(dim=axes).clamp(min=SMALLEST_WEIGHT)


def _check_shapes(target: Tensor, **others: Tensor | None) -> None:
    """Check that all have the target's shape: broadcasting would hide a mistake."""
    for name, values in others.items():
        if values is not None and values.shape != target.shape:
            raise ValueError(
                f"{name} and target need the same shape [n, c, h, w], got {list(values.shape)} and "
                f"{list(target.shape)}; make the target at the stride of the model."
            )
