"""Runs in one figure: a panel per metric, a row per run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from keypoint_detection.compare import read_scores
from keypoint_detection.compare_reading import Evaluation
from keypoint_detection.compare_table import lower_is_better
from keypoint_detection.figures import Strip, strip_plot
from keypoint_detection.fold_scores import FoldScores, Resampling, summarise_folds

ALL_IMAGES = "all images"
"""Name of the only dot of a run that is no cross-validation."""


def draw_runs(paths: Sequence[str | Path], output: str | Path, resampling: Resampling | None = None) -> None:
    """Draw evaluations and cross-validations as one strip plot.

    A cross-validation has a dot per fold, and its mean over the folds with the interval; any other run has
    one dot, with its interval.

    Args:
        paths: As `compare_runs` takes them.
        output: PNG file.
        resampling: How the intervals are made.
    """
    chosen = resampling or Resampling()
    strips = [_strips(path, chosen) for path in paths]
    draw_strips(strips, output, chosen.level)


def draw_strips(strips: Sequence[Mapping[str, Strip]], output: str | Path, level: float) -> None:
    """Draw the metrics that all runs have, with the meaning of line and bar and of the direction.

    Args:
        strips: The rows of each run by metric.
        output: PNG file.
        level: Coverage of the intervals.
    """
    metrics = [name for name in strips[0] if all(name in run for run in strips)]
    single = {list(strip.names) == [ALL_IMAGES] for run in strips for strip in run.values()}
    kinds = {True: "over all images", False: "mean over the folds"}
    line = "line: " + " or ".join(text for is_single, text in kinds.items() if is_single in single)
    panels = {
        f"{name} (lower is better)" if lower_is_better(name) else name: [run[name] for run in strips]
        for name in metrics
    }
    strip_plot(panels, Path(output), title=f"{line}; bar: its {100 * level:g} % interval")


def fold_strips(label: str, scores: FoldScores) -> dict[str, Strip]:
    """Return the row of a cross-validation for every metric that any fold has; channels have none."""
    found = {}
    for metric, summary in scores.metrics.items():
        dots = {name: value for name, value in summary.values.items() if not math.isnan(value)}
        if "/" not in metric and dots:
            ends = _ends(summary.low, summary.high)
            found[metric] = Strip(label, list(dots.values()), list(dots), summary.mean, ends)
    return found


def _strips(path: str | Path, resampling: Resampling) -> Mapping[str, Strip]:
    scores = read_scores(path)
    if not isinstance(scores, Evaluation):
        return fold_strips(str(path), summarise_folds(scores.sheets, resampling))
    intervals = scores.sheet.intervals(
        resampling.n_resamples, resampling.level, method=resampling.method, seed=resampling.seed
    )
    return {
        metric: Strip(str(path), [value], [ALL_IMAGES], value, _ends(low, high))
        for metric, (value, low, high) in intervals.items()
        if "/" not in metric and not math.isnan(value)
    }


def _ends(low: float, high: float) -> tuple[float, float] | None:
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
