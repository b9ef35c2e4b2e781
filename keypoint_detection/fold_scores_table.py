"""The scores of a cross-validation as text, as CSV and as JSON."""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keypoint_detection.evaluation_report import FEW_UNITS
from keypoint_detection.files import write_text
from keypoint_detection.fold_scores import FoldScores, FoldSummary

HEADINGS = ("metric", "mean", "sd", "interval", "lowest", "highest")

CSV_HEADINGS = ("metric", "mean", "sd", "low", "high", "lowest_fold", "lowest", "highest_fold", "highest")
"""The columns before those of the folds."""


def fold_table(scores: FoldScores) -> str:
    """Return the scores over all channels as aligned text with their meaning, no newline at the end."""
    rows = [list(HEADINGS)]
    rows += [_cells(metric, one) for metric, one in scores.metrics.items() if "/" not in metric]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, mean, sd, *others in rows:
        numbers = [cell.rjust(width) for cell, width in zip((mean, sd), widths[1:3], strict=True)]
        texts = [cell.ljust(width) for cell, width in zip(others, widths[3:], strict=True)]
        lines.append("  ".join([name.ljust(widths[0]), *numbers, *texts]).rstrip())
    return "\n".join([*lines, "", *_notes(scores)])


def _cells(metric: str, one: FoldSummary) -> list[str]:
    ends = "-"
    if math.isfinite(one.low) and math.isfinite(one.high):
        ends = f"{_text(one.low)} to {_text(one.high)}"
    extremes = [
        "-" if fold is None else f"{_text(one.values[fold])} ({fold})" for fold in (one.lowest, one.highest)
    ]
    return [metric, _text(one.mean), _text(one.spread), ends, *extremes]


def _text(number: float) -> str:
    return format(number, ".4g") if math.isfinite(number) else "-"


def _notes(scores: FoldScores) -> list[str]:
    made, level = scores.resampling, 100 * scores.resampling.level
    drawn = {
        "image": f"the {scores.n_units} images, drawn within each fold",
        "group": f"the {scores.n_units} groups of images, drawn within each fold",
        "fold": f"the {scores.n_units} folds themselves, as a fold holds one group or image only",
    }[scores.unit]
    few = [f"So few make intervals too narrow; trust them from {FEW_UNITS} on."]
    partial = sorted(metric for metric, one in scores.metrics.items() if _is_partial(one, metric))
    return [
        "mean, sd: over the folds, each of which is scored by the last weights of its own training.",
        f"interval: {level:g} % of the mean, from {made.n_resamples} resamples of {drawn}.",
        *few * (scores.n_units < FEW_UNITS),
        "It does not show how much another training would differ by chance, nor that folds share training"
        " images.",
        *([f"not defined in every fold, and averaged over the others: {', '.join(partial)}"] * bool(partial)),
    ]


def _is_partial(one: FoldSummary, metric: str) -> bool:
    undefined = sum(map(math.isnan, one.values.values()))
    return "/" not in metric and 0 < undefined < len(one.values)


def write_fold_csv(scores: FoldScores, path: str | Path) -> None:
    """Write a row per metric, those of channels included, with the number of every fold.

    What is undefined is an empty cell.
    """
    folds = list(next(iter(scores.metrics.values())).values) if scores.metrics else []
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*CSV_HEADINGS, *folds])
    for metric, one in scores.metrics.items():
        ends = [(fold, one.values[fold]) if fold else ("", math.nan) for fold in (one.lowest, one.highest)]
        numbers = [one.mean, one.spread, one.low, one.high]
        writer.writerow(
            [metric, *_written(numbers), *_written(sum(ends, ())), *_written(one.values.values())]
        )
    write_text(path, text.getvalue())


def _written(cells: Any) -> Sequence[Any]:
    """Return the cells with every digit of a number, and nothing for one that is undefined."""
    return [cell if isinstance(cell, str) else repr(cell) if math.isfinite(cell) else "" for cell in cells]


def fold_scores_content(scores: FoldScores) -> dict[str, Any]:
    """Return the scores as plain values for a JSON file; what is undefined becomes None."""
    made = scores.resampling
    return {
        "unit": scores.unit,
        "units": scores.n_units,
        "resamples": made.n_resamples,
        "level": made.level,
        "method": made.method,
        "seed": made.seed,
        "metrics": {metric: _content(one) for metric, one in scores.metrics.items()},
    }


def _content(one: FoldSummary) -> dict[str, Any]:
    defined = math.isfinite(one.low) and math.isfinite(one.high)
    return {
        "mean": _number(one.mean),
        "sd": _number(one.spread),
        "interval": [one.low, one.high] if defined else None,
        "lowest_fold": one.lowest,
        "highest_fold": one.highest,
        "folds": {name: _number(value) for name, value in one.values.items()},
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
