"""Slow, obvious losses: one pixel at a time, in float64."""

import math

import numpy as np


def pixel_loss(name: str, logit: float, target: float) -> float:
    """Return the loss of one pixel."""
    chance = 1 / (1 + math.exp(-logit))
    if name == "BCE":
        return -target * math.log(chance) - (1 - target) * math.log(1 - chance)
    difference = abs(chance - target)
    if name == "AdaptiveWing":
        return 2.88 * (1 + 20 * target) * adaptive_wing_value(difference, target)
    if name == "MSE":
        value = difference**2
    else:
        value = difference**2 / 0.2 if difference < 0.1 else difference - 0.05
    return 28 * (1 + 20 * target) * value


def adaptive_wing_value(difference: float, target: float) -> float:
    """Return the paper's equation, with its constants A and C written as there."""
    alpha, omega, epsilon, theta = 2.1, 14, 1, 0.5
    power = alpha - target
    if difference < theta:
        return omega * math.log(1 + (difference / epsilon) ** power)
    a = omega * (1 / (1 + (theta / epsilon) ** power)) * power * (theta / epsilon) ** (power - 1) / epsilon
    return a * difference - (theta * a - omega * math.log(1 + (theta / epsilon) ** power))


def channel_losses(
    name: str, logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None
) -> list[float]:
    """Return any loss of `[n, c, h, w]` for each channel."""
    if name == "KL":
        return _divergences(logits, target, weight)
    values = np.empty(logits.shape)
    for place in np.ndindex(logits.shape):
        if name == "Focal":
            is_peak = _is_peak(target, weight, place)
            values[place] = _focal_pixel(float(logits[place]), float(target[place]), is_peak)
        else:
            values[place] = pixel_loss(name, float(logits[place]), float(target[place]))
    return channel_means(values, weight)


def _is_peak(target: np.ndarray, weight: np.ndarray | None, place: tuple[int, ...]) -> bool:
    n, c, y, x = place
    seen = target[n, c] if weight is None else np.where(weight[n, c] > 0, target[n, c], 0)
    near = seen[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
    return bool(seen[y, x] >= 0.01 and seen[y, x] == near.max())


def _focal_pixel(logit: float, target: float, is_peak: bool) -> float:
    chance = 1 / (1 + math.exp(-logit))
    if is_peak:
        return -23 * (1 - chance) ** 2 * math.log(chance)
    return -23 * (1 - target) ** 4 * chance**2 * math.log(1 - chance)


def _divergences(logits: np.ndarray, target: np.ndarray, weight: np.ndarray | None) -> list[float]:
    """Return KL from maps that are normalised first, one channel of all images as one map."""
    weight = np.ones_like(target) if weight is None else weight
    losses = []
    for channel in range(target.shape[1]):
        scale = weight[:, channel].ravel()
        wanted = scale * target[:, channel].ravel()
        found = scale / (1 + np.exp(-logits[:, channel].ravel()))
        total, reached = float(wanted.sum()), float(found.sum())
        value = reached
        if total > 0:
            p, q = wanted / total, found / reached
            shape = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)
            value = total * shape + total * math.log(total / reached) - total + reached
        losses.append(value / float(scale.sum()) if scale.sum() else 0.0)
    return losses


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
