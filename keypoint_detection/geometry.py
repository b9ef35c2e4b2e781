"""The coordinate convention, and the affine maps between image, network input and heatmap.

A point is `(x, y)`: x right, y down, float pixels, and an integer is the **centre** of a pixel, so an image
of width W spans `[-0.5, W - 0.5]`. An affine is a float64 array `[2, 3]` that maps `(x, y, 1)` to `(x', y')`;
a batch of them is `[n, 2, 3]`. A missing point is NaN and stays NaN under every map. Nothing rounds a
coordinate.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Affine = NDArray[np.float64]
Points = TypeVar("Points", bound=Any)  # numpy.ndarray or torch.Tensor: only arithmetic is used

PAD_VALUE = 114
"""Grey level of all that a warp or a batch adds around an image: close to the mean of natural images."""


def identity_affine() -> Affine:
    """Return the map that leaves every point where it is, `[2, 3]`."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def resize_affine(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Affine:
    """Return the map of a resize, `x' = (x + 0.5) * s - 0.5` on each axis."""
    scale_y, scale_x = to_hw[0] / from_hw[0], to_hw[1] / from_hw[1]
    return np.array([[scale_x, 0.0, 0.5 * scale_x - 0.5], [0.0, scale_y, 0.5 * scale_y - 0.5]])


def letterbox_affine(from_hw: tuple[int, int], to_hw: tuple[int, int]) -> Affine:
    """Return the map that fits an image centred into a frame with its aspect ratio kept."""
    scale = min(to_hw[0] / from_hw[0], to_hw[1] / from_hw[1])
    return similarity_affine(from_hw, to_hw, scale=scale)


