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

FOCAL_SCALE = 23.0
"""What the focal loss is multiplied by: a peak then starts with the pull that it has in cross-entropy.

There, all pixels of a Gaussian pull, `2 pi sigma^2 = 25` of them together for a sigma of 2; here only the
peak pixel does, 1.09 times as hard as one pixel there.
"""

LEAST_PEAK = 0.01
"""Value of a target from which on a local maximum is a peak; below, it is the rounding of a far flank."""

ADAPTIVE_WING_SCALE = 2.88
"""Likewise for the adaptive wing loss: its gradient on the background is then that of cross-entropy."""

ADAPTIVE_WING_ALPHA, ADAPTIVE_WING_OMEGA = 2.1, 14.0
ADAPTIVE_WING_EPSILON, ADAPTIVE_WING_THETA = 1.0, 0.5

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
    check_shapes(target, logits=logits, weight=weight)
    values = F.binary_cross_entropy_with_logits(plain(logits), plain(target), reduction="none")
    return channel_mean(values, weight)


@LOSSES.register("MSE")
def squared_error(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `28 (1 + 20 t) (p - t)^2`, `p = sigmoid(logits)`, per channel `[c]`; see `foreground_weight`."""
    check_shapes(target, logits=logits, weight=weight)
    target = plain(target)
    values = F.mse_loss(plain(logits).sigmoid(), target, reduction="none")
    return GRADIENT_SCALE * channel_mean(values * foreground_weight(target), weight)


@LOSSES.register("SmoothL1")
def smooth_l1(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `28 (1 + 20 t) s(p - t)` with `p = sigmoid(logits)`, per channel `[c]`; see `foreground_weight`.

    `s(d)` is `d^2 / 0.2` for `|d| < 0.1` and `|d| - 0.05` beyond: a wrong label pulls less than with the MSE.
    """
    check_shapes(target, logits=logits, weight=weight)
    target = plain(target)
    values = F.smooth_l1_loss(plain(logits).sigmoid(), target, reduction="none", beta=SMOOTH_L1_BETA)
    return GRADIENT_SCALE * channel_mean(values * foreground_weight(target), weight)


@LOSSES.register("Focal")
def focal(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the penalty-reduced focal loss of CenterNet, per channel `[c]`; its best answer is a 1 per peak.

    With the paper's alpha of 2 and beta of 4: `-23 (1 - p)^2 log p` at the peak pixels, see `peak_pixels`,
    and `-23 (1 - t)^4 p^2 log(1 - p)` elsewhere. It asks for a high pixel, not for the shape around it that a
    position between pixels is read from. The sum is divided by the number of pixels, as in every loss here,
    and not by the number of peaks.

    Source: Zhou et al., Objects as Points, 2019 (arXiv 1904.07850, equation 1).
    """
    check_shapes(target, logits=logits, weight=weight)
    logits, target = plain(logits), plain(target)
    is_peak = peak_pixels(target, weight)
    # Both terms are the same function: of the logit at a peak, and of its negative elsewhere.
    wrong = torch.where(is_peak, -logits, logits)
    values = wrong.sigmoid().square() * F.softplus(wrong)
    beside = torch.where(is_peak, 1.0, (1.0 - target).square().square())
    return FOCAL_SCALE * channel_mean(beside * values, weight)


@LOSSES.register("AdaptiveWing")
def adaptive_wing(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `2.88 (1 + 20 t) a(p - t)`, `p = sigmoid(logits)`, per channel `[c]`; see `foreground_weight`.

    `a(d) = 14 ln(1 + |d|^(2.1 - t))` for `|d| < 0.5`, and its tangent there beyond: small errors count at
    peaks, where it has a kink at 0, and not on the background. The paper's weights, 11 within a pixel of
    `t >= 0.2` and 1 elsewhere, are replaced by those of the other losses.

    Source: Wang et al., Adaptive Wing Loss for Robust Face Alignment via Heatmap Regression, ICCV 2019
    (arXiv 1904.07399, equation 3).
    """
    check_shapes(target, logits=logits, weight=weight)
    target = plain(target)
    size = (plain(logits).sigmoid() - target).abs()
    power = ADAPTIVE_WING_ALPHA - target
    edge = torch.pow(ADAPTIVE_WING_THETA / ADAPTIVE_WING_EPSILON, power)
    near = torch.log1p((size / ADAPTIVE_WING_EPSILON) ** power)
    slope = power * edge / (ADAPTIVE_WING_THETA * (1.0 + edge))
    far = torch.log1p(edge) + slope * (size - ADAPTIVE_WING_THETA)
    values = ADAPTIVE_WING_OMEGA * torch.where(size < ADAPTIVE_WING_THETA, near, far)
    return ADAPTIVE_WING_SCALE * channel_mean(values * foreground_weight(target), weight)


@LOSSES.register("KL")
def kl_divergence(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the Kullback-Leibler divergence of normalised maps and of their levels, per channel `[c]`.

    Let a target `t` sum to T and the prediction `p = sigmoid(logits)` to P over a map. The divergence of the
    shapes, `KL(t / T || p / P)`, does not know how high the map is, but a score is that height. So the
    divergence of the sums is added: `T KL(t / T || p / P) + T log(T / P) - T + P`, which is the sum over
    pixels of `t log(t / p) - t + p`. It is 0 only where p = t; a map with two keypoints counts for two, and
    one without any is P, so that false peaks cost. Its gradient starts as that of cross-entropy.

    Source: Csiszar, Why least squares and maximum entropy?, Annals of Statistics 19, 1991 (I-divergence).
    """
    check_shapes(target, logits=logits, weight=weight)
    logits, target = plain(logits), plain(target)
    values = torch.xlogy(target, target) - target * F.logsigmoid(logits) - target + logits.sigmoid()
    return channel_mean(values, weight)


def peak_pixels(target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the pixel nearest to each keypoint, from the targets alone.

    A Gaussian with a real-valued centre is 1 only if that falls on a pixel: the pixel nearest to it may have
    0.94 for a sigma of 2 and 0.78 for a sigma of 1. So a pixel is taken that none of its 8 neighbours
    exceeds. Half-way between pixels, two or four are equally near and all of them are taken. (Source: ours.)

    Args:
        target: `[n, c, h, w]`, Gaussians in [0, 1].
        weight: `[n, c, h, w]` or None; a pixel with a weight of 0 is nobody's neighbour.

    Returns:
        `[n, c, h, w]`, bool.
    """
    seen = target.detach() if weight is None else target.detach().masked_fill(weight <= 0, 0.0)
    around = F.pad(seen, (1, 1, 1, 1))  # a maximum of slices is several times faster than pooling on a CPU
    around = torch.maximum(torch.maximum(around[..., :-2, :], around[..., 1:-1, :]), around[..., 2:, :])
    around = torch.maximum(torch.maximum(around[..., :-2], around[..., 1:-1]), around[..., 2:])
    return (seen >= LEAST_PEAK) & (seen == around)


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
    check_shapes(target, weight=weight)
    target = plain(target).detach()
    uncertain = (target > 0.0) & (target < 1.0)  # few pixels; everywhere else the entropy is 0
    chance = target[uncertain]
    values = torch.zeros_like(target)
    # log1p is exact for the faint tails of a peak, where 1 - t rounds to 1.
    values[uncertain] = -chance * chance.log() - (1.0 - chance) * torch.log1p(-chance)
    return channel_mean(values, weight)


def plain(values: Tensor) -> Tensor:
    """Return float32 values in plain memory order: mixing in channels-last logits is slower."""
    return values.float().contiguous()


def channel_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean of `[n, c, h, w]` over images and pixels, by weight, `[c]`; 0 without any weight."""
    axes = (0, 2, 3)
    if weight is None:
        return values.mean(dim=axes)
    scale = plain(weight)
    return (scale * values).sum(dim=axes) / scale.sum(dim=axes).clamp(min=SMALLEST_WEIGHT)


def check_shapes(target: Tensor, **others: Tensor | None) -> None:
    """Check that all have the target's shape: broadcasting would hide a mistake."""
    for name, values in others.items():
        if values is not None and values.shape != target.shape:
            raise ValueError(
                f"{name} and target need the same shape [n, c, h, w], got {list(values.shape)} and "
                f"{list(target.shape)}; make the target at the stride of the model."
            )
