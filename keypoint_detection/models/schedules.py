"""Learning-rate factors as pure functions of the share of the run that is over."""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

from keypoint_detection.registry import Registry


class Decay(Protocol):
    """Give the factor after the warm-up; `progress` runs from 0 to 1 there."""

    def __call__(self, progress: float, floor: float = 0.0) -> float:
        """Return the factor in [0, 1]."""
        ...


DECAYS: Registry[Decay] = Registry("decay_type")

WARMUP_START = 0.01

DEFAULT_WARMUP = {"onecycle": 0.3}
"""Share of the run that warms up when nothing is said, where it is not `OTHER_WARMUP`."""

OTHER_WARMUP = 0.05

ONE_CYCLE_START = 0.04
"""Factor that one cycle starts from, 1 / 25."""

ONE_CYCLE_MOMENTUM = (0.95, 0.85)
"""First beta of AdamW at the ends of one cycle and at its top."""


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


@DECAYS.register("plateau")
def plateau(progress: float, floor: float = 0.0) -> float:
    """Stay at 1: what reduces it is not the progress but validations without a gain, see `Plateau`."""
    return 1.0


@DECAYS.register("onecycle")
def one_cycle(progress: float, floor: float = 0.0) -> float:
    """Fall as `cosine`; the rise before it and the momentum are what differs, see `one_cycle_rise`.

    Source: Smith and Topin, Super-Convergence, 2018 (arXiv 1708.07120), with cosines as in fastai.
    """
    return cosine(progress, floor)


def warmup_ramp(progress: float, share: float) -> float:
    """Rise along a straight line, from 0.01 at the start (so that the first step learns too) to 1 at `share`.

    Args:
        progress: Share of the run that is over, in [0, 1], or the number of steps.
        share: Share of the run in which the factor rises, in [0, 1], or steps; 0 means no warm-up.
    """
    if progress >= share:
        return 1.0
    return WARMUP_START + (1.0 - WARMUP_START) * progress / share


def one_cycle_rise(progress: float, share: float) -> float:
    """Rise from 0.04 to 1 at `share` along half a cosine; the arguments are those of `warmup_ramp`."""
    if progress >= share:
        return 1.0
    return ONE_CYCLE_START + (1.0 - ONE_CYCLE_START) * (1.0 - cosine(progress / share))


RISES: dict[str, Callable[[float, float], float]] = {"onecycle": one_cycle_rise}


class Phase(NamedTuple):
    """Hold where a run is.

    Attributes:
        rises: Whether it warms up.
        position: Share of the warm-up, or of the rest of the run, that is over, in [0, 1].
    """

    rises: bool
    position: float


def phase(progress: float, warmup: float, step: int = 0, warmup_steps: int | None = None) -> Phase:
    """Return the phase of a run; the arguments are those of `lr_factor`.

    With a warm-up in steps, the share of the run that it took follows from the pace so far: it is exact for a
    run of a known number of steps, and an estimate for one that ends by the clock.
    """
    progress = min(max(progress, 0.0), 1.0)
    if warmup_steps is not None:
        if step < warmup_steps:
            return Phase(True, step / warmup_steps)
        warmup = progress * warmup_steps / step if step else 0.0
    elif progress < warmup:
        return Phase(True, progress / warmup)
    return Phase(False, (progress - warmup) / (1.0 - warmup) if warmup < 1.0 else 0.0)


def lr_factor(
    progress: float,
    decay_type: str = "cosine",
    warmup: float | None = OTHER_WARMUP,
    floor: float = 0.0,
    *,
    step: int = 0,
    warmup_steps: int | None = None,
) -> float:
    """Return what the peak learning rate is multiplied by: a warm-up, then a decay over the rest of the run.

    Args:
        progress: Share of the run that is over; what lies outside [0, 1] counts as the nearer end, since a
            run that ends by the clock overshoots a little.
        decay_type: `cosine`, `linear`, `constant`, `onecycle` or `plateau`.
        warmup: Share of the run that warms up, in [0, 1]; None takes 0.05, with `onecycle` 0.3.
        floor: Factor at the end of the run, in [0, 1]; `constant` and `plateau` do not fall.
        step: Steps of the optimiser so far; needed with `warmup_steps` only.
        warmup_steps: Steps that warm up; overrides `warmup`.

    Returns:
        The factor, in [0, 1].

    Raises:
        ValueError: If the decay type is unknown, or a share is outside [0, 1].
    """
    decay = DECAYS[decay_type]
    warmup = default_warmup(decay_type) if warmup is None else warmup
    for name, value in {"warmup": warmup, "floor": floor}.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"{name} needs to be a share in [0, 1], got {value}.")
    rises, position = phase(progress, warmup, step, warmup_steps)
    return RISES.get(decay_type, warmup_ramp)(position, 1.0) if rises else decay(position, floor)


def default_warmup(decay_type: str) -> float:
    """Return the share of the run that warms up when nothing is said."""
    return DEFAULT_WARMUP.get(decay_type, OTHER_WARMUP)


def check_one_warmup(warmup: float | None, warmup_steps: int | None) -> None:
    """Raise a ValueError if a warm-up is given both as a share of the run and in steps."""
    if warmup is not None and warmup_steps is not None:
        raise ValueError(
            f"--warmup {warmup:g} and --warmup_steps {warmup_steps} exclude each other; give one"
        )


def one_cycle_momentum(where: Phase) -> float:
    """Return the momentum of one cycle: 0.95 at both ends and 0.85 at the top, against the learning rate.

    Source: Smith and Topin, 2018, section 3; of AdamW it is the first beta.
    """
    end, top = ONE_CYCLE_MOMENTUM
    height = 1.0 - cosine(where.position) if where.rises else cosine(where.position)
    return end + (top - end) * height


class Plateau(NamedTuple):
    """Count validations without a gain.

    Attributes:
        best: The lowest value so far.
        waited: Validations since then, or since the last reduction.
        reductions: Times that the learning rate was reduced.
    """

    best: float = math.inf
    waited: int = 0
    reductions: int = 0

    def after(self, value: float, patience: int) -> "Plateau":
        """Return the count after one more validation.

        Args:
            value: What it gave, lower is better; NaN is no gain.
            patience: Validations without a gain that a reduction follows, at least 1.
        """
        if value < self.best:
            return Plateau(value, 0, self.reductions)
        if self.waited + 1 < patience:
            return Plateau(self.best, self.waited + 1, self.reductions)
        return Plateau(self.best, 0, self.reductions + 1)
