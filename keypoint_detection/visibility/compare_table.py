"""A comparison of groups as Markdown, in words and as CSV."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from keypoint_detection.evaluation_report import FEW_UNITS
from keypoint_detection.files import write_text
from keypoint_detection.metrics.binary_classification import SCORES
from keypoint_detection.metrics.bootstrap import Interval
from keypoint_detection.visibility.compare import GroupComparison
from keypoint_detection.visibility.compare_difference import LOWER_IS_BETTER, GroupDifference

CSV_FILE, MARKDOWN_FILE = "comparison.csv", "comparison.md"
ALL_FOLDS = "mean over folds"
CSV_HEADINGS = (
    *("group", "fold", "metric", "value", "low", "high"),
    *("best", "minus_best", "minus_best_low", "minus_best_high", "p", "resolvable", "verdict"),
)
"""The columns from `best` on belong to rows over all folds."""

BEST, SHOWN, NOT_SHOWN, UNDEFINED = "best", "differs", "no difference shown", "undefined"


def write_comparison(comparison: GroupComparison, folder: str | Path) -> None:
    """Write `comparison.csv` and `comparison.md`, each atomically."""
    write_text(Path(folder) / CSV_FILE, comparison_csv(comparison))
    write_text(Path(folder) / MARKDOWN_FILE, comparison_markdown(comparison))


def verdict(found: GroupDifference) -> str:
    """Return "differs" where the interval leaves out 0, "undefined" without one, else that none is shown."""
    if math.isnan(found.difference.low):
        return UNDEFINED
    return SHOWN if found.is_shown else NOT_SHOWN


def comparison_csv(comparison: GroupComparison) -> str:
    """Return a row per metric, group and fold, and one per metric and group over all folds.

    Numbers have all their digits; what is undefined is an empty cell.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_HEADINGS)
    writer.writerows(_csv_rows(comparison))
    return text.getvalue()


def _csv_rows(comparison: GroupComparison) -> Iterator[Sequence[str]]:
    differences = {(found.group, found.metric): found for found in comparison.differences}
    best = {found.metric: found.best for found in comparison.differences}
    for group, metric, overall, folds in comparison.scores:
        found = differences.get((group, metric))
        if found is not None:
            numbers = [_exact(number) for number in found.difference[2:]]
            ends = [found.best, *numbers, verdict(found)]
        else:
            ends = [group, *[""] * 5, BEST] if best.get(metric) == group else [""] * 7
        yield [group, ALL_FOLDS, metric, *map(_exact, overall), *ends]
        for fold, interval in folds.items():
            yield [group, fold, metric, *map(_exact, interval), *[""] * 7]


def _exact(number: float) -> str:
    return repr(number) if math.isfinite(number) else ""


def comparison_markdown(comparison: GroupComparison) -> str:
    """Return means over the folds, what differs in words, and a table of folds per metric."""
    lines = ["# Groups compared", "", *_drawing(comparison), "", *_overall_table(comparison), ""]
    if len(comparison.groups) > 1:
        lines += ["## What differs from the best", ""]
        lines += [f"- {sentence}" for sentence in comparison_words(comparison)]
        lines += ["", *_difference_table(comparison), ""]
    if len(comparison.folds) > 1:
        for metric in SCORES:
            lines += [f"## {metric} of each fold", "", *_fold_table(comparison, metric), ""]
    return "\n".join(lines)


def overall_text(comparison: GroupComparison, metrics: Sequence[str] = SCORES) -> str:
    """Return the means over the folds with their intervals, a line per metric and group."""
    rows = [row for row in comparison.scores if row.metric in metrics]
    widths = [max(len(text) for text in texts) for texts in zip(*(row[:2] for row in rows), strict=True)]
    lines = [f"{row.metric:<{widths[1]}}  {row.group:<{widths[0]}}  {_cell(row.overall)}" for row in rows]
    return "\n".join([*_drawing(comparison)[:2], *lines])


