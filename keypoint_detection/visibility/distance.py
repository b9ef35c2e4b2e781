"""How far one can see in an image: where P(visible) of its points falls through 1/2."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.visibility.distance_curve import Curves, bin_points, fit_curves

LEAST_POINTS, LEAST_SHARE = 5, 0.005
"""Points, and share of all points, that must lie on both sides of a visibility distance."""

TILES = 6
"""The image is cut into TILES x TILES blocks of points; neighbours err together."""

_MOST_BLOCKS = 400
_TIE = 1.0  # within this many variances of the best loss, data do not tell curves apart


@dataclass(frozen=True)
class DistanceEstimate:
    """Hold how far one can see, in metres.

    Attributes:
        value_m: The distance; where it is open, the farthest (above) or nearest (below) distance of the
            points. NaN when there are too few points.
        low_m: Lower end of the interval; 0 when nothing need be visible.
        high_m: Upper end; infinite when all may be visible.
        is_open_above: All is visible: the distance is at least `value_m`.
        is_open_below: Nothing is visible: the distance is at most `value_m`. With both nothing is known.
    """

    value_m: float
    low_m: float
    high_m: float
    is_open_above: bool
    is_open_below: bool

    def __str__(self) -> str:
        """Return the answer in words, such as `12.3 km (11.0 to 13.9 km)`."""
        if self.is_open_above and self.is_open_below:
            return "unknown (too few points)"
        if self.is_open_above:
            return f"at least {metres_text(self.value_m)}"
        if self.is_open_below:
            return f"at most {metres_text(self.value_m)}"
        ends = (
            metres_text(self.low_m),
            "any distance" if np.isinf(self.high_m) else metres_text(self.high_m),
        )
        return f"{metres_text(self.value_m)} ({ends[0]} to {ends[1]})"


UNKNOWN = DistanceEstimate(np.nan, 0.0, np.inf, True, True)


def visibility_distance(
    p_visible: NDArray[np.floating],
    depth_m: NDArray[np.floating],
    *,
    blocks: NDArray[np.integer] | None = None,
    level: float = 0.95,
    n_resamples: int = 300,
    seed: int = 0,
) -> DistanceEstimate:
    """Estimate the distance at which P(visible) falls through 1/2, from the points of one image.

    A falling curve with free ends is fitted over log distance by least squares, which probabilities that are
    too sure or too unsure, and some wrong points, hardly move. The interval comes from resamples of whole
    blocks of points; where no point lies near the limit, such as between two ridges, it spans the gap.

    Args:
        p_visible: `[n]` in [0, 1]; NaN is left out.
        depth_m: Distance of each point, `[n]`; points without one (NaN, infinite, or not above 0) are left
            out.
        blocks: Label of the block of each point, `[n]`, as `spatial_blocks` gives; each point by itself if
            None, which makes the interval too short where neighbours err together.
        level: Coverage of the interval, in (0, 1).
        n_resamples: Number of resamples, > 0.
        seed: Of the resamples.

    Raises:
        ValueError: The arrays differ in length, or a probability lies outside [0, 1].
    """
    p, depth = np.asarray(p_visible, np.float64).ravel(), np.asarray(depth_m, np.float64).ravel()
    labels = np.arange(len(p)) if blocks is None else np.asarray(blocks).ravel()
    _check(p, depth, labels, level)
    kept = np.isfinite(p) & np.isfinite(depth) & (depth > 0)
    p, log_depth = p[kept], np.log(depth[kept])
    least = max(LEAST_POINTS, LEAST_SHARE * len(p))
    if len(p) < 2 * least:
        return UNKNOWN
    points = bin_points(p, log_depth, _block_numbers(labels[kept], n_most=_MOST_BLOCKS, seed=seed))
    n_blocks, rng = len(points.square), np.random.default_rng(seed)
    drawn = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), n_resamples)
    weights = np.vstack([np.ones(n_blocks), drawn]).astype(np.float64)
    curves = fit_curves(points, weights, least)
    mean = (weights @ points.total.sum(1)) / np.maximum(weights @ points.count.sum(1), 1e-9)
    values = _crossings(curves, mean, rng)
    return _estimate(values, np.sort(log_depth), int(least), level)


def spatial_blocks(
    xy: NDArray[np.floating], image_hw: tuple[int, int], tiles: int = TILES
) -> NDArray[np.int64]:
    """Return the tile of the image in which each point `[n, 2]` lies, `[n]` from 0 to tiles * tiles - 1."""
    share = (np.asarray(xy, np.float64) + 0.5) / np.array(image_hw[::-1], np.float64)
    column, row = np.clip((share * tiles).astype(np.int64), 0, tiles - 1).T
    return row * tiles + column


def metres_text(distance_m: float) -> str:
    """Return a distance as people write it: `850 m`, `3.42 km`, `41.7 km`."""
    if distance_m < 1000:
        return f"{distance_m:.0f} m"
    return f"{distance_m / 1000:.{2 if distance_m < 10_000 else 1}f} km"


def _check(
    p: NDArray[np.float64], depth: NDArray[np.float64], labels: NDArray[np.integer], level: float
) -> None:
    if not len(p) == len(depth) == len(labels):
        raise ValueError(
            f"expected as many probabilities as depths and blocks, got {len(p)}, {len(depth)} and "
            f"{len(labels)}"
        )
    if ((p < 0) | (p > 1)).any():
        raise ValueError(
            f"expected probabilities from 0 to 1, got {np.nanmin(p):g} to {np.nanmax(p):g}; "
            "apply the sigmoid to logits"
        )
    if not 0 < level < 1:
        raise ValueError(f"expected a level between 0 and 1, got {level}; 0.95 asks for 95 %")


def _block_numbers(labels: NDArray[np.integer], n_most: int, seed: int) -> NDArray[np.int64]:
    """Return labels as numbers from 0 on; more than `n_most` blocks are dealt at random into that many."""
    names, number = np.unique(labels, return_inverse=True)
    if len(names) <= n_most:
        return number.astype(np.int64)
    deal = np.random.default_rng(seed).permutation(len(names)) * n_most // len(names)
    return deal[number].astype(np.int64)


def _crossings(curves: Curves, mean: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return ln(distance) of each resample, infinite where all is visible, minus infinite where nothing is.

    The first row is the estimate: the middle of the curves that fit as well as the best one. The others draw
    one of those at random, so that their spread holds what the data leave open.
    """
    n_rows = len(curves.loss)
    loss, crossing = curves.loss.reshape(n_rows, -1), curves.crossing.reshape(n_rows, -1)
    values = np.where(mean > 0.5, np.inf, -np.inf)
    for row in np.flatnonzero(np.isfinite(curves.variance)):
        is_tied = loss[row] <= loss[row].min() + _TIE * curves.variance[row]
        tied = crossing[row, is_tied]
        values[row] = (tied.min() + tied.max()) / 2 if row == 0 else rng.uniform(tied.min(), tied.max())
    return values


def _estimate(
    values: NDArray[np.float64], log_depth: NDArray[np.float64], least: int, level: float
) -> DistanceEstimate:
    """Return estimate and interval; beyond the points, and between two of them, distances are not told apart.

    Args:
        values: ln(distance) from all points, then from the resamples, `[1 + r]`.
        log_depth: Of the points, increasing.
        least: Points that must lie beyond a distance.
        level: Coverage of the interval.
    """
    near, far = float(log_depth[least - 1]), float(log_depth[-least])
    values = np.where(values > far, np.inf, np.where(values < near, -np.inf, values))
    tails = (1 - level) / 2, (1 + level) / 2
    low, high = (float(end) for end in np.quantile(values[1:], tails, method="nearest"))
    value = float(values[0])
    low, high = min(low, value, far), max(high, value, near)
    if np.isfinite(low):
        low = float(log_depth[max(np.searchsorted(log_depth, low, "right") - 1, 0)])
    if np.isfinite(high):
        high = float(log_depth[min(np.searchsorted(log_depth, high), len(log_depth) - 1)])
    shown = float(np.exp(np.clip(value, near, far)))
    return DistanceEstimate(shown, float(np.exp(low)), float(np.exp(high)), value == np.inf, value == -np.inf)
