"""Anti-aliased polygons whose edges lie where their vertices say, for images with exact sub-pixel labels.

A polygon covers a pixel by the share of the pixel's square that lies inside it: exact along x, the mean of
`SUBROWS` lines along y. OpenCV's `fillPoly` also draws the outline and so swells every shape by half a pixel.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SUBROWS = 32
"""Lines per pixel row on which edges are evaluated: a horizontal edge is off by at most 1/64 px."""

Color = tuple[float, float, float]
Floats = NDArray[np.float64]
Shade = tuple[ArrayLike, ArrayLike, float, float]
"""From point, to point, and the brightness factor at each: a linear gradient across a polygon."""


def polygon_coverage(vertices: Floats, image_hw: tuple[int, int]) -> tuple[NDArray[np.float32], slice, slice]:
    """Return the share of each pixel that lies inside a simple polygon.

    Every edge adds, on each line it crosses, a step of +1 or -1; the running sum of the steps is 1 inside.

    Args:
        vertices: `[n, 2]` in pixels (an integer is the centre of a pixel), either direction of turn.
        image_hw: Height and width; what lies outside is cut off.

    Returns:
        Coverage in [0, 1] of a window of the image, and the window's rows and columns.

    Source: ours, after the accumulation buffers of font rasterisers.
    """
    height, width = image_hw
    corners = np.asarray(vertices, dtype=np.float64) + 0.5  # pixel i spans [i, i + 1] from here on
    low = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
    high = np.clip(np.ceil(corners.max(0)), low, (width, height)).astype(int)
    n_rows, n_columns = int(high[1] - low[1]), int(high[0] - low[0])
    window = slice(low[1], high[1]), slice(low[0], high[0])
    start, end = corners - low, following(corners) - low
    lines = (np.arange(n_rows * SUBROWS) + 0.5) / SUBROWS
    crossed = (np.minimum(start, end)[:, 1:] <= lines) & (lines < np.maximum(start, end)[:, 1:])
    edge, line = np.nonzero(crossed)
    rise = end[:, 1] - start[:, 1]
    slope = (end[:, 0] - start[:, 0]) / np.where(rise == 0, 1.0, rise)
    x = np.clip(start[edge, 0] + (lines[line] - start[edge, 1]) * slope[edge], 0, n_columns)
    column = x.astype(np.int64)
    first = (line // SUBROWS) * (n_columns + 2) + column
    step = np.sign(rise)[edge] / SUBROWS
    into = (x - column) * step
    size = n_rows * (n_columns + 2)
    steps = np.bincount(first, step - into, size) + np.bincount(first + 1, into, size)
    coverage = np.abs(np.cumsum(steps.reshape(n_rows, n_columns + 2), axis=1)[:, :n_columns])
    return coverage.astype(np.float32), *window


class Layer:
    """Hold a picture in the making: `pixels` `[h, w, 4]`, colour in [0, 1] times coverage, then coverage.

    Without `shadows` nothing is darkened, and every edge of the picture is the edge of a polygon.
    """

    def __init__(self, image_hw: tuple[int, int], shadows: bool = True) -> None:
        self.image_hw = image_hw
        self.shadows = shadows
        self.pixels = np.zeros((*image_hw, 4), dtype=np.float32)

    def add(
        self, vertices: Floats, color: Color, shade: Shade | None = None, hidden: Sequence[Floats] = ()
    ) -> None:
        """Add a polygon that overlaps nothing on this layer, so that shared edges keep no seam and no bias.

        Args:
            vertices: `[n, 2]` in pixels; convex where `hidden` is given.
            color: Red, green, blue in [0, 1].
            shade: A gradient of brightness across the polygon.
            hidden: Convex polygons, disjoint from each other, that hide parts of this one.
        """
        if len(vertices) < 3:
            return
        coverage, rows, columns = polygon_coverage(vertices, self.image_hw)
        for cover in hidden:
            common = clip_convex(vertices, cover)
            if len(common) >= 3:
                part, part_rows, part_columns = polygon_coverage(common, self.image_hw)
                inner_rows = slice(part_rows.start - rows.start, part_rows.stop - rows.start)
                inner_columns = slice(part_columns.start - columns.start, part_columns.stop - columns.start)
                coverage[inner_rows, inner_columns] -= part
        window = self.pixels[rows, columns]
        window += coverage[..., None] * _paint(color, shade, rows, columns)

    def over(self, vertices: Floats, color: Color, opacity: float = 1.0, shade: Shade | None = None) -> None:
        """Draw a polygon over whatever the layer holds."""
        coverage, rows, columns = polygon_coverage(vertices, self.image_hw)
        alpha = (opacity * coverage)[..., None]
        window = self.pixels[rows, columns]
        window += alpha * (_paint(color, shade, rows, columns) - window)

    def paste(self, layer: "Layer") -> None:
        """Draw another layer over this one."""
        self.pixels *= 1.0 - layer.pixels[..., 3:]
        self.pixels += layer.pixels

    def shadow(self, outline: Floats, softness_px: float, strength: float) -> None:
        """Darken what is under an outline, with a soft edge.

        Args:
            outline: Polygon `[n, 2]` in pixels.
            softness_px: Standard deviation of the blur.
            strength: Share of the light taken away in the core, in [0, 1].
        """
        if not self.shadows:
            return
        reach = math.ceil(3 * softness_px)
        grown_hw = self.image_hw[0] + 2 * reach, self.image_hw[1] + 2 * reach
        coverage, rows, columns = polygon_coverage(outline + reach, grown_hw)
        mask = cv2.GaussianBlur(np.pad(coverage, reach), (0, 0), max(softness_px, 0.3))
        top, left = rows.start - 2 * reach, columns.start - 2 * reach  # where the mask begins in the image
        window = self.pixels[max(top, 0) : rows.stop, max(left, 0) : columns.stop, :3]
        mask = mask[max(-top, 0) :, max(-left, 0) :][: window.shape[0], : window.shape[1]]
        window *= 1.0 - strength * mask[..., None]


def _paint(color: Color, shade: Shade | None, rows: slice, columns: slice) -> NDArray[np.float32]:
    """Return colour and opacity 1 per pixel of a window, `[h, w, 4]` or, without a gradient, `[4]`."""
    if shade is None:
        return np.array([*color, 1.0], dtype=np.float32)
    start, end = np.asarray(shade[0], dtype=np.float64), np.asarray(shade[1], dtype=np.float64)
    along = (end - start) / max(float(((end - start) ** 2).sum()), 1e-9)
    y, x = np.arange(rows.start, rows.stop)[:, None], np.arange(columns.start, columns.stop)[None, :]
    part = np.clip((x - start[0]) * along[0] + (y - start[1]) * along[1], 0.0, 1.0)
    factor = (shade[2] + (shade[3] - shade[2]) * part)[..., None]
    return np.concatenate([np.minimum(factor * color, 1.0), np.ones_like(factor)], axis=-1).astype(np.float32)


def following(vertices: Floats) -> Floats:
    """Return the next vertex of each vertex of a polygon `[n, 2]`."""
    return np.concatenate([vertices[1:], vertices[:1]])


def signed_area(vertices: Floats) -> float:
    """Return the area of a polygon `[n, 2]` in square pixels, positive when it turns clockwise on screen."""
    ends = following(vertices)
    return float((vertices[:, 0] * ends[:, 1] - ends[:, 0] * vertices[:, 1]).sum() / 2)


def clip_convex(vertices: Floats, window: Floats) -> Floats:
    """Return the part of a convex polygon inside a convex window, `[m, 2]`, empty where they do not meet.

    Source: Sutherland and Hodgman, Reentrant polygon clipping, 1974.
    """
    turn = 1.0 if signed_area(window) >= 0 else -1.0
    kept = list(np.asarray(vertices, dtype=np.float64))
    for a, b in zip(window, following(window), strict=True):
        normal = turn * np.array([a[1] - b[1], b[0] - a[0]])
        subject, kept = kept, []
        for previous, point in zip(subject[-1:] + subject[:-1], subject, strict=True):
            before, now = float((previous - a) @ normal), float((point - a) @ normal)
            if before * now < 0:
                kept.append(previous + (point - previous) * (before / (before - now)))
            if now >= 0:
                kept.append(point)
    return np.array(kept).reshape(-1, 2)


def convex_hull(points: Floats) -> Floats:
    """Return the convex hull of `[n, 2]` points, exact: its vertices are points of the input."""
    chosen = cv2.convexHull(points.astype(np.float32), returnPoints=False)
    return points[chosen.ravel().astype(np.intp)]


def covers(outline: Floats, point: Floats) -> bool:
    """Tell whether a point lies inside a polygon `[n, 2]`."""
    return cv2.pointPolygonTest(outline.astype(np.float32), (float(point[0]), float(point[1])), False) > 0


def disc(centre: ArrayLike, radius: float, n_vertices: int = 32) -> Floats:
    """Return the outline of a circle around `centre`, `[n_vertices, 2]`."""
    angle = np.arange(n_vertices) * (2 * np.pi / n_vertices)
    return np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def strip(start: ArrayLike, end: ArrayLike, width: float) -> Floats:
    """Return the outline of a straight line of some width, `[4, 2]`."""
    start, end = np.asarray(start, dtype=np.float64), np.asarray(end, dtype=np.float64)
    along = (end - start) / max(float(np.hypot(*(end - start))), 1e-9)
    across = np.array([-along[1], along[0]]) * (width / 2)
    return np.stack([start - across, end - across, end + across, start + across])
