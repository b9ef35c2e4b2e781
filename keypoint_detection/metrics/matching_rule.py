"""What decides whether a detection may take a target: thresholds, in pixels or as keypoint similarity."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Similarity = Literal["distance", "oks"]

DEFAULT_SIGMA = 0.067
"""The mean of COCO's seventeen constants; an error of 10 % of the object's side then has an OKS of 0.76."""


def similarity_of_thresholds(thresholds: Sequence[float]) -> Similarity:
    """Tell what thresholds mean: OKS when all are in (0, 1), pixel distances when all are at least 1.

    Args:
        thresholds: At least one finite number above 0.

    Raises:
        ValueError: None given, one that is not finite or not above 0, or both kinds mixed.

    Example:
        >>> similarity_of_thresholds([2, 4]), similarity_of_thresholds([0.5, 0.95])
        ('distance', 'oks')
    """
    _check_thresholds(thresholds, "at least one finite threshold > 0")
    if all(threshold >= 1 for threshold in thresholds):
        return "distance"
    if all(threshold < 1 for threshold in thresholds):
        return "oks"
    raise ValueError(
        f"expected thresholds all >= 1 (pixels) or all < 1 (OKS), got {_listed(thresholds)}; "
        "score the two kinds in two runs"
    )


@dataclass(frozen=True)
class MatchingRule:
    """Hold what decides whether a detection may take a target; a wrong value is a ValueError.

    Attributes:
        thresholds: Distances in pixels, > 0, or similarities in (0, 1].
        similarity: `"distance"` or `"oks"`.
        sigmas: The keypoint constant of each channel, > 0; used for "oks".
    """

    thresholds: tuple[float, ...]
    similarity: Similarity
    sigmas: tuple[float, ...]

    @classmethod
    def create(
        cls,
        num_channels: int,
        thresholds: Sequence[float],
        similarity: Similarity,
        sigmas: float | Sequence[float],
    ) -> "MatchingRule":
        """Check the values, with one sigma or one per channel, and return the rule."""
        if similarity not in ("distance", "oks"):
            raise ValueError(f'expected similarity "distance" or "oks", got {similarity!r}')
        if similarity == "oks":
            _check_thresholds(thresholds, "at least one OKS threshold, all in (0, 1]", greatest=1.0)
        else:
            _check_thresholds(thresholds, "at least one finite distance threshold > 0 (pixels)")
        listed = [sigmas] * num_channels if isinstance(sigmas, int | float) else list(sigmas)
        if len(listed) != num_channels or not all(0 < sigma < math.inf for sigma in listed):
            raise ValueError(
                f"expected one sigma, or one for each of {num_channels} channels, finite and > 0, "
                f"got {_listed(listed)}"
            )
        return cls(tuple(map(float, thresholds)), similarity, tuple(map(float, listed)))

    def limits(self) -> list[float]:
        """Return the greatest cost of a match per threshold: OKS >= t where `d^2 / (2 s^2 k^2) <= -ln t`."""
        return [-math.log(t) for t in self.thresholds] if self.similarity == "oks" else list(self.thresholds)

    def variance(self, scale: Tensor | None, present: Tensor, sigmas: Tensor | None = None) -> Tensor | None:
        """Return `2 s^2 k^2` in square pixels with k = 2 sigma, `[n, c, m]`, or None for "distance".

        Args:
            scale: `[n, c, m]` area of the object of each target, s^2, in square pixels.
            present: `[n, c, m]`, which targets are there.
            sigmas: `[n, c, m]` keypoint constant of each target; None takes that of its channel.

        Raises:
            ValueError: No areas, a shape that does not fit, or a target that is there has an area or a
                constant that is not above 0.
        """
        if self.similarity == "distance":
            return None
        if scale is None or scale.shape != present.shape:
            found = "no scale" if scale is None else f"scale {list(scale.shape)}"
            raise ValueError(f"OKS needs the area of each target's object {list(present.shape)}, got {found}")
        without = present & ~((scale > 0) & scale.isfinite())
        if bool(without.any()):
            raise ValueError(
                f"OKS needs an area > 0 for every target, got {int(without.sum())} of {int(present.sum())} "
                "zero or missing; add `area` to the annotations, or score by pixel distance (thresholds >= 1)"
            )
        if sigmas is None:
            sigmas = torch.tensor(self.sigmas, dtype=torch.float64, device=scale.device)[:, None]
        else:
            _check_sigmas(sigmas, present)
        constant = sigmas.double() * 2.0
        return 2.0 * scale.double() * (constant * constant)


def _check_sigmas(sigmas: Tensor, present: Tensor) -> None:
    if sigmas.shape != present.shape:
        raise ValueError(
            f"expected sigmas {list(present.shape)}, the keypoint constant of each target, "
            f"got {list(sigmas.shape)}"
        )
    without = present & ~((sigmas > 0) & sigmas.isfinite())
    if bool(without.any()):
        raise ValueError(
            f"OKS needs a finite keypoint constant > 0 for every target, got {int(without.sum())} of "
            f"{int(present.sum())} zero or missing; give sigmas of all keypoint names"
        )


def _check_thresholds(thresholds: Sequence[float], expected: str, greatest: float = math.inf) -> None:
    if len(thresholds) == 0 or not all(0 < t <= greatest and t < math.inf for t in thresholds):
        raise ValueError(f"expected {expected}, got {_listed(thresholds) or 'none'}")


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)
