"""The text and the file of a comparison."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keypoint_detection.compare import Comparison
from keypoint_detection.evaluation_report import FEW_UNITS
from keypoint_detection.files import write_json
from keypoint_detection.metrics.paired_bootstrap import Difference

LOWER_IS_BETTER = ("error", "rmse", "nme", "missed")
"""Metrics with one of these in their name get better downwards, all others upwards."""

HEADINGS = ("metric", "A", "B", "B - A", "interval", "p", "resolvable", "B is")


def lower_is_better(metric: str) -> bool:
    """Return whether a metric such as `mean_error_px` or `stem/mean_error_px` gets better downwards."""
    return any(word in metric.rsplit("/", 1)[-1] for word in LOWER_IS_BETTER)


def verdict(metric: str, difference: Difference) -> str:
    """Return what an interval says of B against A.

    Args:
        metric: Name of the number; its end, after a channel's name, says which direction is better.
        difference: B minus A.

    Returns:
        "better" or "worse" where the interval leaves out 0, "undefined" where there is no difference,
        else "no difference shown".
    """
    if math.isnan(difference.difference):
        return "undefined"
    if difference.low > 0:
        return "worse" if lower_is_better(metric) else "better"
    if difference.high < 0:
        return "better" if lower_is_better(metric) else "worse"
    return "no difference shown"


def comparison_table(comparison: Comparison, per_channel: bool = False) -> str:
    """Return a comparison as aligned text with the meaning of its columns, without a newline at the end.

    Args:
        comparison: Of `compare_runs`.
        per_channel: Show the rows of single channels too.
    """
    return comparison_tables([comparison], per_channel)


def comparison_tables(comparisons: Sequence[Comparison], per_channel: bool = False) -> str:
    """Return comparisons with one first run as a table each, and once what their columns mean.

    Args:
        comparisons: Of `compare_with_first`, at least one.
        per_channel: Show the rows of single channels too.
    """
    tables = [line for comparison in comparisons for line in [*_table(comparison, per_channel), ""]]
    return "\n".join([*tables, *_notes(comparisons[0]), *_notes_of_many(comparisons)])


def _table(comparison: Comparison, per_channel: bool) -> list[str]:
    rows = [list(HEADINGS)]
    rows += [
        _cells(metric, difference)
        for metric, difference in comparison.differences.items()
        if per_channel or "/" not in metric
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    a, b = comparison.names
    return [f"A: {a}", f"B: {b}", "", *(_line(row, widths) for row in rows)]


def _cells(metric: str, difference: Difference) -> list[str]:
    ends = "-"
    if math.isfinite(difference.low) and math.isfinite(difference.high):
        ends = f"{_text(difference.low, '+.4g')} to {_text(difference.high, '+.4g')}"
    return [
        metric,
        _text(difference.value_a),
        _text(difference.value_b),
        _text(difference.difference, "+.4g"),
        ends,
        _text(difference.p_value, ".2g"),
        _text(difference.resolvable, ".2g"),
        verdict(metric, difference),
    ]


def _text(number: float, form: str = ".4g") -> str:
    if number == 0:
        return "0"
    return format(number, form) if math.isfinite(number) else "-"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Align the numbers to the right, the names and verdicts to the left."""
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:-1], widths[1:-1], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *numbers, cells[-1]])


def _notes(comparison: Comparison) -> list[str]:
    units = _number_of_units(comparison)
    return [
        *_drawing(comparison),
        *([f"So few make intervals and p too small; trust them from {FEW_UNITS} on."] * (units < FEW_UNITS)),
        f"interval: holds the true B - A in {100 * comparison.level:g} % of the cases. p: chance"
        " of so large a difference if there were none.",
        "resolvable: the smallest true difference that this many images would show in 80 % of the cases.",
        f"better, worse: the interval leaves out 0. Lower is better for {', '.join(LOWER_IS_BETTER)}; higher"
        " for all others.",
        "Intervals and p are per metric, not corrected: of many metrics some differ by chance.",
        f"metric contract {comparison.contract_hash}",
    ]


def _notes_of_many(comparisons: Sequence[Comparison]) -> list[str]:
    if len(comparisons) < 2:
        return []
    return [
        f"{len(comparisons)} runs against the first, not corrected either: of many some differ by chance."
    ]


def _drawing(comparison: Comparison) -> list[str]:
    """Return how many images there are and what was resampled; a line of its own for means over folds."""
    resamples = (
        f"intervals from {comparison.n_resamples} resamples of the {_drawn(comparison)},"
        " drawn alike for A and B."
    )
    if comparison.n_folds is None:
        return [f"{comparison.n_images} images; {resamples}"]
    return [f"{comparison.n_images} images; means over {comparison.n_folds} folds.", resamples]


def _drawn(comparison: Comparison) -> str:
    if comparison.unit == "fold":
        return "folds"
    drawn = "images" if comparison.n_groups is None else f"{comparison.n_groups} groups"
    return drawn if comparison.unit is None else f"{drawn} within each fold"


def _number_of_units(comparison: Comparison) -> int:
    if comparison.unit == "fold" and comparison.n_folds is not None:
        return comparison.n_folds
    return comparison.n_images if comparison.n_groups is None else comparison.n_groups


def write_comparison(comparison: Comparison, path: str | Path) -> None:
    """Write a comparison as JSON, with the verdict of every metric; what is undefined becomes null."""
    write_json(path, _content(comparison))


def write_comparisons(comparisons: Sequence[Comparison], path: str | Path) -> None:
    """Write one comparison as `write_comparison` does, several as a list under "comparisons"."""
    contents = [_content(comparison) for comparison in comparisons]
    write_json(path, contents[0] if len(contents) == 1 else {"comparisons": contents})


def _content(comparison: Comparison) -> dict[str, Any]:
    folds = {} if comparison.n_folds is None else {"folds": comparison.n_folds, "unit": comparison.unit}
    return {
        "a": comparison.names[0],
        "b": comparison.names[1],
        "contract_hash": comparison.contract_hash,
        "images": comparison.n_images,
        "groups": comparison.n_groups,
        **folds,
        "resamples": comparison.n_resamples,
        "level": comparison.level,
        "seed": comparison.seed,
        "differences": {
            metric: {
                **{
                    name: number if math.isfinite(number) else None
                    for name, number in difference._asdict().items()
                },
                "verdict": verdict(metric, difference),
            }
            for metric, difference in comparison.differences.items()
        },
    }
