"""The scores of a cross-validation: means over its folds, their spread, and intervals of the means."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from keypoint_detection.metrics.bootstrap import (
    IntervalMethod,
    Resamples,
    interval_of_resamples,
    resample_statistics,
)
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.score_sheet import ScoreSheet

FoldUnit = Literal["image", "group", "fold"]
"""What a resample draws: images or groups of them within every fold, or whole folds."""


@dataclass(frozen=True)
class Resampling:
    """Hold how intervals are made.

    Attributes:
        n_resamples: Number of resamples, > 0.
        level: Coverage of the intervals, in (0, 1).
        method: "bca" or "percentile".
        seed: Seed of the resamples, >= 0.
    """

    n_resamples: int = 1000
    level: float = 0.95
    method: IntervalMethod = "bca"
    seed: int = 0


class FoldSummary(NamedTuple):
    """Hold a number over the folds of a cross-validation; NaN where undefined.

    Attributes:
        mean: Mean over the folds where the number is defined.
        spread: Standard deviation over them (n - 1); NaN for fewer than two.
        low: Lower end of the interval of the mean.
        high: Upper end.
        lowest: Fold with the lowest number; None where no fold has one.
        highest: Likewise the highest.
        values: The number of every fold, by its name.
    """

    mean: float
    spread: float
    low: float
    high: float
    lowest: str | None
    highest: str | None
    values: dict[str, float]


@dataclass(frozen=True)
class FoldScores:
    """Hold the numbers of a cross-validation.

    Attributes:
        unit: What the resamples draw.
        n_units: How many of them there are in all folds together.
        resampling: How the intervals are made.
        metrics: By metric, `map`, and by channel and metric, `stem/map`.
    """

    unit: FoldUnit
    n_units: int
    resampling: Resampling
    metrics: dict[str, FoldSummary]


def summarise_folds(folds: Mapping[str, ScoreSheet], resampling: Resampling | None = None) -> FoldScores:
    """Return mean, spread, ends and interval of every number over the folds.

    Args:
        folds: The scores of each fold on the images that it was not trained on, by its name.
        resampling: How the intervals are made.

    Raises:
        ValueError: There is no fold.
    """
    if not folds:
        raise ValueError("expected at least one fold to average over, got none")
    resampling, sheets = resampling or Resampling(), list(folds.values())
    columns = columns_of_folds(sheets)
    unit = unit_of_folds(sheets)
    resamples = mean_over_folds(
        resamples_of_folds(sheets, columns, unit, resampling), columns, unit, resampling
    )
    low, high = interval_of_resamples(
        resamples.values,
        resamples.estimate,
        resamples.jackknife,
        level=resampling.level,
        method=resampling.method,
    )
    per_fold = {name: sheet.values() for name, sheet in folds.items()}
    metrics = {
        column: _summary({name: values.get(column, math.nan) for name, values in per_fold.items()}, *ends)
        for column, *ends in zip(columns, low.tolist(), high.tolist(), strict=True)
    }
    return FoldScores(unit, sum(units_of_folds(sheets, unit)), resampling, metrics)


def _summary(values: dict[str, float], low: float, high: float) -> FoldSummary:
    defined = {name: value for name, value in values.items() if not math.isnan(value)}
    if not defined:
        return FoldSummary(math.nan, math.nan, math.nan, math.nan, None, None, values)
    numbers = np.array(list(defined.values()))
    spread = float(numbers.std(ddof=1)) if len(numbers) > 1 else math.nan
    lowest, highest = (choose(defined, key=defined.__getitem__) for choose in (min, max))
    return FoldSummary(float(numbers.mean()), spread, low, high, lowest, highest, values)


def columns_of_folds(sheets: Sequence[ScoreSheet]) -> list[str]:
    """Return the names of all numbers that any fold has, in the order of the first that has them."""
    return list(dict.fromkeys(column for sheet in sheets for column in sheet.columns))


def unit_of_folds(sheets: Sequence[ScoreSheet]) -> FoldUnit:
    """Return what resamples draw: whole folds where one of them is a single image or group.

    Such a fold looks the same in every resample of its images, although another group would score otherwise.
    """
    unit = "image" if any(sheet.groups is None for sheet in sheets) else "group"
    return "fold" if min(units_of_folds(sheets, unit)) < 2 else unit


def units_of_folds(sheets: Sequence[ScoreSheet], unit: FoldUnit) -> list[int]:
    """Return how many units each fold holds: its images or groups, or 1 where it is drawn as a whole."""
    if unit == "fold":
        return [1 for _ in sheets]
    if unit == "group":
        return [len(set(sheet.groups or ())) for sheet in sheets]
    return [len(sheet.image_ids) for sheet in sheets]


def resamples_of_folds(
    sheets: Sequence[ScoreSheet], columns: Sequence[str], unit: FoldUnit, resampling: Resampling
) -> list[Resamples]:
    """Return the s numbers of every fold on resamples of its own images; NaN for a number that it lacks.

    Two cross-validations with the same folds get the same draws.

    Args:
        sheets: The folds, in rising order of their image ids where two are compared.
        columns: Names of the s numbers.
        unit: What is drawn; with "fold" there is only the number on all images.
        resampling: Gives the number of resamples and the seed.
    """
    found = []
    for place, sheet in enumerate(sheets):
        if unit == "fold":
            estimate = torch.tensor(list(sheet.values().values()), dtype=torch.float64)
            resamples = Resamples(estimate, estimate[None, :][:0], estimate[None, :][:0])
        else:
            resamples = resample_statistics(
                sheet.statistics,
                n_images=len(sheet.image_ids),
                groups=sheet.groups if unit == "group" else None,
                n_resamples=resampling.n_resamples,
                seed=_seed_of_fold(resampling.seed, place),
            )
        index = _places(sheet.columns, columns)
        found.append(Resamples(*(_taken(part, index) for part in resamples)))
    return found


def _seed_of_fold(seed: int, place: int) -> int:
    """Return a seed for each fold: with one for all, folds of equal size would be drawn alike."""
    return int(np.random.SeedSequence(seed, spawn_key=(2, place)).generate_state(1, np.uint64)[0])


def _places(present: Sequence[str], wanted: Sequence[str]) -> Tensor:
    """Return where each wanted column is among those that are present, -1 for one that is not."""
    place = {column: number for number, column in enumerate(present)}
    return torch.tensor([place.get(column, -1) for column in wanted], dtype=torch.int64)


def _taken(numbers: Tensor, index: Tensor) -> Tensor:
    """Return columns `index` of `[..., m]`, NaN where it is -1."""
    padded = torch.cat([numbers, numbers.new_full((*numbers.shape[:-1], 1), torch.nan)], dim=-1)
    return padded[..., index]


def mean_over_folds(
    folds: Sequence[Resamples], columns: Sequence[str], unit: FoldUnit, resampling: Resampling
) -> Resamples:
    """Return the mean over the folds of s numbers, on all images and on resamples.

    Folds are drawn independently: resample b of the mean is the mean of resample b of every fold. A number
    that a fold does not have at all is left out of the mean.

    Args:
        folds: Of `resamples_of_folds`.
        columns: Names of the s numbers.
        unit: What is drawn.
        resampling: Gives the number of resamples and the seed where whole folds are drawn.

    Source:
        Efron and Tibshirani (1993), section 8.3 (several samples, each resampled by itself); acceleration:
        Davison and Hinkley, "Bootstrap methods and their application" (1997), section 5.3.2.
    """
    estimates = torch.stack([fold.estimate for fold in folds])
    defined = ~estimates.isnan()
    if unit == "fold":
        mean = RatioStatistic(tuple(columns), estimates.nan_to_num(0.0), defined.double())
        return resample_statistics(
            [mean],
            n_images=len(folds),
            groups=None,
            n_resamples=resampling.n_resamples,
            seed=resampling.seed,
        )
    count = defined.sum(0)
    share = defined.double() / count  # [folds, s]; NaN where no fold has the number
    estimate = _weighted(estimates, share)
    values = _weighted(torch.stack([fold.values for fold in folds]), share[:, None])
    # A unit moves its own fold only. Measured from the mean of its fold, because the folds' means differ.
    jackknife = [
        estimate + part * (fold.jackknife - fold.jackknife.nanmean(0)).nan_to_num(0.0)
        for fold, part in zip(folds, share, strict=True)
    ]
    return Resamples(estimate, values, torch.cat(jackknife))


def _weighted(numbers: Tensor, share: Tensor) -> Tensor:
    """Add up `[folds, ...]` by their shares; a share of 0 leaves NaN out."""
    return (numbers.masked_fill(share == 0, 0.0) * share).sum(0)
