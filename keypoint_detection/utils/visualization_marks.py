"""Marks on a picture: points, lines and text, outlined so that they can be seen on any ground."""

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.utils.colours import Rgb

Picture = NDArray[np.uint8]

BLACK: Rgb = (0, 0, 0)
WHITE: Rgb = (255, 255, 255)

SMALLEST_TEXT = 0.38
"""Scale of the smallest letters that can be read."""

_FRACTION_BITS = 4
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FARTHEST_PX = 1e6  # beyond it OpenCV's integers overflow


def to_rgb(image: NDArray[np.uint8]) -> Picture:
    """Return `[h, w, 3]`: one channel is repeated, channels after the third are left out."""
    if image.ndim == 2:
        image = image[..., None]
    return (
        np.repeat(image[..., :1], 3, axis=2) if image.shape[2] < 3 else np.ascontiguousarray(image[..., :3])
    )


def enlarged(image: NDArray[np.uint8], factor: int) -> Picture:
    """Return an RGB copy of an image, `[factor * h, factor * w, 3]`."""
    canvas = to_rgb(image)
    if factor == 1:
        return canvas.copy()
    size = (canvas.shape[1] * factor, canvas.shape[0] * factor)
    return np.array(cv2.resize(canvas, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def outline_of(color: Rgb) -> Rgb:
    """Return black or white, whichever differs more from a colour: one of the two shows on any ground."""
    red, green, blue = ((part / 255) ** 2.2 for part in color)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return BLACK if luminance > 0.18 else WHITE  # 0.18 has the same contrast to both


def point_radius(canvas: Picture, n_points: int) -> float:
    """Return the radius of a point's mark in pixels: it grows with the picture, and shrinks in a crowd."""
    share = 0.008 if n_points <= 40 else 0.005
    return max(3.0 if n_points <= 40 else 2.0, share * max(canvas.shape[:2]))


def line_width(canvas: Picture) -> int:
    """Return the width of a line in whole pixels, at least 1."""
    return max(1, round(max(canvas.shape[:2]) / 500))


def text_scale(canvas: Picture) -> float:
    """Return the scale of OpenCV's letters: they grow with the picture, to stay readable."""
    return max(SMALLEST_TEXT, max(canvas.shape[:2]) / 1400)


def is_drawable(xy: NDArray[np.floating]) -> Any:
    """Tell which points `[..., 2]` are numbers that OpenCV can draw or clip."""
    return (np.abs(np.nan_to_num(xy, nan=np.inf)) < _FARTHEST_PX).all(-1)


def put_disc(
    canvas: Picture, xy: NDArray[np.floating], radius: float, color: Rgb, thickness: int = cv2.FILLED
) -> None:
    """Draw an anti-aliased circle with its centre between pixels where it belongs."""
    scale = 1 << _FRACTION_BITS
    centre = (round(float(xy[0]) * scale), round(float(xy[1]) * scale))
    cv2.circle(canvas, centre, round(radius * scale), color, thickness, cv2.LINE_AA, _FRACTION_BITS)


def put_ring(canvas: Picture, xy: NDArray[np.floating], radius: float, color: Rgb) -> None:
    """Draw an outlined ring whose inside stays as it is."""
    width = line_width(canvas)
    put_disc(canvas, xy, radius, outline_of(color), width + 2)
    put_disc(canvas, xy, radius, color, width)


def put_dashed_ring(canvas: Picture, xy: NDArray[np.floating], radius: float, color: Rgb) -> None:
    """Draw a hollow ring of four dashes, with gaps above, below and at both sides of the point."""
    scale, width = 1 << _FRACTION_BITS, line_width(canvas)
    put_disc(canvas, xy, radius, outline_of(color), width + 2)
    centre = (round(float(xy[0]) * scale), round(float(xy[1]) * scale))
    axes = (round(radius * scale), round(radius * scale))
    for start in (20, 110, 200, 290):
        cv2.ellipse(canvas, centre, axes, 0, start, start + 50, color, width, cv2.LINE_AA, _FRACTION_BITS)


def put_dot(canvas: Picture, xy: NDArray[np.floating], radius: float, color: Rgb) -> None:
    """Draw an outlined filled disc."""
    put_disc(canvas, xy, radius + 1.0, outline_of(color))
    put_disc(canvas, xy, radius, color)


def put_line(
    canvas: NDArray[np.uint8],
    start: NDArray[np.floating],
    end: NDArray[np.floating],
    color: Rgb | int,
    width: int,
) -> None:
    """Draw an anti-aliased line between two sub-pixel places."""
    scale = 1 << _FRACTION_BITS
    first, last = ((round(float(x) * scale), round(float(y) * scale)) for x, y in (start, end))
    cv2.line(
        canvas, first, last, (color,) if isinstance(color, int) else color, width, cv2.LINE_AA, _FRACTION_BITS
    )


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return width and height in pixels of a line of ASCII text with its outline; all lines are as high."""
    height, width = _letters(text, scale)[1].shape
    return width, height


def put_text(canvas: Picture, text: str, corner_xy: tuple[int, int], scale: float, color: Rgb) -> None:
    """Write one outlined line of ASCII text with the top-left corner of its box at a pixel."""
    left, top = corner_xy
    letters, outline = _letters(text, scale)
    height, width = (
        min(place, room) for place, room in zip(letters.shape, canvas[top:, left:].shape, strict=False)
    )
    part = canvas[top : top + height, left : left + width]
    for mask, ink in ((outline, outline_of(color)), (letters, color)):
        weight = mask[:height, :width, None].astype(np.float32) / 255
        part[:] = np.round(part * (1 - weight) + np.array(ink, np.float32) * weight)


@lru_cache(maxsize=2048)
def _letters(text: str, scale: float) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return how much of each pixel the letters cover, and the letters with their outline, uint8 `[h, w]`.

    OpenCV draws thicker letters wider apart, so an outline cannot be thicker letters below thin ones.
    """
    margin = max(1, round(1.3 * scale))
    mask = _written(text, scale)
    columns = np.flatnonzero(mask.any(0))
    rows = np.flatnonzero(_written("Ag|_", scale).any(1))
    first, last = (int(columns[0]), int(columns[-1])) if len(columns) else (margin, margin)
    mask = mask[rows[0] - margin : rows[-1] + margin + 1, first - margin : last + margin + 1]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return mask, cv2.dilate(mask, kernel).astype(np.uint8)


def _written(text: str, scale: float) -> NDArray[np.uint8]:
    """Return white letters on a black ground that is large enough for them and their outline."""
    pen = max(1, round(1.4 * scale))
    (width, height), below = cv2.getTextSize(text, _FONT, scale, pen)
    margin = 4 + 3 * pen + height // 2
    mask = np.zeros((height + below + 2 * margin, width + width // 4 + 2 * margin), np.uint8)
    return cv2.putText(mask, text, (margin, margin + height), _FONT, scale, 255, pen, cv2.LINE_AA).astype(
        np.uint8
    )  # pyright: ignore
