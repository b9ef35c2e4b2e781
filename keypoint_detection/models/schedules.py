"""Learning-rate factors as pure functions of the share of the run that is over."""

import math
from typing import Protocol

from keypoint_detection.registry import Registry


class Decay(Protocol):
    """Give the factor after the warm-up; `progress` runs from 0 to 1 there."""

    def __call__(self, progress: float, floor: float = 0.0) -> float:
        """Return the factor in [0, 1]."""
        ...


DECAYS: Registry[Decay] = Registry("decay_type")

WARMUP_START = 0.01


@DECAYS.register("cosine")
def cosine(progress: float, floor: float = 0.0) -> float:
    """Fall from 1 to `floor` along half a cosine: slowly, quickly, slowly; 0.5 (1 + floor) half-way."""
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


@DECAYS.register("linear")
def linear(progress: float, floor: float = 0.0) -> float:
    """Fall from 1 to `floor` along a straight line."""
    return floor + (1.0 - floor) * (1.0 - progress)


@DECAYS.register("constant")
def constant(progress: float, floor: float = 0.0) -> float:
    """Stay at 1, whatever the progress and the floor."""
    return 1.0


def warmup_ramp(progress: float, share: float) -> float:
    """Rise along a straight line, from 0.01 at the start (so that the first step learns too) to 1 at `share`.

    Args:
        progress: Share of the run that is over, in [0, 1].
        share: Share of the run in which the factor rises, in [0, 1]; 0 means no warm-up.
    """
    if progress >= share:
        return 1.0
    return WARMUP_START + (1.0 - WARMUP_START) * progress / share


def lr_factor(progress: float, decay_type: str = "cosine", warmup: float = 0.05, floor: float = 0.0) -> float:
    """Return what the peak learning rate is multiplied by: a warm-up, then a decay over the rest of the run.

    Args:
        progress: Share of the run that is over; what lies outside [0, 1] counts as the nearer end, since a
            run that ends by the clock overshoots a little.
        decay_type: `cosine`, `linear` or `constant`.
        warmup: Share of the run that warms up, in [0, 1].
        floor: Factor at the end of the run, in [0, 1]; `constant` does not fall.

    Returns:
        The factor, in [0, 1].

    Raises:
        ValueError: If the decay type is unknown, or a share is outside [0, 1].
    """
    decay = DECAYS[decay_type]
    for name, value in {"warmup": warmup, "floor": floor}.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} needs to be a share in [0, 1], got {value}.")
    progress = min(max(progress, 0.0), 1.0)
    if progress < warmup:
        return warmup_ramp(progress, warmup)
    return decay((progress - warmup) / (1.0 - warmup), floor) if warmup < 1.0 else 1.0
