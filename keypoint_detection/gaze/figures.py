"""Figures of gaze: in/out against the truth, how far predictions are off, and whether the spread tells it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.utils.colours import palette
from keypoint_detection.visibility.figures import COLOURS, Theme, open_figure

_SIZE = (4.6, 3.6)
_BINS = 10
_SHAPES = ("-", "--", ":", "-.")


def draw_in_out(
    p_in: NDArray[np.float64], is_inside: NDArray[np.bool_], path: Path, *, theme: Theme = "light"
) -> None:
    """Draw the share of people who look into the picture against what was predicted, with 95 % intervals.

    Args:
        p_in: Predicted, `[p]` in [0, 1].
        is_inside: In truth, `[p]`.
        path: .png, .svg or .pdf.
        theme: Colours of ground and letters.
    """
    place = np.minimum((p_in * _BINS).astype(np.int64), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    known = np.flatnonzero(count)
    said, share = (np.bincount(place, one, _BINS)[known] / count[known] for one in (p_in, is_inside))
    low, high = wilson(share, count[known])
    colours = COLOURS[theme]
    with open_figure(path, _SIZE, theme) as figure:
        grid = figure.add_gridspec(2, 1, height_ratios=(3, 1))
        axes = figure.add_subplot(grid[0])
        axes.plot((0, 1), (0, 1), color=colours["ink"], linewidth=1, linestyle="--", label="as it should be")
        ends = np.clip([share - low, high - share], 0, None)
        ink = colours["visible"]
        axes.errorbar(said, share, ends, fmt="o-", color=ink, linewidth=1.4, capsize=3, label="measured")
        axes.set(ylabel="share that is inside", xlim=(0, 1), ylim=(-0.02, 1.02))
        axes.legend(fontsize=8, frameon=False, loc="upper left")
        below = figure.add_subplot(grid[1], sharex=axes)
        below.bar(np.arange(_BINS) / _BINS, count, 1 / _BINS, align="edge", color=ink)
        below.set(xlabel="predicted to be inside", ylabel="people")


def draw_within(distances: Mapping[str, NDArray[np.float64]], path: Path, *, theme: Theme = "light") -> None:
    """Draw the share of people whose prediction is within each distance of the nearest annotator.

    Args:
        distances: By name, NaN for who does not count, `[p]`; somebody does.
        path: .png, .svg or .pdf.
        theme: Colours of ground and letters.
    """
    with open_figure(path, _SIZE, theme) as figure:
        axes = figure.add_subplot()
        inks = [COLOURS[theme]["visible"], COLOURS[theme]["not visible"], *palette(8)[2:]]
        farthest = 1.02 * max(float(np.nanmax(distance)) for distance in distances.values())
        for index, (name, distance) in enumerate(distances.items()):
            known = np.array([0.0, *np.sort(distance[~np.isnan(distance)]), farthest])
            share = np.arange(len(known)).clip(max=len(known) - 2) / (len(known) - 2)
            style = _SHAPES[index % len(_SHAPES)]
            axes.step(known, share, style, where="post", color=inks[index % len(inks)], label=name)
        axes.set(xlabel="distance to the nearest annotator", ylabel="share of people", ylim=(0, 1.02))
        axes.set_xlim(0, farthest)
        axes.legend(fontsize=8, frameon=False, loc="lower right")


def draw_spread(
    spread: NDArray[np.float64], distance: NDArray[np.float64], path: Path, *, theme: Theme = "light"
) -> None:
    """Draw how far each person's prediction is off against how far its maps are apart.

    Args:
        spread: `[p]`; NaN is left out.
        distance: To the nearest annotator, `[p]`; NaN is left out.
        path: .png, .svg or .pdf.
        theme: Colours of ground and letters.
    """
    with open_figure(path, _SIZE, theme) as figure:
        axes = figure.add_subplot()
        ink: Any = COLOURS[theme]["visible"]
        axes.plot(spread, distance, "o", color=ink, markersize=4, alpha=0.5, markeredgewidth=0)
        ends = (0, max(1e-3, 1.03 * float(np.nanmax([spread, distance]))))
        axes.plot(ends, ends, color=COLOURS[theme]["ink"], linewidth=1, linestyle="--")
        axes.set(xlabel="spread of the maps", ylabel="distance to the nearest annotator")
        axes.set(xlim=ends, ylim=ends)


def wilson(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the ends of the 95 % interval of shares of counts, after Wilson (1927)."""
    z = 1.959964
    middle, scale = share + z * z / (2 * count), 1 + z * z / count
    half = z * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (middle - half) / scale, (middle + half) / scale
