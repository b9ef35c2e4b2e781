"""Choose points of an image so that near ground, most of a picture, is not most of the data set."""

import math

import numpy as np
from numpy.typing import NDArray

N_BINS = 256
"""Number of bins of the logarithm of depth."""

MAX_DEPTH_M = 1e5
"""Depth of the last bin in metres; what is farther falls into it as well."""

UNLABELLED = 2
"""Value of a label map where nobody has said whether the ground is visible."""


def depth_bins(depth_m: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the bin of each depth, `round(255 ln(d) / ln(1e5))`.

    Args:
        depth_m: Metres, any shape.

    Returns:
        Bins 0..255 of the same shape: 0 also below 1 m, 255 also beyond 1e5 m, and -1 where there is no depth
        (NaN, infinite, 0 or negative).
    """
    has_depth = np.isfinite(depth_m) & (depth_m > 0)
    log_depth = np.log(np.where(has_depth, depth_m, 1.0))
    bins = np.clip(np.rint((N_BINS - 1) / math.log(MAX_DEPTH_M) * log_depth), 0, N_BINS - 1)
    return np.where(has_depth, bins.astype(np.int64), -1)


def point_weights(depth_m: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 / (number of points in the same bin of depth), and 0 where there is no depth.

    Args:
        depth_m: Metres, any shape.

    Returns:
        Weights of the same shape.
    """
    bins = depth_bins(depth_m)
    counts = np.bincount(bins.ravel() + 1, minlength=N_BINS + 1)
    weights = 1.0 / np.maximum(counts, 1)
    weights[0] = 0.0
    return weights[bins + 1]


def sample_points(
    depth_m: NDArray[np.floating],
    label: NDArray[np.uint8],
    count: int,
    border_px: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], NDArray[np.uint8], NDArray[np.float64]]:
    """Draw pixels without replacement, with the weights of `point_weights`, among labelled ones with depth.

    Args:
        depth_m: Metres `[h, w]`; NaN is sky.
        label: 1 visible, 0 not visible, 2 unlabelled, `[h, w]`.
        count: Number of points; fewer come where fewer can be chosen.
        border_px: Pixels along each border that are never chosen, >= 0.
        rng: Source of the choice.

    Returns:
        Points `[m, 2]` at pixel centres in the order they were drawn (the first n are a draw of n), their
        labels and their depths in metres.

    Raises:
        ValueError: The maps differ in size, or count or border is negative.
    """
    if depth_m.shape != label.shape or depth_m.ndim != 2:
        raise ValueError(
            f"expected a depth map and labels of one size [h, w], got {depth_m.shape} and {label.shape}"
        )
    if count < 0 or border_px < 0:
        raise ValueError(f"expected count and border_px of 0 or more, got {count} and {border_px}")
    height, width = label.shape
    inside = np.s_[
        border_px : max(height - border_px, border_px), border_px : max(width - border_px, border_px)
    ]
    depth_inside = depth_m[inside]
    candidates = np.flatnonzero((label[inside] < UNLABELLED) & np.isfinite(depth_inside) & (depth_inside > 0))
    weights = point_weights(depth_inside.ravel()[candidates])
    drawn = candidates[_draw(weights, count, rng)]
    row, column = np.divmod(drawn, max(depth_inside.shape[1], 1))
    y, x = row + border_px, column + border_px
    return np.stack([x, y], axis=1).astype(np.float64), label[y, x], depth_m[y, x].astype(np.float64)


def _draw(weights: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return indices drawn one after the other, each in proportion to the weights that are left.

    A clock of rate `weight` per index rings first after an exponential time; the order of ringing is that of
    the draws (Efraimidis and Spirakis 2006), so that one pass does it.
    """
    ringing = rng.standard_exponential(len(weights)) / weights
    count = min(count, len(weights))
    all_ring = count == len(weights)
    first = np.arange(count) if all_ring else np.argpartition(ringing, count)[:count]
    return first[np.argsort(ringing[first], kind="stable")]
