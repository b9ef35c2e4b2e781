"""Pictures of what is visible: the image, the truth and the prediction side by side, in two colours."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.geometry import resize_affine, transform_points, warp_image
from keypoint_detection.utils.colours import Rgb
from keypoint_detection.utils.visualization_grid import image_grid
from keypoint_detection.utils.visualization_marks import (
    Picture,
    is_drawable,
    point_radius,
    put_disc,
    put_dot,
    put_text,
    text_scale,
    text_size,
    to_rgb,
)
from keypoint_detection.visibility.dense_map import DenseMap
from keypoint_detection.visibility.sampling import UNLABELLED

VISIBLE: Rgb = (86, 180, 233)
NOT_VISIBLE: Rgb = (230, 159, 0)
UNSURE: Rgb = (245, 245, 245)
"""Sky blue, orange and, between them, white: told apart with every colour vision deficiency."""

_OPACITY = 0.5
_WRONG: Rgb = (213, 30, 60)
_LEGEND_GROUND, _LEGEND_INK = (24, 24, 24), (236, 236, 236)


def draw_points(
    image: NDArray[np.uint8],
    xy: NDArray[np.floating],
    p_visible: NDArray[np.floating],
    *,
    label: NDArray[np.integer] | None = None,
) -> Picture:
    """Draw a dot at each point, from orange (not visible) over white to blue (visible).

    Args:
        image: `[h, w, c]` uint8; not changed.
        xy: `[n, 2]` in pixels of `image`; NaN is left out.
        p_visible: `[n]` in [0, 1], or labels 0 and 1; NaN is left out.
        label: 1 visible, 0 not, `[n]`; a point on the wrong side of 1/2 gets a red ring.

    Returns:
        `[h, w, 3]` RGB.
    """
    canvas = to_rgb(image).copy()
    p = np.asarray(p_visible, np.float64)
    drawn = np.flatnonzero(is_drawable(xy) & np.isfinite(p))
    radius = point_radius(canvas, len(drawn))
    is_wrong = np.zeros(len(p), bool) if label is None else (p > 0.5) != (np.asarray(label) == 1)
    colors = colors_of(p)
    for index in drawn[np.argsort(is_wrong[drawn], kind="stable")]:  # the wrong ones on top
        if is_wrong[index]:
            put_disc(canvas, xy[index], radius + 2.5, _WRONG)
        put_dot(canvas, xy[index], radius, tuple(colors[index].tolist()))
    return canvas


def draw_region(image: NDArray[np.uint8], label: NDArray[np.uint8]) -> Picture:
    """Tint visible ground blue and not visible ground orange; what is unlabelled stays as it is.

    Args:
        image: `[h, w, c]` uint8; not changed.
        label: 1 visible, 0 not, 2 unlabelled, `[h, w]`.
    """
    values = np.where(label == UNLABELLED, np.nan, label.astype(np.float64))
    return _tinted(image, values)


def draw_map(image: NDArray[np.uint8], found: DenseMap) -> Picture:
    """Tint an image by a map of P(visible), with a line where it is 1/2.

    Args:
        image: The whole image at any size, `[h, w, c]` uint8; not changed.
        found: Of this image.
    """
    values = found.in_pixels((image.shape[0], image.shape[1]))
    canvas = _tinted(image, values)
    is_visible = (np.nan_to_num(values) > 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours(is_visible, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    width = max(1, round(max(canvas.shape[:2]) / 500))
    edge = np.zeros(canvas.shape[:2], np.uint8)
    cv2.drawContours(edge, outlines, -1, 255, width)
    # No line along the border of the picture or of what is known: nothing ends there.
    known, kernel = np.isfinite(values).astype(np.uint8), np.ones((2 * width + 1,) * 2, np.uint8)
    inside = cv2.erode(known, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=(0,)) > 0
    canvas[(edge > 0) & inside] = (255, 255, 255)
    return canvas


def side_by_side(pictures: Sequence[Picture], titles: Sequence[str], *, has_wrong: bool = False) -> Picture:
    """Put pictures of one image beside each other with their titles above and the colours explained below.

    Args:
        pictures: RGB, such as the image, the truth and the prediction.
        titles: One line each.
        has_wrong: Whether to explain the red rings as well.
    """
    grid = image_grid(pictures, len(pictures), titles)
    return np.vstack([grid, _legend(grid.shape[1], text_scale(pictures[0]), has_wrong)])


def compare_points(
    image: NDArray[np.uint8],
    xy: NDArray[np.floating],
    label: NDArray[np.integer],
    p_visible: NDArray[np.floating],
    *,
    longest_px: int = 640,
    titles: tuple[str, str, str] = ("image", "truth", "predicted"),
) -> Picture:
    """Draw image, labelled points and predicted points side by side; wrong ones have a red ring.

    Args:
        image: `[h, w, c]` uint8, original size.
        xy: `[n, 2]` in pixels of the image.
        label: 1 visible, 0 not, `[n]`.
        p_visible: `[n]` in [0, 1].
        longest_px: Longer side of each of the three in pixels; a smaller image stays as it is.
        titles: Above the three.
    """
    small, to_small = shrunken(image, longest_px)
    places = transform_points(to_small, np.asarray(xy, np.float64))
    is_wrong = (np.asarray(p_visible) > 0.5) != (np.asarray(label) == 1)
    truth = draw_points(small, places, np.asarray(label, np.float64))
    predicted = draw_points(small, places, p_visible, label=label)
    return side_by_side([small, truth, predicted], titles, has_wrong=bool(is_wrong.any()))


def compare_regions(
    image: NDArray[np.uint8],
    label: NDArray[np.uint8],
    found: DenseMap,
    *,
    longest_px: int = 640,
    titles: tuple[str, str, str] = ("image", "truth", "predicted"),
) -> Picture:
    """Draw image, labelled region and predicted region side by side.

    Args:
        image: `[h, w, c]` uint8, original size.
        label: 1 visible, 0 not, 2 unlabelled, `[h, w]`.
        found: P(visible) all over the image.
        longest_px: Longer side of each of the three in pixels; a smaller image stays as it is.
        titles: Above the three.
    """
    if label.shape != image.shape[:2]:
        raise ValueError(f"expected labels of the image's size {image.shape[:2]}, got {label.shape}")
    small, _ = shrunken(image, longest_px)
    size = (small.shape[1], small.shape[0])
    small_label = np.asarray(cv2.resize(label, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    return side_by_side([small, draw_region(small, small_label), draw_map(small, found)], titles)


def colors_of(p_visible: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the colour of each P(visible), uint8 `[..., 3]`: orange at 0, white at 1/2, blue at 1."""
    p = np.clip(np.nan_to_num(np.asarray(p_visible, np.float64), nan=0.5), 0, 1)
    scale = [np.interp(p, (0, 0.5, 1), ends) for ends in zip(NOT_VISIBLE, UNSURE, VISIBLE, strict=True)]
    return np.rint(np.stack(scale, axis=-1)).astype(np.uint8)


