"""Fit a falling curve of P(visible) over log distance, to many resamples of the points at once."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

Array = NDArray[np.float64]

N_BINS, BINS_PER_PLACE = 480, 2
"""Points are counted in bins of log distance, so that the cost of a fit does not grow with their number."""

WIDTHS = np.array([0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
"""Widths of the fall that are tried, in units of ln(distance)."""

MOST_LAPSE = 0.45
"""Most by which the curve may stay below 1 near by and above 0 far away: wrong and unsure points."""

_LAPSE_STEPS = 4


class BinnedPoints(NamedTuple):
    """Hold points counted by block and by bin of log distance.

    Attributes:
        log_distance: Middle of each bin, `[t]`, increasing.
        count: Points of each block and bin, `[b, t]`.
        total: Sum of their P(visible), `[b, t]`.
        square: Sum of the squares of P(visible) of each block, `[b]`.
    """

    log_distance: Array
    count: Array
    total: Array
    square: Array


class Curves(NamedTuple):
    """Hold every curve that was tried on every resample.

    Attributes:
        loss: Sum of squared residuals, `[r, places, widths]`; infinite where the curve is not supported.
        crossing: ln(distance) at which the curve is 1/2, of the same shape.
        variance: Mean squared residual of the best curve of each resample, `[r]`.
    """

    loss: Array
    crossing: Array
    variance: Array


def bin_points(p_visible: Array, log_distance: Array, block: NDArray[np.int64]) -> BinnedPoints:
    """Count points `[n]` by block and bin; `block` holds numbers from 0 on."""
    low, high = log_distance.min(), log_distance.max()
    step = max((high - low) / N_BINS, 1e-9)
    index = np.minimum((log_distance - low) / step, N_BINS - 1).astype(np.int64)
    n_blocks = int(block.max()) + 1
    cell, shape = block * N_BINS + index, (n_blocks, N_BINS)
    return BinnedPoints(
        low + (np.arange(N_BINS) + 0.5) * step,
        np.bincount(cell, minlength=n_blocks * N_BINS).reshape(shape).astype(np.float64),
        np.bincount(cell, p_visible, n_blocks * N_BINS).reshape(shape).astype(np.float64),
        np.bincount(block, p_visible**2, n_blocks).astype(np.float64),
    )


def fit_curves(points: BinnedPoints, weights: Array, least_points: float) -> Curves:
    """Fit `a + (b - a) * sigmoid((m - ln d) / s)` by least squares for every place m and width s.

    Squares of probabilities are bounded: a point that is wholly wrong counts at most 1, which is why some of
    them hardly move the curve, where the log loss would follow them.

    Args:
        points: The b blocks of points.
        weights: How often each block counts, `[r, b]`.
        least_points: A curve is left out where fewer points lie on one of its sides.

    Source: logistic psychometric functions with lapses (Wichmann & Hill, 2001), here by least squares.
    """
    places = points.log_distance[BINS_PER_PLACE - 1 :: BINS_PER_PLACE]
    shape = expit((places[:, None, None] - points.log_distance) / WIDTHS[:, None])
    flat = shape.reshape(-1, len(points.log_distance))
    n, p, pp = (
        (weights @ part)[:, None] for part in (points.count.sum(1), points.total.sum(1), points.square)
    )
    count, total = weights @ points.count, weights @ points.total
    f, ff, fp = count @ flat.T, count @ (flat**2).T, total @ flat.T
    loss, low, high = _lapses(_Sums(n, p, pp), f, ff, fp)
    size = (len(weights), len(places), len(WIDTHS))
    loss = np.where(_supported(count, total, least_points)[:, :, None], loss.reshape(size), np.inf)
    share = np.clip((0.5 - low) / (high - low), 1e-6, 1 - 1e-6).reshape(size)
    crossing = places[:, None] - WIDTHS * logit(share)
    return Curves(loss, crossing, loss.min((1, 2)) / np.maximum(n[:, 0], 1))


class _Sums(NamedTuple):
    """Hold sums over the points of each resample, `[r, 1]`: of 1, of P(visible) and of its square."""

    n: Array
    p: Array
    pp: Array


def _lapses(sums: _Sums, f: Array, ff: Array, fp: Array) -> tuple[Array, Array, Array]:
    """Return the loss and the best ends a and b of curves; a few rounds are enough.

    Args:
        sums: Of the points.
        f: Sum of the values of each curve over the points, `[r, curves]`.
        ff: Of their squares.
        fp: Of their products with P(visible).
    """
    g_squared, f_g, g_p = sums.n - 2 * f + ff, f - ff, sums.p - fp  # g = 1 - f
    low, high = np.zeros_like(f), np.ones_like(f)
    for _ in range(_LAPSE_STEPS):
        low = np.clip((g_p - high * f_g) / np.maximum(g_squared, 1e-9), 0, MOST_LAPSE)
        high = np.clip((fp - low * f_g) / np.maximum(ff, 1e-9), 1 - MOST_LAPSE, 1)
    loss = sums.pp - 2 * low * g_p - 2 * high * fp + low**2 * g_squared + 2 * low * high * f_g + high**2 * ff
    return np.maximum(loss, 0), low, high


def _supported(count: Array, total: Array, least_points: float) -> NDArray[np.bool_]:
    """Tell at which places there are enough points on both sides, mostly visible near by and not far away."""
    near_n, near_p = (np.cumsum(part, 1)[:, BINS_PER_PLACE - 1 :: BINS_PER_PLACE] for part in (count, total))
    far_n, far_p = count.sum(1, keepdims=True) - near_n, total.sum(1, keepdims=True) - near_p
    is_enough = (near_n >= least_points) & (far_n >= least_points)
    return is_enough & (near_p > near_n / 2) & (far_p < far_n / 2)
