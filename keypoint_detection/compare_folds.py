"""Compare two cross-validations fold by fold."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from keypoint_detection.compare_reading import check_same_numbers
from keypoint_detection.fold_scores import (
    FoldUnit,
    Resampling,
    columns_of_folds,
    mean_over_folds,
    resamples_of_folds,
    unit_of_folds,
    units_of_folds,
)
from keypoint_detection.fold_scores_record import ScoredFolds
from keypoint_detection.metric_contract import check_same
from keypoint_detection.metrics.bootstrap import TIE, Resamples, interval_of_resamples
from keypoint_detection.metrics.paired_bootstrap import (
    Difference,
    p_value_of_resamples,
    resolvable_difference,
)


@dataclass(frozen=True)
class FoldComparison:
    """Hold how the means over the folds of two cross-validations differ.

    Attributes:
        unit: What the resamples draw.
        n_units: How many of them there are in all folds together.
        differences: By metric, `map`, and by channel and metric, `stem/map`.
    """

    unit: FoldUnit
    n_units: int
    differences: dict[str, Difference]


def compare_folds(a: ScoredFolds, b: ScoredFolds, resampling: Resampling) -> FoldComparison:
    """Return the difference, b minus a, of the mean over the folds of each number.

    The images of a fold are drawn alike for both sides, and each fold by itself. A number counts in the folds
    where both sides have it.

    Raises:
        ValueError: The folds, the definitions or the groups of the two are not the same; one line.
    """
    check_same_folds(a, b)
    sheets_a, sheets_b = list(a.sheets.values()), list(b.sheets.values())
    columns, unit = columns_of_folds(sheets_a), unit_of_folds(sheets_a)
    one, other = (resamples_of_folds(sheets, columns, unit, resampling) for sheets in (sheets_a, sheets_b))
    found = differences_of_folds(one, other, columns, unit, resampling)
    return FoldComparison(unit, sum(units_of_folds(sheets_a, unit)), found)


def differences_of_folds(
    a: Sequence[Resamples],
    b: Sequence[Resamples],
    columns: Sequence[str],
    unit: FoldUnit,
    resampling: Resampling,
) -> dict[str, Difference]:
    """Return the difference, b minus a, of the mean over the folds of each number.

    Args:
        a: A part per fold, of the numbers of `columns`.
        b: Likewise, of the same draws.
        columns: Names of the numbers.
        unit: What was drawn.
        resampling: Gives the level, and the seed where whole folds are drawn.
    """
    per_fold = [_difference(*fold) for fold in zip(a, b, strict=True)]
    difference = mean_over_folds(per_fold, columns, unit, resampling)
    low, high = interval_of_resamples(
        difference.values, difference.estimate, difference.jackknife, level=resampling.level, method="bca"
    )
    unknown = low.isnan()
    p_value = p_value_of_resamples(*difference).masked_fill(unknown, torch.nan)
    resolvable = resolvable_difference(difference.values, resampling.level).masked_fill(unknown, torch.nan)
    undefined = torch.stack([fold.estimate.isnan() for fold in per_fold])
    means = [
        torch.stack([fold.estimate for fold in side]).masked_fill(undefined, torch.nan).nanmean(0)
        for side in (a, b)
    ]
    rows = torch.stack([*means, difference.estimate, low, high, p_value, resolvable], dim=1).tolist()
    return {column: Difference(*row) for column, row in zip(columns, rows, strict=True)}


def _difference(a: Resamples, b: Resamples) -> Resamples:
    """Return b - a, exactly 0 where only the rounding of sums differs."""
    parts = []
    for one, other in zip(a, b, strict=True):
        apart = other - one
        parts.append(apart.masked_fill(apart.abs() <= TIE * one.abs().maximum(other.abs()), 0.0))
    return Resamples(*parts)


def check_same_folds(a: ScoredFolds, b: ScoredFolds) -> None:
    """Refuse two cross-validations with other folds, definitions or groups.

    Raises:
        ValueError: They differ; one line that names the first fold that does.
    """
    hint = "compare needs the same data and the same --folds, --group_by and --seed_of_folds"
    if len(a.folds) != len(b.folds):
        raise ValueError(f"{a.name} has {len(a.folds)} folds and {b.name} has {len(b.folds)}; {hint}")
    for (name, one), (other_name, other) in zip(a.folds.items(), b.folds.items(), strict=True):
        ids, other_ids = set(one.sheet.image_ids.tolist()), set(other.sheet.image_ids.tolist())
        if name != other_name or ids != other_ids:
            raise ValueError(
                f"the folds of {a.name} and {b.name} are not the same: {name} holds {len(ids - other_ids)}"
                f" images that {other_name} of the other does not; {hint}"
            )
        check_same(one.contract, other.contract, one.name, other.name)
        check_same_numbers(one, other)
