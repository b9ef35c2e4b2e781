"""Figures of visibility: scores of folds by group, and confusion matrices."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.figures import _quiet, _wrapped, check_suffix
from keypoint_detection.files import atomic_write
from keypoint_detection.utils.colours import palette

Theme = Literal["light", "dark"]

COLOURS = {
    "light": {
        **{"ground": "#ffffff", "ink": "#1c1d1f", "line": "#d5d6d8", "map": "Blues"},
        **{"visible": "#0072b2", "not visible": "#e69f00"},
    },
    "dark": {
        **{"ground": "#212429", "ink": "#ecedef", "line": "#3a3f47", "map": "Blues_r"},
        **{"visible": "#56b4e9", "not visible": "#e69f00"},
    },
}
"""Of each theme. Blue and orange are told apart with every colour vision deficiency."""

_MARKERS = "osD^vPX*"


class FoldScore(NamedTuple):
    """Hold a score of a fold and its interval; NaN ends where there is none."""

    value: float
    low: float
    high: float


def draw_fold_strips(
    panels: Mapping[str, Mapping[str, Mapping[str, FoldScore | Sequence[float]]]],
    path: Path,
    *,
    title: str = "",
    theme: Theme = "light",
) -> None:
    """Draw a panel per metric, a row per group, and in it each fold's score with its interval.

    A bar marks the mean over the folds of the group. A fold has one colour, shape and height in every row.

    Args:
        panels: (value, low, high) by metric, group and fold.
        path: .png, .svg or .pdf.
        title: Line above the panels.
        theme: Colours of ground and letters.

    Raises:
        ValueError: There is no panel, or the suffix is another one.
    """
    if not panels:
        raise ValueError("expected at least one metric to draw, got none")
    folds = list(dict.fromkeys(fold for groups in panels.values() for row in groups.values() for fold in row))
    most = max(len(groups) for groups in panels.values())
    row_inches = max(0.5, 0.1 * len(folds) + 0.2)
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    size = (1.6 + 3.0 * columns, rows * (0.8 + row_inches * most) + 0.6)
    with open_figure(path, size, theme) as figure:
        for index, (metric, groups) in enumerate(panels.items()):
            axes = figure.add_subplot(rows, columns, index + 1)
            _draw_strips(axes, groups, folds, theme)
            axes.set_title(_wrapped(metric, 40), fontsize=10)
            axes.tick_params(axis="y", length=0, labelleft=index % columns == 0)
        if title:
            figure.suptitle(_wrapped(title, 30 * columns), fontsize=11)
        _fold_legend(figure, folds)


def _draw_strips(
    axes: Any, groups: Mapping[str, Mapping[str, Any]], folds: Sequence[str], theme: Theme
) -> None:
    colours = palette(len(folds))
    for row, scores in enumerate(groups.values()):
        for fold, (value, low, high) in scores.items():
            index = folds.index(fold)
            y = row + (0.6 * (index / (len(folds) - 1) - 0.5) if len(folds) > 1 else 0.0)
            if math.isfinite(low) and math.isfinite(high):
                axes.plot((low, high), (y, y), color=colours[index], linewidth=2, alpha=0.75, zorder=2)
            if math.isfinite(value):
                axes.plot([value], [y], zorder=3, **marker_style(index, colours[index], theme))
        values = [score[0] for score in scores.values() if math.isfinite(score[0])]
        if len(values) > 1:
            mean = sum(values) / len(values)
            axes.plot((mean, mean), (row - 0.42, row + 0.42), color=COLOURS[theme]["ink"], linewidth=1.4)
        if row:
            axes.axhline(row - 0.5, color=COLOURS[theme]["line"], linewidth=0.8)
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), [_wrapped(name, 30) for name in groups], fontsize=8)
    axes.grid(axis="x")
    axes.locator_params(axis="x", nbins=5)


def marker_style(index: int, colour: str, theme: Theme) -> dict[str, Any]:
    """Return how matplotlib draws the points of one fold or view."""
    return {
        "marker": _MARKERS[index % len(_MARKERS)],
        "color": colour,
        "markeredgecolor": COLOURS[theme]["ink"],
        "markeredgewidth": 0.5,
        "markersize": 5.5,
        "linestyle": "none",
    }


def _fold_legend(figure: Any, folds: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    if not 0 < len(folds) <= 60:
        return
    handles = [
        Line2D([], [], **marker_style(index, colour, "light"))
        for index, colour in enumerate(palette(len(folds)))
    ]
    longest = min(max(map(len, folds)), 24)
    columns = max(1, min(len(folds), int(figure.get_figwidth() / (0.065 * longest + 0.55))))
    place = "outside lower center"
    legend = figure.legend(handles, ["x"] * len(folds), loc=place, ncols=columns, fontsize=8, frameon=False)
    for text, fold in zip(legend.get_texts(), folds, strict=True):
        text.set_text(_wrapped(fold, 24))  # set afterwards: matplotlib hides names that begin with "_"


def draw_confusions(counts: Mapping[str, NDArray[np.integer]], path: Path, *, theme: Theme = "light") -> None:
    """Draw confusion matrices side by side; shades and percentages are shares of the true class.

    Args:
        counts: `[2, 2]` by name: row the label, column the prediction, 0 not visible and 1 visible.
        path: .png, .svg or .pdf.
        theme: Colours of ground and letters.

    Raises:
        ValueError: There is no matrix, or the suffix is another one.
    """
    if not counts:
        raise ValueError("expected at least one confusion matrix to draw, got none")
    columns = min(4, len(counts))
    rows = math.ceil(len(counts) / columns)
    with open_figure(path, (0.7 + 2.3 * columns, 0.5 + 2.3 * rows), theme) as figure:
        for index, (name, matrix) in enumerate(counts.items()):
            axes = figure.add_subplot(rows, columns, index + 1)
            _draw_confusion(axes, np.asarray(matrix), theme)
            axes.set_title(_wrapped(name, 26), fontsize=10)
            axes.set_yticks(
                (0, 1), ("not\nvisible", "visible") if index % columns == 0 else ("", ""), fontsize=8
            )
        figure.supxlabel("predicted", fontsize=9)
        figure.supylabel("true", fontsize=9)


def _draw_confusion(axes: Any, matrix: NDArray[np.integer], theme: Theme) -> None:
    total = matrix.sum(1, keepdims=True)
    share = np.divide(matrix, total, out=np.zeros((2, 2)), where=total > 0)
    axes.imshow(share, cmap=COLOURS[theme]["map"], vmin=0, vmax=1)
    strong, weak = ("#ffffff", "#1c1d1f") if theme == "light" else ("#1c1d1f", "#ffffff")
    for (row, column), value in np.ndenumerate(share):
        text = f"{100 * value:.1f} %\n{matrix[row, column]:,}" if total[row] else "no point"
        colour = strong if value > 0.55 else weak
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks((0, 1), ("not visible", "visible"), fontsize=8)
    axes.tick_params(length=0)
    axes.grid(visible=False)


@contextmanager
def open_figure(path: Path, size: tuple[float, float], theme: Theme) -> Iterator[Any]:
    """Yield an empty figure of a size in inches and write it; the same figure gives the same bytes."""
    check_suffix(path)
    colours = COLOURS[theme]
    ink = dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), colours["ink"]
    )
    with _quiet():
        import matplotlib as mpl
        from matplotlib.figure import Figure

        style: dict[Any, Any] = {
            **ink,
            "axes.facecolor": colours["ground"],
            "grid.color": colours["line"],
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.labelsize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "svg.hashsalt": "keypoint_detection",
        }
        dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        with mpl.rc_context(style):
            figure = Figure(figsize=size, dpi=130, layout="constrained")
            yield figure
            with atomic_write(path) as temporary:
                metadata = dates.get(path.suffix.lower())
                figure.savefig(temporary, facecolor=colours["ground"], metadata=metadata)
