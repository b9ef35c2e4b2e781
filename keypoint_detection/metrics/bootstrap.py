"""Error bars: bootstrap intervals of numbers that were measured on a sample of images."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from keypoint_detection.metrics.image_statistics import ImageStatistic, RatioStatistic
from keypoint_detection.metrics.resampling import Groups, jackknife_chunks, resample_chunks, units_of_images

IntervalMethod = Literal["percentile", "bca"]

LEAST_DEFINED = 0.8
"""Share of resamples that must be defined. A number that hangs on one unit alone, whose spread nobody can
know, is undefined where that unit is not drawn: 25 % of resamples or more. With two it is 14 % or less."""

TIE = 1e-10
"""Numbers closer than this, relative to the largest, differ by the rounding of sums only."""


class Interval(NamedTuple):
    """Hold a number and its interval; NaN where undefined.

    Attributes:
        value: The number on all images.
        low: Lower end of the interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


class Resamples(NamedTuple):
    """Hold s numbers as they came out on all images and on resamples of them; NaN where undefined.

    Attributes:
        estimate: float64 `[s]`, on all images.
        values: float64 `[b, s]`, on each resample.
        jackknife: float64 `[j, s]`, with one unit or block of units left out.
    """

    estimate: Tensor
    values: Tensor
    jackknife: Tensor


def bootstrap_interval(
    per_image_values: Tensor | np.ndarray | Sequence[float],
    groups: Groups | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    method: IntervalMethod = "bca",
    seed: int = 0,
) -> Interval:
    """Return the mean of one value per image, with its bootstrap interval.

    A 95 % interval of errors with skewness 1.4 holds the true mean in 94 % of samples of 100 images, 93 %
    of 50 images or 40 groups and 92 % of 20 (measured): every bootstrap interval is narrow on few units.
    Where all values are equal the interval is that one point: resampling cannot know of other values.

    Args:
        per_image_values: `[n]` in any unit; NaN marks an image without a value, which is left out.
        groups: Labels of the images, `[n]`; images of one label, such as frames of one video, are drawn
            together. Without it each image is drawn by itself.
        level: Share of such intervals that should hold the true mean, in (0, 1).
        n_resamples: Number of resamples, > 0.
        method: "bca" (bias-corrected and accelerated), or plain "percentile".
        seed: Seed of the resamples, >= 0.

    Returns:
        The mean and its interval in the unit of the values; NaN ends with fewer than 2 images or groups.

    Raises:
        ValueError: If there is no image, or an argument has another shape or range.

    Source:
        Efron, "Better bootstrap confidence intervals" (1987); Efron and Tibshirani, "An introduction to
        the bootstrap" (1993), chapters 13 and 14; groups: Davison and Hinkley (1997), section 3.8.

    Example:
        >>> interval = bootstrap_interval([2.0, 3.0, 4.0, 3.0, 8.0, 4.0])
        >>> interval.value, 2.0 < interval.low < 4.0 < interval.high < 8.0
        (4.0, True)
    """
    if not isinstance(per_image_values, Tensor):
        per_image_values = torch.tensor(np.asarray(per_image_values, dtype=np.float64))
    values = per_image_values.detach().cpu().double()
    if values.ndim != 1 or not len(values):
        raise ValueError(
            f"per_image_values needs one number for each of at least 1 image, got shape"
            f" {list(values.shape)}; pass a flat sequence of numbers."
        )
    unit, _ = units_of_images(len(values), groups)
    there = ~values.isnan()
    values, groups, n = values[there, None], unit[there], int(there.sum())
    mean = RatioStatistic(("mean",), values, torch.ones_like(values))
    intervals = bootstrap_statistics(
        [mean], n_images=n, groups=groups, level=level, n_resamples=n_resamples, method=method, seed=seed
    )
    return intervals["mean"]