def comparison_words(comparison: GroupComparison) -> list[str]:
    """Return a sentence per metric: the best group, which others differ from it, and which may not."""
    overall = {(row.group, row.metric): row.overall.value for row in comparison.scores}
    sentences = []
    for metric in SCORES:
        found = [difference for difference in comparison.differences if difference.metric == metric]
        if not found:
            continue
        best = found[0].best
        way = "lowest" if metric in LOWER_IS_BETTER else "highest"
        parts = [f"{metric}: {best} is {way} ({_short(overall[best, metric])})"]
        for kind, text in (
            (SHOWN, "beyond the interval differ"),
            (NOT_SHOWN, "not shown to differ"),
            (UNDEFINED, "not comparable"),
        ):
            named = [_named(one) for one in found if verdict(one) == kind]
            if named:
                parts.append(f"{text}: {', '.join(named)}")
        sentences.append("; ".join(parts) + ".")
    return sentences


def _named(found: GroupDifference) -> str:
    value, low, high = found.difference[2:5]
    if math.isnan(low):
        return found.group
    return f"{found.group} ({value:+.3g}, {low:+.3g} to {high:+.3g})"


def _drawing(comparison: GroupComparison) -> list[str]:
    """Return what was compared, and what the intervals stand on."""
    made, n_folds = comparison.resampling, len(comparison.folds)
    drawn = {
        "image": f"the {comparison.n_units} images",
        "group": f"the {comparison.n_units} views, drawn within each fold",
        "fold": f"the {comparison.n_units} folds themselves, as a fold holds one view only",
    }[comparison.unit]
    folds = f"means over {n_folds} folds" if n_folds > 1 else "one fold"
    few = f"So few make intervals too narrow; trust them from {FEW_UNITS} on."
    return [
        f"{comparison.n_points} points of {comparison.n_images} images, the same for every group; {folds}.",
        f"Intervals of {100 * made.level:g} % from {made.n_resamples} resamples of {drawn}; those of single"
        " folds from their images.",
        *[few] * (comparison.n_units < FEW_UNITS),
        f"Lower is better for {', '.join(LOWER_IS_BETTER)}; higher for all others.",
    ]


def _overall_table(comparison: GroupComparison) -> list[str]:
    cells = {(row.group, row.metric): _cell(row.overall) for row in comparison.scores}
    rows = [[group, *(cells[group, metric] for metric in SCORES)] for group in comparison.groups]
    return _markdown_table(["group", *SCORES], rows)


def _difference_table(comparison: GroupComparison) -> list[str]:
    rows = [
        [
            *(found.metric, found.group, found.best),
            *(_short(found.difference.difference, "+.3g"), _ends(*found.difference[3:5], form="+.3g")),
            *(_short(found.difference.p_value, ".2g"), _short(found.difference.resolvable, ".2g")),
            verdict(found),
        ]
        for found in comparison.differences
    ]
    headings = ["metric", "group", "best", "group - best", "interval", "p", "resolvable", "verdict"]
    return [
        *_markdown_table(headings, rows),
        "",
        "interval: of the difference on the same resamples; it differs where 0 is left out. p: chance of so"
        " large a difference if there were none. resolvable: the smallest true difference that as many units"
        " show in 80 % of the cases. The best is chosen on these same points, which favours it a little;"
        " nothing is corrected for the number of groups and metrics: of many some differ by chance.",
    ]


def _fold_table(comparison: GroupComparison, metric: str) -> list[str]:
    rows = [
        [row.group, *(_cell(row.folds[fold]) for fold in comparison.folds)]
        for row in comparison.scores
        if row.metric == metric
    ]
    return _markdown_table(["group", *comparison.folds], rows)


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] * len(headings), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _cell(interval: Interval) -> str:
    ends = _ends(interval.low, interval.high)
    return _short(interval.value) + (f" ({ends})" if ends != "-" else "")


def _ends(low: float, high: float, form: str = ".3g") -> str:
    return "-" if math.isnan(low) or math.isnan(high) else f"{low:{form}} to {high:{form}}"


def _short(number: float, form: str = ".3g") -> str:
    return format(number, form) if math.isfinite(number) else "-"
