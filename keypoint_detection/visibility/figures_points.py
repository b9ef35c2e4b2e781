"""Figures of points: P(visible) by distance, calibration, and how far one can see."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.metrics.binary_classification import CalibrationBins
from keypoint_detection.utils.colours import palette
from keypoint_detection.utils.visualization_text import shortened
from keypoint_detection.visibility.distance import DistanceEstimate
from keypoint_detection.visibility.figures import COLOURS, Theme, marker_style, open_figure

_TOLERANCE = 0.15  # share of the true distance


def draw_distance_histogram(
    depth_m: ArrayLike,
    p_visible: ArrayLike,
    path: Path,
    *,
    label: ArrayLike | None = None,
    theme: Theme = "light",
) -> None:
    """Draw how many points lie at each distance and P(visible), with a histogram along each side.

    Args:
        depth_m: `[n]`; points without a distance are left out.
        p_visible: `[n]` in [0, 1].
        path: .png, .svg or .pdf.
        label: 1 visible, 0 not, `[n]`; the histograms are then split into both.
        theme: Colours of ground and letters.
    """
    depth, p = np.asarray(depth_m, np.float64), np.asarray(p_visible, np.float64)
    kept = np.isfinite(depth) & (depth > 0) & np.isfinite(p)
    classes = None if label is None else np.asarray(label)[kept]
    depth, p = depth[kept], p[kept]
    low, high = (depth.min(), depth.max()) if len(depth) else (1.0, 1e5)
    distances = np.geomspace(low * 0.98, high * 1.02, 51)
    levels = np.linspace(0, 1, 11)
    with open_figure(path, (6.4, 4.4), theme) as figure:
        grid = figure.add_gridspec(2, 2, width_ratios=(4, 1), height_ratios=(1, 3.2))
        middle = figure.add_subplot(grid[1, 0])
        counts = np.histogram2d(depth, p, (distances, levels))[0]
        shown = np.ma.masked_equal(counts.T, 0)
        mesh = middle.pcolormesh(distances, levels, shown, norm="log", cmap=COLOURS[theme]["map"])
        mesh.set_clim(0.5, max(counts.max(), 2))
        middle.set_xscale("log")
        middle.set(xlabel="distance [m]", ylabel="P(visible)", ylim=(0, 1))
        middle.axhline(0.5, color=COLOURS[theme]["not visible"], linewidth=1, linestyle="--")
        figure.colorbar(mesh, ax=middle, label="points", location="bottom", aspect=40, shrink=0.8)
        above = figure.add_subplot(grid[0, 0], sharex=middle)
        beside = figure.add_subplot(grid[1, 1], sharey=middle)
        _draw_marginal(above, depth, classes, distances, theme)
        _draw_marginal(beside, p, classes, levels, theme)
        if classes is not None:
            figure.legend(
                *above.get_legend_handles_labels(),
                fontsize=8,
                frameon=False,
                loc="outside upper right",
                ncols=2,
            )


def _draw_marginal(
    axes: Any,
    values: NDArray[np.float64],
    classes: NDArray[Any] | None,
    edges: NDArray[np.float64],
    theme: Theme,
) -> None:
    """Draw how many points lie between edges: above the figure for distances, beside it for P(visible)."""
    is_above = edges[-1] > 1
    orientation, colours = "vertical" if is_above else "horizontal", COLOURS[theme]
    if classes is None:
        axes.hist(values, edges, orientation=orientation, color=colours["visible"])
    else:
        parts = [values[classes == 1], values[classes == 0]]
        names, inks = ["visible (true)", "not visible (true)"], [colours["visible"], colours["not visible"]]
        axes.hist(parts, edges, stacked=True, orientation=orientation, color=inks, label=names)
    axes.tick_params(labelbottom=not is_above, labelleft=is_above)
    axes.set(**{"ylabel" if is_above else "xlabel": "points"})


def draw_calibration(bins: CalibrationBins, path: Path, *, theme: Theme = "light") -> None:
    """Draw how often points were visible by P(visible), with 95 % intervals, and how many points there are.

    The intervals take points for independent (Wilson, 1927); those of one image are not quite.

    Args:
        bins: As `metrics.binary_classification.calibration_bins` gives them.
        path: .png, .svg or .pdf.
        theme: Colours of ground and letters.
    """
    there = bins.count > 0
    n, share, p = bins.count[there], bins.share_visible[there], bins.p_visible[there]
    low, high = _wilson(share, n)
    with open_figure(path, (4.4, 4.6), theme) as figure:
        grid = figure.add_gridspec(2, 1, height_ratios=(3.4, 1))
        axes = figure.add_subplot(grid[0])
        axes.plot((0, 1), (0, 1), color=COLOURS[theme]["ink"], linewidth=1, linestyle="--", label="perfect")
        ends = np.maximum(np.stack([share - low, high - share]), 0)
        axes.errorbar(
            p,
            share,
            ends,
            fmt="o-",
            color=COLOURS[theme]["visible"],
            linewidth=1.4,
            capsize=3,
            label="measured",
        )
        axes.set(ylabel="share that is visible", xlim=(0, 1), ylim=(-0.02, 1.02))
        axes.legend(fontsize=8, frameon=False, loc="upper left")
        below = figure.add_subplot(grid[1], sharex=axes)
        below.bar(
            bins.edges[:-1], bins.count, np.diff(bins.edges), align="edge", color=COLOURS[theme]["visible"]
        )
        below.set(xlabel="P(visible)", ylabel="points")


def _wilson(
    share: NDArray[np.float64], n: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    z = 1.959964
    middle, scale = share + z * z / (2 * n), 1 + z * z / n
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / scale, (middle + half) / scale


def draw_distances(
    true_m: Sequence[float],
    estimates: Sequence[DistanceEstimate],
    path: Path,
    *,
    views: Sequence[str] = (),
    theme: Theme = "light",
) -> None:
    """Draw estimated against true visibility distance with intervals; open ends are arrows.

    Args:
        true_m: In metres, one per image; images without one (NaN) are left out.
        estimates: One per image.
        path: .png, .svg or .pdf.
        views: Camera view of each image, for the colours; one colour without.
        theme: Colours of ground and letters.

    Raises:
        ValueError: There are not as many estimates, or views, as true distances.
    """
    names = list(views) or ["images"] * len(true_m)
    if not len(true_m) == len(estimates) == len(names):
        raise ValueError(
            f"expected as many estimates and views as true distances, got {len(estimates)} and {len(names)} "
            f"for {len(true_m)}"
        )
    rows = [
        (truth, estimate, name)
        for truth, estimate, name in zip(true_m, estimates, names, strict=True)
        if math.isfinite(truth) and math.isfinite(estimate.value_m)
    ]
    with open_figure(path, (5.2, 4.6), theme) as figure:
        axes = figure.add_subplot()
        ends = _range_of([value for truth, estimate, _ in rows for value in (truth, estimate.value_m)])
        line = np.array(ends)
        axes.plot(line, line, color=COLOURS[theme]["ink"], linewidth=1, linestyle="--")
        axes.fill_between(
            line,
            line * (1 - _TOLERANCE),
            line * (1 + _TOLERANCE),
            color=COLOURS[theme]["visible"],
            alpha=0.14,
            label="within 15 %",
        )
        order = list(dict.fromkeys(names))
        for index, colour in enumerate(palette(len(order))):
            part = [(truth, estimate) for truth, estimate, name in rows if name == order[index]]
            _draw_estimates(axes, part, ends, marker_style(index, colour, theme))
            label = shortened(order[index], 24) if views else "images"
            axes.plot([], [], label=label, **marker_style(index, colour, theme))
        for shape, label in (("^", "at least"), ("v", "at most")):
            ink = COLOURS[theme]["ink"]
            axes.plot([], [], shape, label=label, markerfacecolor="none", markeredgecolor=ink, markersize=8)
        axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
        axes.set(xlabel="true visibility distance [m]", ylabel="estimated [m]")
        if len(order) <= 20:
            figure.legend(fontsize=8, frameon=False, loc="outside right upper")


def _range_of(values: Sequence[float]) -> tuple[float, float]:
    return (min(values) / 1.4, max(values) * 1.4) if values else (100.0, 1e5)


def _draw_estimates(
    axes: Any,
    rows: Sequence[tuple[float, DistanceEstimate]],
    ends: tuple[float, float],
    marker: Mapping[str, Any],
) -> None:
    for truth, estimate in rows:
        low, high = (float(np.clip(end, *ends)) for end in (estimate.low_m, estimate.high_m))
        axes.plot((truth, truth), (low, high), color=marker["color"], linewidth=1.6, alpha=0.7, zorder=2)
        is_open = estimate.is_open_above or estimate.is_open_below
        shape = {"marker": "^" if estimate.is_open_above else "v", "markersize": 8} if is_open else {}
        fill = {"markerfacecolor": "none", "markeredgecolor": marker["color"], "markeredgewidth": 1.6}
        axes.plot([truth], [estimate.value_m], zorder=3, **{**marker, **shape, **(fill if is_open else {})})
