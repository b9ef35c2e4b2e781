"""Terrain seen by a camera on a hill: ridge behind ridge out to the horizon, with the depth of every pixel.

The terrain is a height above and below the camera on a polar grid: columns of the picture times distances
that grow by a constant ratio. The slope of the line of sight (height over distance, downwards negative) rises
with the logarithm of distance, so that every distance gets about as many rows of the picture; ridges on top
of that hide what lies behind them. A pixel shows the first ground that its line of sight meets.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.visibility.synthetic_cover import draw_cover, grain, noise

Floats = NDArray[np.float32]

NEAREST_M, FARTHEST_M = 50.0, 50_000.0
"""Distances at the bottom of the picture and at the horizon, about; each view has its own below these."""

_N_DISTANCES = 640
_RIDGE_OCTAVES = ((0.5, 1.0), (0.22, 0.45), (0.1, 0.2), (0.045, 0.09), (0.02, 0.04), (0.009, 0.016))
"""Of each octave of ridges: width of the cells as a share of the picture's, height relative to the first."""


@dataclass(frozen=True)
class View:
    """Hold the ground of one camera view, without air.

    Attributes:
        depth_m: Distance of each pixel in metres, `[h, w]`; NaN is sky.
        albedo: Colour of the ground in even light, `[h, w, 3]`, 0..1; 0 in the sky.
        normals: Unit normals of the ground (right, away, up), `[h, w, 3]`; 0 in the sky.
        above_skyline: Height of each pixel above the smoothed skyline as a share of the picture's height,
            `[h, w]`; 0 on the ground.
    """

    depth_m: Floats
    albedo: Floats
    normals: Floats
    above_skyline: Floats


def draw_view(image_hw: tuple[int, int], rng: np.random.Generator) -> View:
    """Draw the terrain of one view; the same generator state gives the same view.

    Args:
        image_hw: Height and width in pixels.
        rng: Source of every choice.
    """
    height, width = image_hw
    nearest_m = NEAREST_M * math.exp(rng.uniform(0.0, 0.8))
    farthest_m = FARTHEST_M * math.exp(rng.uniform(-0.8, 0.0))
    log_distance = np.linspace(math.log(nearest_m), math.log(farthest_m), _N_DISTANCES, dtype=np.float32)
    slopes, ridges = _slopes(log_distance, width, rng)
    view_range = float(rng.uniform(0.42, 0.56))  # vertical field of view, as a slope
    top = float(slopes.max()) + view_range * float(rng.uniform(0.08, 0.2))
    row_slopes = (top - view_range * (np.arange(height) + 0.5) / height).astype(np.float32)
    steps = _first_hits(slopes, row_slopes)
    is_ground = np.isfinite(steps)
    steps = np.where(is_ground, steps, 0.0).astype(np.float32)
    depth_m = np.exp(log_distance[0] + steps * (log_distance[1] - log_distance[0]))
    normals = _normals(slopes, log_distance, view_range / height)
    far = np.linspace(0.0, 1.0, _N_DISTANCES)
    color = draw_cover((_N_DISTANCES, width), far, ridges, 1.0 - normals[..., 2], rng)
    normals, color = _at_steps(normals, steps), _at_steps(color, steps)
    albedo = np.clip(color * grain(image_hw, rng)[..., None], 0.015, 0.92)
    ground = is_ground[..., None]
    return View(
        depth_m=np.where(is_ground, depth_m, np.nan).astype(np.float32),
        albedo=np.where(ground, albedo, 0.0).astype(np.float32),
        normals=np.where(ground, normals, 0.0).astype(np.float32),
        above_skyline=_above_skyline(is_ground),
    )


