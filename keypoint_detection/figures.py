"""Figures on disk: strip plots of runs and folds. The only file that imports matplotlib, inside functions."""

import logging
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.files import atomic_write
from keypoint_detection.utils.colours import palette
from keypoint_detection.utils.visualization_text import ascii_text

SUFFIXES = (".png", ".svg", ".pdf")
"""Kinds of file that a figure is written as."""

_MARKERS = "osD^vPX*"  # 8 shapes against 21 colours: 168 pairs before one comes again
_INK, _PALE = "#222222", "#bbbbbb"
_MOST_LEGEND_NAMES = 60
_LABEL_LETTERS = 34  # in a line of a row's label


@dataclass(frozen=True)
class Strip:
    """Hold one row of a strip plot.

    Attributes:
        label: The run or the group of runs.
        values: One dot each; a value that is not finite is left out.
        names: The fold or group of each dot; it gives the dot its colour and shape, and is in the legend.
        centre: Mean or pooled value, drawn as a bar.
        interval: Lower and upper end, drawn as a line through the bar.
    """

    label: str
    values: Sequence[float]
    names: Sequence[str]
    centre: float | None = None
    interval: tuple[float, float] | None = None


def strip_plot(panels: Mapping[str, Sequence[Strip]], path: Path, *, title: str = "") -> None:
    """Write a figure with one panel per metric, one row per run and one dot per value.

    Args:
        panels: The rows of each metric by the metric's name, in order.
        path: The file; its suffix gives the kind: .png, .svg or .pdf.
        title: Line above the panels.

    Raises:
        ValueError: There is no panel, a strip has not as many names as values, or the suffix is another one.
    """
    _check(panels, path)
    names = list(
        dict.fromkeys(name for strips in panels.values() for strip in strips for name in strip.names)
    )
    n_columns = min(len(panels), 3)
    n_rows = math.ceil(len(panels) / n_columns)
    most = max(len(strips) for strips in panels.values())
    with _quiet():
        from matplotlib.figure import Figure

        size = (_label_inches(panels) + 3.2 * n_columns, n_rows * (1.0 + 0.36 * most) + 0.6)
        figure = Figure(figsize=size, dpi=120, layout="constrained")
        shared = len({tuple(strip.label for strip in strips) for strips in panels.values()}) == 1
        for index, (metric, strips) in enumerate(panels.items()):
            axes = figure.add_subplot(n_rows, n_columns, index + 1)
            _draw_panel(axes, metric, strips, names)
            axes.tick_params(axis="y", labelleft=not shared or index % n_columns == 0)
        if title:
            figure.suptitle(_wrapped(title, 40 * n_columns), fontsize=11)
        _add_legend(figure, names)
        _save(figure, path)


def _check(panels: Mapping[str, Sequence[Strip]], path: Path) -> None:
    if not panels:
        raise ValueError("expected at least one panel to plot, got none")
    check_suffix(path)
    for metric, strips in panels.items():
        for strip in strips:
            if len(strip.names) != len(strip.values):
                raise ValueError(
                    f"expected one name per value in the strip {strip.label!r} of {metric!r}, got "
                    f"{len(strip.names)} names and {len(strip.values)} values"
                )


def check_suffix(path: Path) -> None:
    """Refuse a path that is no picture by its name with a ValueError."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"expected a figure's file to end in {', '.join(SUFFIXES)}, got {path}")


def _label_inches(panels: Mapping[str, Sequence[Strip]]) -> float:
    longest = max((len(strip.label) for strips in panels.values() for strip in strips), default=0)
    return 0.5 + 0.07 * min(longest, _LABEL_LETTERS)


def _draw_panel(axes: Any, metric: str, strips: Sequence[Strip], names: Sequence[str]) -> None:
    _draw_bars(axes, strips)
    _draw_dots(axes, strips, names)
    axes.set_title(_wrapped(metric, 40), fontsize=10)
    axes.set_ylim(len(strips) - 0.4, -0.6)  # the first row at the top
    axes.set_yticks(
        range(len(strips)), [_wrapped(strip.label, _LABEL_LETTERS) for strip in strips], fontsize=8
    )
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _draw_bars(axes: Any, strips: Sequence[Strip]) -> None:
    """Draw the intervals and, over them, the centres; what is not finite is left out."""
    for row, strip in enumerate(strips):
        if strip.interval is not None and all(math.isfinite(end) for end in strip.interval):
            axes.plot(strip.interval, (row, row), color=_PALE, linewidth=5, solid_capstyle="butt", zorder=1)
        if strip.centre is not None and math.isfinite(strip.centre):
            x = strip.centre
            axes.plot((x, x), (row - 0.33, row + 0.33), color=_INK, linewidth=1.6, zorder=2)


def _draw_dots(axes: Any, strips: Sequence[Strip], names: Sequence[str]) -> None:
    """Draw the values; a name has the same colour, shape and height in every row."""
    for index, (name, color) in enumerate(zip(names, palette(len(names)), strict=True)):
        offset = 0.5 * (index / (len(names) - 1) - 0.5) if len(names) > 1 else 0.0
        places = [
            (value, row + offset)
            for row, strip in enumerate(strips)
            for value, of in zip(strip.values, strip.names, strict=True)
            if of == name and math.isfinite(value)
        ]
        axes.plot([x for x, _ in places], [y for _, y in places], zorder=3, **_marker(index, color))


def _marker(index: int, color: str) -> dict[str, Any]:
    return {
        "marker": _MARKERS[index % len(_MARKERS)],
        "color": color,
        "markeredgecolor": _INK,
        "markeredgewidth": 0.5,
        "markersize": 6,
        "linestyle": "none",
    }


def _add_legend(figure: Any, names: Sequence[str]) -> None:
    """Name the dots below the panels; so many names that nobody would look them up are left out."""
    from matplotlib.lines import Line2D

    if not 0 < len(names) <= _MOST_LEGEND_NAMES:
        return
    colors = palette(len(names))
    handles = [Line2D([], [], **_marker(index, colors[index])) for index in range(len(names))]
    longest = min(max(len(name) for name in names), 24)
    fitting = int(figure.get_figwidth() / (0.065 * longest + 0.55))  # inches
    per_row = max(1, min(len(names), fitting))
    place = "outside lower center"
    legend = figure.legend(handles, ["x"] * len(names), loc=place, ncols=per_row, fontsize=8, frameon=False)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(_wrapped(name, 24))  # set afterwards: matplotlib hides names that begin with "_"


def _wrapped(text: str, width: int) -> str:
    """Return a text in lines of at most `width` letters that the font has, no dollar read as mathematics."""
    lines = textwrap.wrap(_in_font(text), width, break_on_hyphens=True) or [""]
    return "\n".join(lines).replace("$", r"\$")


def _in_font(text: str) -> str:
    """Spell the letters that the font in use lacks; it would draw an empty box for each."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    if text.isascii():
        return text
    font = get_font(findfont(FontProperties()))
    return "".join(
        letter if letter.isspace() or font.get_char_index(ord(letter)) else ascii_text(letter)
        for letter in text
    )


def _save(figure: Any, path: Path) -> None:
    """Write a figure atomically; the same figure gives the same bytes."""
    import matplotlib as mpl

    dates = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with atomic_write(path) as temporary, mpl.rc_context({"svg.hashsalt": "keypoint_detection"}):
        figure.savefig(temporary, facecolor="white", metadata=dates.get(path.suffix.lower()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what matplotlib says about fonts and layout to itself."""
    logger = logging.getLogger("matplotlib")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
