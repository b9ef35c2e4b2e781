"""Compare groups of evaluations, each a fold or more on the same points: which differ by more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.fold_scores import (
    FoldUnit,
    Resampling,
    mean_over_folds,
    resamples_of_folds,
    unit_of_folds,
    units_of_folds,
)
from keypoint_detection.metrics.binary_classification import SCORES, confusion_counts
from keypoint_detection.metrics.binary_classification_statistic import (
    BinaryStatistic,
    binary_statistic,
    statistic_intervals,
)
from keypoint_detection.metrics.bootstrap import Interval, Resamples, interval_of_resamples
from keypoint_detection.score_sheet import ScoreSheet
from keypoint_detection.visibility.compare_difference import GroupDifference, differences_to_best
from keypoint_detection.visibility.evaluate_files import PointEvaluation, read_evaluation


class FoldFolder(NamedTuple):
    """Say where the evaluation of a fold of a group is.

    Attributes:
        group: What is compared, such as a variant of the network.
        fold: The part of the data that it was not trained on.
        folder: With `metrics.json` and `predictions.csv`.
    """

    group: str
    fold: str
    folder: str | Path


class GroupScores(NamedTuple):
    """Hold one number of one group.

    Attributes:
        group: Name of the group.
        metric: One of `SCORES`.
        overall: The mean over the folds, with its interval.
        folds: By fold, with the interval over resamples of its images; NaN where undefined.
    """

    group: str
    metric: str
    overall: Interval
    folds: dict[str, Interval]


@dataclass(frozen=True)
class GroupComparison:
    """Hold what is known of groups on the same points.

    Attributes:
        groups: Names, in the order in which they came.
        folds: Names, in the order of the first group.
        scores: Every number of every group, metric after metric.
        differences: Of every group but the best, metric after metric; none where no group has the number.
        confusions: Points by label (row) and prediction (column) of every group over all folds, int64
            `[2, 2]`; 0 not visible.
        n_points: Points in all folds.
        n_images: Images in all folds.
        unit: What a resample draws for means over the folds and their differences: images, "group": views
            within each fold, or whole folds.
        n_units: How many of them there are.
        resampling: How the intervals are made.
    """

    groups: tuple[str, ...]
    folds: tuple[str, ...]
    scores: tuple[GroupScores, ...]
    differences: tuple[GroupDifference, ...]
    confusions: dict[str, NDArray[np.int64]]
    n_points: int
    n_images: int
    unit: FoldUnit
    n_units: int
    resampling: Resampling

    def panels(self, metrics: Sequence[str] = SCORES) -> dict[str, dict[str, dict[str, Interval]]]:
        """Return the number and interval of each fold by metric, group and fold, as figures take them."""
        found: dict[str, dict[str, dict[str, Interval]]] = {metric: {} for metric in metrics}
        for row in self.scores:
            if row.metric in found:
                found[row.metric][row.group] = row.folds
        return found


Folds = dict[str, PointEvaluation]
"""The evaluations of one group by fold."""


def compare_groups(folders: Sequence[FoldFolder], resampling: Resampling | None = None) -> GroupComparison:
    """Compare groups of evaluations on the same points, resampling these alike for all groups.

    The mean over the folds is drawn from views, if every fold holds two or more, else from whole folds; a
    single fold of one view from its images. A number that a fold lacks, because all its points are of one
    class, is left out of the mean.

    Args:
        folders: At least one; no group and fold twice, and every group with the same folds.
        resampling: How the intervals are made.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A broken file, other folds or points in two groups; one line.
    """
    made = resampling or Resampling()
    groups = _read_groups(folders)
    check_same_points(groups)
    first = next(iter(groups.values()))
    sheets = {name: _sheets(folds) for name, folds in groups.items()}
    of_first = list(next(iter(sheets.values())).values())
    unit = unit_of_folds(of_first)
    resamples = {
        name: resamples_of_folds(list(parts.values()), SCORES, unit, made) for name, parts in sheets.items()
    }
    return GroupComparison(
        groups=tuple(groups),
        folds=tuple(first),
        scores=_scores(sheets, resamples, unit, made),
        differences=differences_to_best(resamples, unit, made),
        confusions={name: _confusion(folds) for name, folds in groups.items()},
        n_points=sum(len(fold.table) for fold in first.values()),
        n_images=sum(len(sheet.image_ids) for sheet in of_first),
        unit=unit,
        n_units=sum(units_of_folds(of_first, unit)),
        resampling=made,
    )


def _read_groups(folders: Sequence[FoldFolder]) -> dict[str, Folds]:
    if not folders:
        raise ValueError("expected at least one evaluation to compare, got none")
    groups: dict[str, Folds] = {}
    for group, fold, folder in folders:
        folds = groups.setdefault(group, {})
        if fold in folds:
            raise ValueError(
                f"{folder}: group {group!r} has fold {fold!r} already, from {folds[fold].name}; give each"
                " evaluation a group (--eval_group) or a fold of its own"
            )
        folds[fold] = read_evaluation(folder)
    names = list(next(iter(groups.values())))
    return {group: _in_order(group, folds, names, next(iter(groups))) for group, folds in groups.items()}


def _in_order(group: str, folds: Folds, names: Sequence[str], first: str) -> Folds:
    if set(folds) != set(names):
        apart = sorted(set(folds) ^ set(names))
        lacking = group if apart[0] in names else first
        raise ValueError(
            f"expected the same folds in every group, got {len(names)} in {first!r} and {len(folds)} in"
            f" {group!r}: {lacking!r} lacks {apart[0]!r}; evaluate every fold of each group"
        )
    return {name: folds[name] for name in names}


def check_same_points(groups: Mapping[str, Folds]) -> None:
    """Refuse groups whose folds hold other points, labels or views, or numbers by other definitions.

    Raises:
        ValueError: They differ; one line that names the first fold that does.
    """
    (first, expected), *others = groups.items()
    for group, folds in others:
        for fold, evaluation in folds.items():
            one, other = expected[fold].contract, evaluation.contract
            if dict(one) == dict(other):
                continue
            field = next(name for name in (*one, *other) if one.get(name) != other.get(name))
            what = "points" if field == "points" else f"definitions ({field})"
            raise ValueError(
                f"fold {fold!r}: {expected[fold].name} of {first!r} and {evaluation.name} of {group!r} are of"
                f" other {what}: {one.get(field)} and {other.get(field)}; evaluate all groups on the same"
                " points with the same version"
            )


def _confusion(folds: Folds) -> NDArray[np.int64]:
    counts = [confusion_counts(fold.logits, fold.table.label) for fold in folds.values()]
    return np.sum(counts, axis=0)


def _sheets(folds: Folds) -> dict[str, ScoreSheet]:
    """Return the scores of the images of every fold, sorted by name: the same order in every group."""
    single = len(folds) == 1 and all(len(_views(one)) < 2 for one in folds.values())
    return {name: _sheet(evaluation, by_view=not single) for name, evaluation in folds.items()}


def _views(evaluation: PointEvaluation) -> set[str]:
    return set(evaluation.table.point_views.tolist())


def _sheet(evaluation: PointEvaluation, *, by_view: bool) -> ScoreSheet:
    table = evaluation.table
    rows = np.array(sorted(np.unique(table.image), key=table.image_names.__getitem__), dtype=np.int64)
    place = np.zeros(len(table.image_names), np.int64)
    place[rows] = np.arange(len(rows))
    statistic = binary_statistic(evaluation.logits, table.label, place[table.image], len(rows))
    views = tuple(table.views[row] for row in rows) if by_view else None
    return ScoreSheet(torch.arange(len(rows)), views, (statistic,))


Sheets = Mapping[str, Mapping[str, ScoreSheet]]
"""The scores of images by group and fold."""


def _scores(
    sheets: Sheets, resamples: Mapping[str, list[Resamples]], unit: FoldUnit, made: Resampling
) -> tuple[GroupScores, ...]:
    overall = {name: _overall(folds, unit, made) for name, folds in resamples.items()}
    single = {
        group: {fold: _image_intervals(sheet, made) for fold, sheet in folds.items()}
        for group, folds in sheets.items()
    }
    return tuple(
        GroupScores(
            group, metric, overall[group][metric], {fold: row[metric] for fold, row in single[group].items()}
        )
        for metric in SCORES
        for group in sheets
    )


def _image_intervals(sheet: ScoreSheet, made: Resampling) -> dict[str, Interval]:
    (statistic,) = sheet.statistics
    assert isinstance(statistic, BinaryStatistic)
    return statistic_intervals(
        statistic, level=made.level, n_resamples=made.n_resamples, method=made.method, seed=made.seed
    )


def _overall(folds: list[Resamples], unit: FoldUnit, made: Resampling) -> dict[str, Interval]:
    mean = mean_over_folds(folds, SCORES, unit, made)
    ends = interval_of_resamples(
        mean.values, mean.estimate, mean.jackknife, level=made.level, method=made.method
    )
    rows = torch.stack([mean.estimate, *ends], dim=1).tolist()
    return {metric: Interval(*row) for metric, row in zip(SCORES, rows, strict=True)}
