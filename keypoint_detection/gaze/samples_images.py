"""Parts of images as the network takes them: stretched to a frame, padded beyond the image; box masks."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.image_warp import warp_pixels
from keypoint_detection.geometry import Affine, compose, invert

Floats = NDArray[np.float64]


def stretch_affine(box: Floats, to_hw: tuple[int, int]) -> Affine:
    """Return the map that stretches a box `[4]` of edges x0, y0, x1, y1 to fill a frame, `[2, 3]`."""
    scale = np.array(to_hw[::-1]) / (box[2:] - box[:2])
    return np.column_stack([np.diag(scale), -scale * box[:2] - 0.5])


def warp_part(image: NDArray[np.uint8], affine: Affine, to_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Do as `image_warp.warp_pixels` does, with no work on what the frame does not show.

    Args:
        image: `[h, w]` or `[h, w, c]`, uint8.
        affine: `[2, 3]`, from image pixels to frame pixels; it neither turns nor mirrors.
        to_hw: Height and width of the frame.

    Returns:
        `[to_h, to_w]` or `[to_h, to_w, c]`.
    """
    back, slices, offset = invert(affine), [], []
    for axis in (1, 0):  # rows, then columns
        size, scale = image.shape[1 - axis], back[axis, axis]
        reach = 2 + 2 * math.ceil(scale)  # what the averaging before a reduction can see
        start = math.floor(back[axis, 2]) - reach
        stop = math.ceil(scale * (to_hw[1 - axis] - 1) + back[axis, 2]) + reach + 1
        start = min(max(start, 0), size - 1)
        slices.append(slice(start, min(max(stop, start + 1), size)))
        offset.append(float(start))
    part = np.ascontiguousarray(image[slices[0], slices[1]])
    into_image = np.array([[1.0, 0.0, offset[1]], [0.0, 1.0, offset[0]]])
    return warp_pixels(part, compose(into_image, affine), to_hw)


def mirrored(image: NDArray[np.uint8], is_mirrored: bool) -> NDArray[np.uint8]:
    """Return an image with left and right exchanged if they are to be."""
    return np.ascontiguousarray(image[:, ::-1]) if is_mirrored else image


def box_mask(box: Floats, frame_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Return 255 times the share of each pixel that lies in a box `[4]`, uint8 `[h, w]`."""
    covered = []
    for axis in (1, 0):
        place = np.arange(frame_hw[1 - axis])
        share = np.minimum(box[axis + 2], place + 0.5) - np.maximum(box[axis], place - 0.5)
        covered.append(np.clip(share, 0.0, 1.0))
    return np.rint(255 * covered[0][:, None] * covered[1][None, :]).astype(np.uint8)


def channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return `[c, h, w]` of `[h, w, c]` or `[h, w]`."""
    return np.stack(cv2.split(image)).astype(np.uint8, copy=False)
