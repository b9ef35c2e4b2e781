"""Slow, obvious losses: one pixel at a time, in float64."""

import math

import numpy as np


def pixel_loss(name: str, logit: float, target: float) -> float:
    """Return the loss of one pixel."""
    chance = 1 / (1 + math.exp(-logit))
    if name == "BCE":
        return -target * math.log(chance) - (1 - target) * math.log(1 - chance)
    difference = abs(chance - target)
    if name == "MSE":
        value = difference**2
    else:
        value = difference**2 / 0.2 if difference < 0.1 else difference - 0.05
    return 28 * (1 + 20 * target) * value


def pixel_entropy(target: float) -> float:
    """Return the entropy of one pixel."""
    return -sum(share * math.log(share) for share in (target, 1 - target) if share > 0)


def channel_means(values: np.ndarray, weight: np.ndarray | None) -> list[float]:
    """Return the weighted mean of `[n, c, h, w]` for each channel."""
    weight = np.ones_like(values) if weight is None else weight
    means = []
    for channel in range(values.shape[1]):
        pairs = list(zip(values[:, channel].flat, weight[:, channel].flat, strict=True))
        total = math.fsum(scale for _, scale in pairs)
        means.append(math.fsum(value * scale for value, scale in pairs) / total if total else 0.0)
    return means
