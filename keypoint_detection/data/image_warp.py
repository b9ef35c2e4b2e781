"""Image files that are read, warped and written as what they are: grey or colour, 8 or 16 bits, alpha."""

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import ImageError
from keypoint_detection.geometry import PAD_VALUE, Affine, compose, identity_affine, invert, warp_image

Pixels = NDArray[Any]

JPEG_QUALITY = 95
MAX_SIDE_PX = 32766
"""OpenCV's warp counts pixels in 16 bits."""

_SIXTEEN_BITS = frozenset((".png", ".tif", ".tiff", ".jp2"))
_JPEG_START = b"\xff\xd8"


def read_pixels(path: str | Path) -> Pixels:
    """Read an image file without converting it, the EXIF orientation applied as `load_image` does.

    Returns:
        `[h, w]` or `[h, w, 3 or 4]`, uint8 or uint16, in OpenCV's order of channels.

    Raises:
        FileNotFoundError: There is no such file.
        ImageError: It is no image of 8 or 16 bits, or one with transparency that is stored turned.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected an image file, found nothing at {path}; check the path")
    content = path.read_bytes()
    seen = _decode(content, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
    if seen is None or seen.dtype not in (np.uint8, np.uint16):
        got = "a corrupt, cut or unknown file" if seen is None else f"{seen.dtype} pixels"
        raise ImageError(f"expected an image of 8 or 16 bits, got {got}: {path}; replace it or leave it out")
    if content.startswith(_JPEG_START):
        return seen
    stored = _decode(content, cv2.IMREAD_UNCHANGED)
    if stored is None or stored.ndim == 2 or stored.shape[2] != 4:
        return seen
    # OpenCV turns what it shows, but not what has transparency; which of the two labels mean is not clear.
    if stored.shape[:2] != seen.shape[:2] or not np.array_equal(stored[..., 0], np.atleast_3d(seen)[..., 0]):
        raise ImageError(
            f"expected an image with transparency to be stored upright, got an EXIF rotation: {path}; "
            "save it turned, or without transparency"
        )
    return stored


def write_pixels(path: str | Path, pixels: Pixels) -> None:
    """Write an image in the format that the suffix names, JPEG with quality 95.

    Raises:
        ImageError: The suffix names no format, or one that cannot hold 16 bits.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if pixels.dtype == np.uint16 and suffix not in _SIXTEEN_BITS:
        raise ImageError(
            f"expected a file name for 16-bit pixels ({', '.join(sorted(_SIXTEEN_BITS))}), got {path.name}"
        )
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    try:
        is_written, content = cv2.imencode(suffix, pixels, quality)
    except cv2.error:
        is_written, content = False, np.empty(0, np.uint8)
    if not is_written:
        raise ImageError(f"expected a file name such as .png or .jpg that can be written, got {path.name}")
    path.write_bytes(content.tobytes())


def warp_pixels(pixels: Pixels, affine: Affine, to_hw: tuple[int, int]) -> Pixels:
    """Warp an image of 8 or 16 bits by an affine without rotation, see `geometry.warp_image`.

    Where the frame shows nothing beyond the image, its outer pixels are continued, so that a border that
    falls between two pixels does not take on some of the padding's grey.

    Args:
        pixels: `[h, w]` or `[h, w, c]`, uint8 or uint16.
        affine: `[2, 3]`, from image pixels to frame pixels.
        to_hw: Height and width of the frame.

    Returns:
        `[to_h, to_w]` or `[to_h, to_w, c]` of the same type.
    """
    extra_x, extra_y = _continued(pixels.shape[1::-1], affine, to_hw[::-1])
    is_shift = np.array_equal(affine, np.rint(affine)) and np.array_equal(np.diag(affine), [1.0, 1.0])
    if (extra_x or extra_y) and not is_shift:
        sides = (extra_y, extra_y, extra_x, extra_x)
        grown = cv2.copyMakeBorder(pixels, *sides, cv2.BORDER_REPLICATE).reshape(
            pixels.shape[0] + 2 * extra_y, pixels.shape[1] + 2 * extra_x, *pixels.shape[2:]
        )
        into_grown = np.array([[1.0, 0.0, -extra_x], [0.0, 1.0, -extra_y]])
        pixels, affine = grown, compose(into_grown, affine)
    if pixels.dtype == np.uint8:
        return warp_image(pixels, affine, to_hw)
    return _warp_16_bits(pixels, affine, to_hw)


def warp_colors(image: NDArray[np.uint8], affine: Affine, to_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Do as `geometry.warp_image` does, RGB in half the time: OpenCV is quickest with four channels."""
    if image.shape[2] != 3 or (image.shape[:2] == to_hw and np.array_equal(affine, identity_affine())):
        return warp_image(image, affine, to_hw)
    warped = warp_image(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA).astype(np.uint8, copy=False), affine, to_hw)
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB).astype(np.uint8, copy=False)


def _continued(image_wh: tuple[int, ...], affine: Affine, to_wh: tuple[int, ...]) -> tuple[int, int]:
    """Return along x and y by how many pixels the image is to be continued: 0 where the frame shows more."""
    back = invert(affine)
    extra = [0, 0]
    for axis in (0, 1):
        low, high = (back[axis, axis] * edge + back[axis, 2] for edge in (-0.5, to_wh[axis] - 0.5))
        if low > -0.5 - 1e-6 and high < image_wh[axis] - 0.5 + 1e-6:
            extra[axis] = 1 + math.ceil(back[axis, axis])
    return extra[0], extra[1]


def _warp_16_bits(pixels: Pixels, affine: Affine, to_hw: tuple[int, int]) -> Pixels:
    """Warp as `geometry.warp_image` does, which holds 8 bits only; the padding is as grey as there."""
    boxes = [max(round(1.0 / max(float(scale), 1e-6)), 1) for scale in np.diag(affine)]
    image = cv2.blur(pixels.astype(np.float32), (boxes[0], boxes[1]))
    # OpenCV anchors a box of even length half a pixel to the right of its centre, and below it.
    off_centre = np.array([[1.0, 0.0, (boxes[0] % 2 - 1) / 2], [0.0, 1.0, (boxes[1] % 2 - 1) / 2]])
    border = (PAD_VALUE * 257,) * 4
    image = cv2.warpAffine(
        image, compose(off_centre, affine), to_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=border
    )
    return np.rint(image).astype(np.uint16).reshape(*to_hw, *pixels.shape[2:])


def _decode(content: bytes, flags: int) -> Pixels | None:
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags) if content else None
    except cv2.error:
        return None
