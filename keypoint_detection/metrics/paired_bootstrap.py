"""Compare two detectors on the same images: is the difference more than chance, and what could be seen."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from keypoint_detection.metrics.bootstrap import (
    TIE,
    Resamples,
    acceleration,
    bias_of_resamples,
    check_interval_options,
    columns_of,
    interval_of_resamples,
    resample_statistics,
    with_exact_ties,
)
from keypoint_detection.metrics.image_statistics import ImageStatistic
from keypoint_detection.metrics.resampling import Groups

POWER = 0.8
"""How often a true difference of the resolvable size would be seen."""


class Difference(NamedTuple):
    """Hold a number of two sides on the same images, and what separates them; NaN where undefined.

    Attributes:
        value_a: The number of side a.
        value_b: The number of side b.
        difference: `value_b - value_a`.
        low: Lower end of the BCa interval of the difference.
        high: Upper end.
        p_value: Two-sided, in (0, 1]: below `1 - level` just where the interval excludes 0.
        resolvable: Smallest true difference, > 0, that as many images would show in 80 % of the cases;
            0 where the difference is the same in every resample.
    """

    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_value: float
    resolvable: float


def compare_statistics(
    a: Sequence[ImageStatistic],
    b: Sequence[ImageStatistic],
    *,
    n_images: int,
    groups: Groups | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return the difference of each number that both sides have, resampling the images of both alike.

    Args:
        a: What was measured of one side, over n images; no column twice.
        b: What was measured of the other side, over the same images in the same order.
        n_images: Number of images n.
        groups: Labels of the images, `[n]`; images of one label are drawn together.
        n_resamples: Number of resamples, > 0.
        level: Share of such intervals that should hold the true difference, in (0, 1).
        seed: Seed of the resamples, >= 0.

    Returns:
        A difference for each column of both sides, in the order of a.

    Raises:
        ValueError: If a column comes twice on a side, or an argument has another shape or range.

    Example:
        >>> from keypoint_detection.metrics.image_statistics import RatioStatistic
        >>> old, new = torch.tensor([[3.0], [5.0], [4.0]]), torch.tensor([[2.0], [5.0], [2.0]])
        >>> a, b = (RatioStatistic(("error_px",), side, torch.ones(3, 1)) for side in (old, new))
        >>> compare_statistics([a], [b], n_images=3)["error_px"][:3]
        (4.0, 3.0, -1.0)
    """
    check_interval_options(level, "bca")
    columns_a, columns_b = columns_of(a), columns_of(b)
    both = resample_statistics([*a, *b], n_images=n_images, groups=groups, n_resamples=n_resamples, seed=seed)
    shared = [column for column in columns_a if column in columns_b]
    at_a = torch.tensor([columns_a.index(column) for column in shared], dtype=torch.int64)
    at_b = torch.tensor([len(columns_a) + columns_b.index(column) for column in shared], dtype=torch.int64)
    difference = Resamples(*(_difference(part[..., at_a], part[..., at_b]) for part in both))
    low, high = interval_of_resamples(
        difference.values, difference.estimate, difference.jackknife, level=level, method="bca"
    )
    p_value = p_value_of_resamples(*difference).masked_fill(low.isnan(), torch.nan)
    resolvable = resolvable_difference(difference.values, level).masked_fill(low.isnan(), torch.nan)
    numbers = both.estimate[at_a], both.estimate[at_b], difference.estimate, low, high, p_value, resolvable
    rows = torch.stack(numbers, dim=1).tolist()
    return {column: Difference(*row) for column, row in zip(shared, rows, strict=True)}


def p_value_of_resamples(estimate: Tensor, values: Tensor, jackknife: Tensor) -> Tensor:
    """Return the two-sided p-value `[s]` of "the true difference is 0", in (0, 1].

    It is 1 minus the level of the BCa interval that just reaches 0. It is at least 1 / (m + 1): m defined
    resamples cannot tell a smaller chance from none.

    Args:
        estimate: `[s]`, the differences on all images.
        values: `[b, s]`, on each resample; NaN where undefined.
        jackknife: `[j, s]`, with a unit left out.

    Source:
        Efron and Tibshirani (1993), equation 14.10, solved for the level.
    """
    values = with_exact_ties(values, estimate)
    bias, accelerated = bias_of_resamples(values, estimate), acceleration(jackknife)
    count = (~values.isnan()).sum(0)

    def level_at_zero(number: Tensor) -> Tensor:
        moved = torch.special.ndtri(_place_of_zero(values, number) / (count + 1)) - bias
        slope = 1 + accelerated * moved
        shifted = torch.where(slope > 0, moved / slope, moved.sign() * torch.inf)
        return torch.special.ndtr(shifted - bias)

    # A closed interval that ends at 0 holds 0: resamples of exactly 0 count against either side.
    above, below = level_at_zero((values <= 0).sum(0)), 1 - level_at_zero((values < 0).sum(0))
    return (2 * above.minimum(below)).clamp(max=1).maximum(1 / (count + 1))


def resolvable_difference(values: Tensor, level: float) -> Tensor:
    """Return the smallest true difference `[s]` that would be seen with 80 % power.

    Args:
        values: `[b, s]`, resampled differences, whose spread is that of the difference itself.
        level: Level of the interval that should exclude 0, in (0, 1).

    Source:
        Cohen, "Statistical power analysis for the behavioral sciences" (1988), section 2.4.
    """
    count = (~values.isnan()).sum(0)
    deviation = values - values.nanmean(0)
    spread = (deviation.square().nansum(0) / (count - 1).clamp(min=1)).sqrt()
    quantiles = torch.special.ndtri(torch.tensor([(1 + level) / 2, POWER], dtype=torch.float64))
    return quantiles.sum() * spread


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """Return b - a, exactly 0 where only the rounding of sums differs."""
    difference = b - a
    return difference.masked_fill(difference.abs() <= TIE * a.abs().maximum(b.abs()), 0.0)


def _place_of_zero(values: Tensor, number: Tensor) -> Tensor:
    """Return where 0 lies among the sorted values `[b, s]`, float64 `[s]`.

    Between the values at places `number` and `number + 1`, counted from 1, by linear interpolation, which
    undoes `quantiles_of_resamples`; half a place before the first or after the last.
    """
    count = (~values.isnan()).sum(0)
    ordered = values.sort(dim=0).values
    left = ordered.gather(0, (number - 1).clamp(min=0)[None])[0]
    right = ordered.gather(0, number.minimum(count - 1).clamp(min=0)[None])[0]
    inside = number + left / (left - right)
    place = torch.where(number == 0, 0.5, torch.where(number == count, count + 0.5, inside))
    return place.double()
