"""Compare evaluations of the same images: which numbers differ by more than chance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.compare_folds import compare_folds
from keypoint_detection.compare_reading import (
    Evaluation,
    check_same_images,
    check_same_numbers,
    on_common_ground,
    read_evaluation,
    say_what_is_left_out,
    tells_visibility,
)
from keypoint_detection.fold_scores import FoldUnit, Resampling
from keypoint_detection.fold_scores_record import ScoredFolds, is_cross_validation, read_scored_folds
from keypoint_detection.metric_contract import HASH, check_same
from keypoint_detection.metrics.paired_bootstrap import Difference, compare_statistics


@dataclass(frozen=True)
class Comparison:
    """Hold how the numbers of B differ from those of A.

    Attributes:
        names: What was compared: A and B.
        contract_hash: Stands for the definitions, which are the same on both sides.
        n_images: Images that both were scored on.
        n_groups: Groups of images that were resampled; None where single images or whole folds were.
        n_resamples: Resamples behind the intervals.
        level: Coverage of the intervals.
        seed: Seed of the resamples.
        differences: By metric, `map`, and by channel and metric, `stem/map`.
        n_folds: Folds that the numbers are means over; None where they are of one evaluation.
        unit: What was resampled in cross-validations; None where the numbers are of one evaluation.
    """

    names: tuple[str, str]
    contract_hash: str
    n_images: int
    n_groups: int | None
    n_resamples: int
    level: float
    seed: int
    differences: dict[str, Difference]
    n_folds: int | None = None
    unit: FoldUnit | None = None


def compare_runs(
    a: str | Path, b: str | Path, *, n_resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare two evaluations, resampling the images of both alike.

    Args:
        a: An `eval/` folder with `metrics.json` and `matches.npz`, the run folder around it, its
            `metrics.json`, or the folder of a cross-validation.
        b: Likewise; its numbers minus those of `a` are the differences. Two cross-validations need the same
            folds; one and a single evaluation are not comparable.
        n_resamples: Number of resamples, at least 1 / (1 - level).
        level: Coverage of the intervals, in (0, 1).
        seed: Seed of the resamples, >= 0.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A broken file, other definitions, images, groups or folds, or too few resamples; one line.
    """
    least = math.floor(1 / (1 - level) + 1e-9)  # below, no p-value can be below 1 - level
    if n_resamples < least:
        raise ValueError(f"--n_resamples: expected at least {least} for level {level:g}, got {n_resamples}")
    one, other = read_scores(a), read_scores(b)
    resampling = Resampling(n_resamples, level, seed=seed)
    if isinstance(one, Evaluation) and isinstance(other, Evaluation):
        return _compare_evaluations(one, other, resampling)
    if isinstance(one, ScoredFolds) and isinstance(other, ScoredFolds):
        return _compare_cross_validations(one, other, resampling)
    folds, single = (one, other) if isinstance(one, ScoredFolds) else (other, one)
    raise ValueError(
        f"{folds.name} is a cross-validation and {single.name} is scored on one set of images; compare either"
        " cross-validations or single runs"
    )


def compare_with_first(paths: Sequence[str | Path], resampling: Resampling | None = None) -> list[Comparison]:
    """Compare every further evaluation with the first one; see `compare_runs`.

    Args:
        paths: At least two evaluations or cross-validations, no path twice.
        resampling: How the intervals are made; always BCa.
    """
    chosen = resampling or Resampling()
    if len(paths) < 2:
        raise ValueError(f"expected at least two runs to compare, got {len(paths)}")
    return [
        compare_runs(paths[0], path, n_resamples=chosen.n_resamples, level=chosen.level, seed=chosen.seed)
        for path in paths[1:]
    ]


def read_scores(path: str | Path) -> Evaluation | ScoredFolds:
    """Read an evaluation, or every fold of a cross-validation; see `compare_runs` for the path."""
    return read_scored_folds(path) if is_cross_validation(path) else read_evaluation(path)


def _compare_evaluations(one: Evaluation, other: Evaluation, resampling: Resampling) -> Comparison:
    check_same_images(one, other)
    say_what_is_left_out(*((side.name, tells_visibility(side)) for side in (one, other)))
    one, other = on_common_ground(one, other)
    check_same(one.contract, other.contract, one.name, other.name)
    check_same_numbers(one, other)
    found = compare_statistics(
        one.sheet.statistics,
        other.sheet.statistics,
        n_images=len(one.sheet.image_ids),
        groups=one.sheet.groups,
        n_resamples=resampling.n_resamples,
        level=resampling.level,
        seed=resampling.seed,
    )
    return Comparison(
        names=(one.name, other.name),
        contract_hash=one.contract[HASH],
        n_images=len(one.sheet.image_ids),
        n_groups=None if one.sheet.groups is None else len(set(one.sheet.groups)),
        n_resamples=resampling.n_resamples,
        level=resampling.level,
        seed=resampling.seed,
        differences=found,
    )


def _compare_cross_validations(one: ScoredFolds, other: ScoredFolds, resampling: Resampling) -> Comparison:
    if one.folds.keys() == other.folds.keys():
        sides = [(side.name, any(map(tells_visibility, side.folds.values()))) for side in (one, other)]
        say_what_is_left_out(*sides)
        pairs = [on_common_ground(one.folds[name], other.folds[name]) for name in one.folds]
        one, other = (
            ScoredFolds(side.name, dict(zip(side.folds, folds, strict=True)))
            for side, folds in zip((one, other), zip(*pairs, strict=True), strict=True)
        )
    found = compare_folds(one, other, resampling)
    return Comparison(
        names=(one.name, other.name),
        contract_hash=one.contract_hash,
        n_images=sum(len(sheet.image_ids) for sheet in one.sheets.values()),
        n_groups=found.n_units if found.unit == "group" else None,
        n_resamples=resampling.n_resamples,
        level=resampling.level,
        seed=resampling.seed,
        differences=found.differences,
        n_folds=len(one.sheets),
        unit=found.unit,
    )
