"""Make images smaller by averaging whole blocks of pixels, and hold log depth in a byte."""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LARGEST_DEPTH_M = 1e5
"""Depths from here on share one value."""

_STEPS = 254 / math.log(LARGEST_DEPTH_M)


def average_blocks(image: NDArray[Any], factor: int) -> NDArray[Any]:
    """Average blocks of factor x factor pixels; a block that is cut by the border averages what it has.

    Pixel `x` of the result is centred at `(x + 0.5) * factor - 0.5` of the image.

    Args:
        image: uint8 or float32, `[h, w]` or `[h, w, c]`.
        factor: 1 or more.

    Returns:
        `[ceil(h / factor), ceil(w / factor)]` and `[..., c]`, of the type of the image; uint8 is rounded.
    """
    height, width = image.shape[:2]
    reduced = np.empty((-(-height // factor), -(-width // factor), *image.shape[2:]), image.dtype)
    for rows, to_rows, block_h in _runs(height, factor):
        for columns, to_columns, block_w in _runs(width, factor):
            part = image[rows, columns]
            size = (part.shape[1] // block_w, part.shape[0] // block_h)
            smaller = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
            reduced[to_rows, to_columns] = smaller.reshape(size[1], size[0], *image.shape[2:])
    return reduced


def _runs(length: int, factor: int) -> list[tuple[slice, slice, int]]:
    """Return where whole blocks lie, where they go, and their length; then those of the block at the end.

    Of blocks that fill a picture OpenCV's INTER_AREA gives plain averages, of others it does not.
    """
    whole, rest = divmod(length, factor)
    runs = [(slice(whole * factor), slice(whole), factor)] if whole else []
    return runs + ([(slice(whole * factor, None), slice(whole, None), rest)] if rest else [])


def log_depth(depth_m: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ln of the depth, 0 to ln 1e5 and 0 where there is none, and 1.0 where there is one, else 0.0.

    Args:
        depth_m: Metres; NaN, infinity, 0 and less are none.
    """
    is_there = np.isfinite(depth_m) & (depth_m > 0)
    values = np.where(is_there, depth_m, 1.0).astype(np.float32, copy=False)
    np.log(np.clip(values, 1.0, LARGEST_DEPTH_M, out=values), out=values)
    return values, is_there.astype(np.float32)


def average_depth(
    ln_depth: NDArray[np.float32], is_there: NDArray[np.float32], factor: int
) -> NDArray[np.uint8]:
    """Return the code of the mean log depth of each block, over the pixels of it that have a depth.

    Args:
        ln_depth: Of `log_depth`, `[h, w]`.
        is_there: Of `log_depth`, `[h, w]`.
        factor: Side of the blocks in pixels.

    Returns:
        `[ceil(h / factor), ceil(w / factor)]`: 0 without depth, else
        `1 + round(254 * ln(d) / ln(1e5))`, so 1 is a metre or less and 255 is 100 km or more.
    """
    share = average_blocks(is_there, factor)
    mean = average_blocks(ln_depth, factor) / np.where(share > 0, share, 1)
    return np.where(share > 0, 1 + np.rint(mean * _STEPS), 0).astype(np.uint8)