def bootstrap_statistics(
    statistics: Sequence[ImageStatistic],
    *,
    n_images: int,
    groups: Groups | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    method: IntervalMethod = "bca",
    seed: int = 0,
) -> dict[str, Interval]:
    """Return the interval of each number, all of them from the same resamples of the images.

    Simulated 95 % intervals of 100 images held the true AP and PCK in 95 %. Numbers that few images decide
    need more: an RMSE over images of very unequal difficulty, 93 % at 200 images and 92 % at 100.

    Args:
        statistics: What was measured, each over the same n images; no column twice.
        n_images: Number of images n.
        groups: Labels of the images, `[n]`; images of one label are drawn together.
        n_resamples: Number of resamples, > 0.
        level: Share of such intervals that should hold the truth, in (0, 1).
        method: "bca" or "percentile".
        seed: Seed of the resamples, >= 0.

    Returns:
        An interval for each column, in the order of the statistics.

    Raises:
        ValueError: If a column comes twice, or an argument has another shape or range.

    Example:
        >>> ratio = RatioStatistic(("pck",), torch.tensor([[2.0], [1], [4]]), torch.tensor([[2.0], [3], [5]]))
        >>> bootstrap_statistics([ratio], n_images=3)["pck"].value
        0.7
    """
    check_interval_options(level, method)
    columns = columns_of(statistics)
    resamples = resample_statistics(
        statistics, n_images=n_images, groups=groups, n_resamples=n_resamples, seed=seed
    )
    low, high = interval_of_resamples(
        resamples.values, resamples.estimate, resamples.jackknife, level=level, method=method
    )
    rows = torch.stack([resamples.estimate, low, high], dim=1).tolist()
    return {column: Interval(*row) for column, row in zip(columns, rows, strict=True)}


def check_interval_options(level: float, method: str) -> None:
    """Raise ValueError for a level or a method that does not exist."""
    if not 0 < level < 1:
        raise ValueError(f"level needs a number between 0 and 1, got {level}; 0.95 asks for 95 %.")
    if method not in get_args(IntervalMethod):
        raise ValueError(f"method needs one of {', '.join(get_args(IntervalMethod))}, got {method!r}.")


def columns_of(statistics: Sequence[ImageStatistic]) -> list[str]:
    """Return the names of all numbers.

    Raises:
        ValueError: If a name comes twice.
    """
    columns = [column for statistic in statistics for column in statistic.columns]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise ValueError(f"statistics need a name of their own for each column, got {twice[0]!r} twice.")
    return columns


def resample_statistics(
    statistics: Sequence[ImageStatistic],
    *,
    n_images: int,
    groups: Groups | None,
    n_resamples: int,
    seed: int,
) -> Resamples:
    """Compute the s numbers of all statistics on the same resamples; NaN with fewer than 2 units.

    Raises:
        ValueError: If there is no resample, or not one label for each image.
    """
    if n_resamples < 1:
        raise ValueError(f"n_resamples needs a number > 0, got {n_resamples}; 1000 is usual.")
    unit, num_units = units_of_images(n_images, groups)
    none = torch.zeros(0, dtype=torch.float64)
    estimate = torch.cat([none, *(statistic.value().double() for statistic in statistics)])
    if num_units < 2 or not len(estimate):
        unknown = estimate.new_full((n_resamples, len(estimate)), torch.nan)
        return Resamples(estimate, unknown, unknown[:0])
    values, jackknife = (
        torch.cat([torch.cat([statistic(weights) for statistic in statistics], dim=1) for weights in chunks])
        for chunks in (
            resample_chunks(unit, num_units, n_resamples, seed),
            jackknife_chunks(unit, num_units, seed),
        )
    )
    return Resamples(estimate, values.double(), jackknife.double())


