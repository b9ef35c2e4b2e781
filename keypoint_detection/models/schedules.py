"""Learning-rate factors as pure functions of the share of the run that is over."""

import math


def lr_factor(progress: float, decay_type: str = "cosine", warmup: float = 0.05, floor: float = 0.0) -> float:
    """Return the factor."""
    if progress < warmup:
        return max(progress / warmup, 1e-3)
    rest = (progress - warmup) / max(1 - warmup, 1e-9)
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * rest)), "linear": 1 - rest, "constant": 1.0}[decay_type]
    return floor + (1 - floor) * shape