def shrunken(image: NDArray[np.uint8], longest_px: int) -> tuple[Picture, NDArray[np.float64]]:
    """Return an RGB image whose longer side is at most `longest_px`, and the map to it `[2, 3]`."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_px / max(height, width))
    hw = (max(1, round(height * scale)), max(1, round(width * scale)))
    to_small = resize_affine((height, width), hw)
    return (to_rgb(image).copy() if scale == 1 else warp_image(to_rgb(image), to_small, hw)), to_small


def _tinted(image: NDArray[np.uint8], values: NDArray[np.floating]) -> Picture:
    """Mix grey shades of an image with the colours of values `[h, w]`; NaN stays as it is."""
    canvas = to_rgb(image).copy()
    known = np.isfinite(values)
    grey = np.repeat(cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    mixed = (1 - _OPACITY) * grey + _OPACITY * colors_of(values)
    canvas[known] = np.rint(mixed[known]).astype(np.uint8)
    return canvas


def _legend(width: int, scale: float, has_wrong: bool) -> Picture:
    """Return a strip that explains the colours; entries that do not fit in a line go into the next."""
    line = text_size("Ag", scale)[1]
    entries = [("not visible", NOT_VISIBLE), ("unsure", UNSURE), ("visible", VISIBLE)]
    entries += [("wrong", _WRONG)] if has_wrong else []
    places, x, row = [], 6, 0
    for text, _ in entries:
        length = 2 * line + text_size(text, scale)[0] + 10
        if places and x + length > width:
            x, row = 6, row + 1
        places.append((x, row))
        x += length
    strip = np.full(((row + 1) * (line + 8) + 4, width, 3), _LEGEND_GROUND, np.uint8)
    for (text, color), (left, at) in zip(entries, places, strict=True):
        top = 6 + at * (line + 8)
        centre = np.array([left + line / 2, top + line / 2])
        if color == _WRONG:
            put_disc(strip, centre, 0.32 * line + 2.5, _WRONG)
            put_dot(strip, centre, 0.32 * line, UNSURE)
        else:
            put_dot(strip, centre, 0.36 * line, color)
        put_text(strip, text, (left + line + 6, top), scale, _LEGEND_INK)
    return strip