def _slopes(log_distance: Floats, width: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return the slope of the line from the camera to the ground, and its ridges, `[distances, columns]`."""
    share = np.linspace(0.0, 1.0, len(log_distance), dtype=np.float32)
    low, high = rng.uniform(-0.4, -0.3), rng.uniform(0.02, 0.08)
    trend = low + (high - low) * share ** rng.uniform(0.85, 1.1)
    ridges, stretch = np.zeros((len(log_distance), width), dtype=np.float32), rng.uniform(0.7, 1.3)
    for size, amplitude in _RIDGE_OCTAVES:
        # Ranges lie across the view; the noise bends up to a crest along its zeros.
        swell = noise(ridges.shape, (140.0 * size, size * width * stretch), rng)
        ridges += np.float32(amplitude) * (0.8 - np.abs(swell))
    strength = rng.uniform(0.032, 0.05) * (0.35 + 0.65 * share)  # low hills near by, mountains far off
    return (trend[:, None] + strength[:, None] * ridges).astype(np.float32), ridges


def _first_hits(slopes: Floats, row_slopes: Floats) -> NDArray[np.float64]:
    """Return where each line of sight meets the ground, as a fractional index of distance; NaN is sky.

    Args:
        slopes: `[distances, columns]`; the ground between two distances is straight.
        row_slopes: Slope of the line of sight of each row, falling, `[rows]`.

    Returns:
        `[rows, columns]`.
    """
    n_distances, n_columns = slopes.shape
    highest = np.maximum.accumulate(slopes, axis=0)
    # One search for all columns: each is lifted above the one before it.
    span = float(highest.max() - min(highest.min(), row_slopes.min())) + 1.0
    lift = np.arange(n_columns) * 2.0 * span
    lifted = (np.minimum(highest, highest[-1]) + lift).T.ravel()
    aims = row_slopes[:, None] + np.zeros(n_columns)
    hit = np.searchsorted(lifted, (np.minimum(aims, highest.max() + 0.5) + lift).T.ravel()).reshape(
        n_columns, -1
    )
    hit = hit.T - np.arange(n_columns) * n_distances
    is_ground = hit < n_distances
    after = np.clip(hit, 1, n_distances - 1)
    before_slope, after_slope = (np.take_along_axis(slopes, index, axis=0) for index in (after - 1, after))
    rise = np.maximum(after_slope - before_slope, 1e-9)
    place = after - 1 + np.clip((aims - before_slope) / rise, 0.0, 1.0)
    return np.where(is_ground, np.where(hit > 0, place, 0.0), np.nan)


def _normals(slopes: Floats, log_distance: Floats, slope_per_px: float) -> Floats:
    """Return unit normals (right, away, up) of the ground, `[distances, columns, 3]`.

    The height is slope times distance: its derivative away from the camera is the slope plus the slope's
    derivative by log distance.
    """
    away = slopes + np.gradient(slopes, axis=0) / (log_distance[1] - log_distance[0])
    right = np.gradient(slopes, axis=1) / np.float32(slope_per_px)  # pixels are square
    normals = np.stack([-right, -away, np.ones_like(right)], axis=2)
    return normals / np.linalg.norm(normals, axis=2, keepdims=True)


def _at_steps(values: Floats, steps: Floats) -> Floats:
    """Return `values [distances, columns, c]` at fractional distances `[rows, columns]`, interpolated."""
    column = np.broadcast_to(np.arange(steps.shape[1], dtype=np.float32), steps.shape)
    found = cv2.remap(values, np.ascontiguousarray(column), steps, cv2.INTER_LINEAR)
    return found.astype(np.float32, copy=False)


def _above_skyline(is_ground: NDArray[np.bool_]) -> Floats:
    """Return how far pixels lie above a smooth line over the skyline, so that the air has no streaks."""
    height, width = is_ground.shape
    skyline = np.where(is_ground.any(axis=0), is_ground.argmax(axis=0), height).astype(np.float32)[None, :]
    reach = (width // 4) | 1
    envelope = cv2.erode(skyline, np.ones((1, reach), dtype=np.uint8))  # the highest of the neighbours
    smooth = cv2.blur(envelope, (reach, 1), borderType=cv2.BORDER_REPLICATE)  # never below the skyline
    rows = np.arange(height, dtype=np.float32)[:, None]
    return (np.maximum(smooth - rows, 0.0) / height).astype(np.float32, copy=False)