def similarity_affine(
    from_hw: tuple[int, int],
    to_hw: tuple[int, int],
    scale: float = 1.0,
    degrees: float = 0.0,
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> Affine:
    """Return the map that scales and rotates about the image centre and puts that centre into the frame.

    Args:
        from_hw: Height and width of the source in pixels.
        to_hw: Height and width of the frame in pixels.
        scale: Frame pixels per source pixel, > 0.
        degrees: Rotation, positive clockwise as seen on screen (from x towards y).
        shift_xy: Where the source centre lands, relative to the centre of the frame, in frame pixels.
    """
    cosine, sine = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    linear = np.array([[cosine, -sine], [sine, cosine]])
    source_centre = np.array([(from_hw[1] - 1) / 2, (from_hw[0] - 1) / 2])
    frame_centre = np.array([(to_hw[1] - 1) / 2, (to_hw[0] - 1) / 2]) + np.asarray(shift_xy)
    return np.column_stack([linear, frame_centre - linear @ source_centre])


def box_affine(
    box_xywh: Sequence[float] | NDArray[np.floating], to_hw: tuple[int, int], padding: float = 1.25
) -> Affine:
    """Return the map that shows a box centred in a frame, as large as fits with its aspect ratio kept.

    Args:
        box_xywh: COCO's x, y, width, height in pixels, counted from the corner of the image: the centre of
            the box is at `(x + width / 2 - 0.5, y + height / 2 - 0.5)`.
        to_hw: Height and width of the frame in pixels.
        padding: The box is first enlarged by this factor about its centre, > 0.

    Raises:
        ValueError: The box has no positive finite size.
    """
    x, y, width, height = (float(value) for value in box_xywh)
    if not (np.isfinite([x, y, width, height]).all() and width > 0 and height > 0):
        raise ValueError(
            "expected a box (x, y, width, height) of finite numbers with width and height above 0, got "
            f"({x:g}, {y:g}, {width:g}, {height:g}); correct it or leave it out"
        )
    scale = min(to_hw[0] / (padding * height), to_hw[1] / (padding * width))
    centre = np.array([x + width / 2 - 0.5, y + height / 2 - 0.5])
    frame_centre = np.array([(to_hw[1] - 1) / 2, (to_hw[0] - 1) / 2])
    return np.column_stack([scale * np.eye(2), frame_centre - scale * centre])


def horizontal_flip_affine(width: int) -> Affine:
    """Return the mirror map `x' = W - 1 - x`."""
    return np.array([[-1.0, 0.0, width - 1.0], [0.0, 1.0, 0.0]])


def vertical_flip_affine(height: int) -> Affine:
    """Return the mirror map `y' = H - 1 - y`."""
    return np.array([[1.0, 0.0, 0.0], [0.0, -1.0, height - 1.0]])


def compose(*affines: Affine) -> Affine:
    """Return the map that applies the given ones from left to right, the first one first."""
    total = np.eye(3)
    for affine in affines:
        total = np.vstack([affine, [0.0, 0.0, 1.0]]) @ total
    return total[:2]


def invert(affine: Affine) -> Affine:
    """Return the inverse map; a singular affine raises `numpy.linalg.LinAlgError`."""
    return np.linalg.inv(np.vstack([affine, [0.0, 0.0, 1.0]]))[:2]


def transform_points(affine: Any, points: Points) -> Points:
    """Map points by an affine; NumPy and torch alike, NaN stays NaN.

    Args:
        affine: `[2, 3]`, or a batch `[n, 2, 3]` for points whose first axis is n.
        points: `[..., 2]` or, for a batch, `[n, ..., 2]`.

    Returns:
        Points of the same shape and kind.
    """
    if affine.ndim == 3:
        affine = affine.reshape(affine.shape[0], *(1,) * (points.ndim - 2), 2, 3)
    return (affine[..., :2] * points[..., None, :]).sum(-1) + affine[..., 2]


def image_to_heatmap(points: Points, stride: float) -> Points:
    """Map network-input pixels to heatmap pixels, `u = (x + 0.5) / stride - 0.5`."""
    return (points + 0.5) / stride - 0.5


def heatmap_to_image(points: Points, stride: float) -> Points:
    """Map heatmap pixels to network-input pixels, `x = (u + 0.5) * stride - 0.5`."""
    return (points + 0.5) * stride - 0.5


def is_inside(points: Any, image_hw: tuple[Any, Any]) -> Any:
    """Tell which points lie on the image, borders of its outer pixels included; NaN is outside.

    Args:
        points: `[..., 2]` in pixels, NumPy or torch.
        image_hw: Height and width in pixels: numbers, or arrays `[...]` where every point has an image of its
            own.

    Returns:
        Booleans of shape `[...]`.
    """
    x, y = points[..., 0], points[..., 1]
    return (x >= -0.5) & (y >= -0.5) & (x <= image_hw[1] - 0.5) & (y <= image_hw[0] - 0.5)


def warp_image(
    image: NDArray[np.uint8], affine: Affine, to_hw: tuple[int, int], pad_value: int = PAD_VALUE
) -> NDArray[np.uint8]:
    """Warp an image by an affine into a frame with bilinear interpolation.

    Along an axis that shrinks, the image is first averaged over boxes of as many pixels as fall into one
    frame pixel: fine texture would alias otherwise. The boxes overlap (nothing is decimated in between),
    because separate blocks would move a small dot by up to 0.1 px in the frame as soon as the map also
    rotates.

    Args:
        image: `[h, w, c]` or `[h, w]`, uint8.
        affine: `[2, 3]`, from image pixels to frame pixels.
        to_hw: Height and width of the frame.
        pad_value: Grey level outside the image.

    Returns:
        `[to_h, to_w, c]` or `[to_h, to_w]`, uint8; the image itself when there is nothing to do.
    """
    if image.shape[:2] == to_hw and np.array_equal(affine, identity_affine()):
        return image
    frame_per_source = np.linalg.norm(affine[:, :2], axis=0)  # along x and along y
    box_x, box_y = (max(round(1.0 / max(float(scale), 1e-6)), 1) for scale in frame_per_source)
    if box_x * box_y == 2:
        box_x = box_y = 2  # cv2.blur adds 1 to every uint8 value when the box has an area of 2
    if box_x > 1 or box_y > 1:
        image = cv2.blur(image, (box_x, box_y)).reshape(image.shape).astype(np.uint8, copy=False)
        # OpenCV anchors a box of even length half a pixel to the right of its centre, and below it.
        off_centre = np.array([[1.0, 0.0, (box_x % 2 - 1) / 2], [0.0, 1.0, (box_y % 2 - 1) / 2]])
        affine = compose(off_centre, affine)
    border = (pad_value,) * 4
    warped = cv2.warpAffine(image, affine, to_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=border)
    return warped.reshape(*to_hw, *image.shape[2:]).astype(np.uint8, copy=False)