def interval_of_resamples(
    values: Tensor, estimate: Tensor, jackknife: Tensor | None, *, level: float, method: IntervalMethod
) -> tuple[Tensor, Tensor]:
    """Return the ends of the interval of each number; resamples where it is undefined are left out.

    Args:
        values: `[b, s]`, the numbers on each resample.
        estimate: `[s]`, the numbers on all images.
        jackknife: `[j, s]`, the numbers with a unit left out; None for "percentile".
        level: In (0, 1).
        method: "bca" or "percentile".

    Returns:
        Low and high ends, each float64 `[s]`. NaN where the estimate is NaN, where fewer than 80 % of the
        resamples are defined, or with fewer than 2 units to leave out.
    """
    check_interval_options(level, method)
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    levels = tails[:, None].expand(2, values.shape[1])
    values = with_exact_ties(values.double(), estimate.double())
    known = ~estimate.isnan() & ((~values.isnan()).double().mean(0) >= LEAST_DEFINED)
    if method == "bca":
        if jackknife is None:
            raise ValueError("method bca needs the jackknife, got None; pass it or ask for percentile.")
        known &= len(jackknife) >= 2
        levels = bca_levels(levels, bias_of_resamples(values, estimate), acceleration(jackknife))
    low, high = quantiles_of_resamples(values, levels).masked_fill(~known, torch.nan)
    return low, high


def with_exact_ties(values: Tensor, estimate: Tensor) -> Tensor:
    """Replace resamples `[b, s]` that equal the estimate `[s]`, but for the rounding of sums, by it."""
    if not len(values):
        return values
    tolerance = TIE * values.nan_to_num(0.0).abs().amax(0)
    return torch.where((values - estimate).abs() <= tolerance, estimate, values)


def bias_of_resamples(values: Tensor, estimate: Tensor) -> Tensor:
    """Return z0 `[s]`: the normal quantile of the share of resamples `[b, s]` below the estimate.

    Ties count half. A share of 0 or 1 becomes half a resample more or less, which keeps z0 finite.
    """
    count = (~values.isnan()).sum(0).clamp(min=1).double()
    below = (values < estimate).sum(0) + (values == estimate).sum(0) / 2
    return torch.special.ndtri(below.double().clamp(min=0.5).minimum(count - 0.5) / count)


def acceleration(jackknife: Tensor) -> Tensor:
    """Return the acceleration `[s]` from numbers `[j, s]` with a unit left out; 0 where they are equal.

    Source:
        Efron and Tibshirani (1993), equation 14.15.
    """
    if not len(jackknife):
        return jackknife.new_zeros(jackknife.shape[1])
    centre = jackknife.nanmean(0)
    influence = (centre - with_exact_ties(jackknife, centre)).nan_to_num(0.0)
    # The ratio has no unit; dividing first keeps the powers of very small numbers from vanishing.
    influence = influence / influence.abs().amax(0).clamp(min=math.ulp(0.0))
    return influence.pow(3).sum(0) / (6 * influence.square().sum(0).clamp(min=1).pow(1.5))


def bca_levels(levels: Tensor, bias: Tensor, accelerated: Tensor) -> Tensor:
    """Return the levels `[q, s]` at which the resamples are read instead of `levels`, in [0, 1].

    Source:
        Efron and Tibshirani (1993), equation 14.10; beyond its pole the limit, 0 or 1.
    """
    shifted = bias + torch.special.ndtri(levels)
    slope = 1 - accelerated * shifted
    moved = torch.where(slope > 0, bias + shifted / slope, shifted.sign() * torch.inf)
    return torch.special.ndtr(moved)


def quantiles_of_resamples(values: Tensor, levels: Tensor) -> Tensor:
    """Return quantiles `[q, s]` of the defined ones of values `[b, s]` at levels `[q, s]`.

    With m defined values the quantile p lies at place (m + 1) p, counted from 1, kept within 1 and m,
    and is interpolated linearly (Hyndman and Fan's sixth): the m values cut the line into m + 1 parts
    that are equally likely to hold the next one.
    """
    count = (~values.isnan()).sum(0)
    place = ((count + 1) * levels).clamp(min=1).minimum(count) - 1
    left = place.long().clamp(min=0)
    right = (left + 1).minimum(count - 1).clamp(min=0)
    ordered = values.sort(dim=0).values
    at_left, at_right = ordered.gather(0, left), ordered.gather(0, right)
    return at_left + (place - left) * (at_right - at_left)
