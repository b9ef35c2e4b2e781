"""Small JPEG copies of images, made in parallel, and what is wrong with those that cannot be read."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from keypoint_detection.data.imageloader import load_image

JPEG_QUALITY = 80

_OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the functions


@dataclass(frozen=True)
class Thumbnail:
    """Hold the small copy of one image.

    Attributes:
        jpeg: The file's bytes; empty when the image cannot be read.
        image_hw: Height and width of the image itself in pixels, EXIF orientation applied, or None.
        problem: Why there is no thumbnail; empty when there is one.
    """

    jpeg: bytes = b""
    image_hw: tuple[int, int] | None = None
    problem: str = ""


def make_thumbnails(paths: Sequence[Path], longer_side_px: int) -> list[Thumbnail]:
    """Return the thumbnail of every image, in the order given; no image is enlarged.

    Args:
        paths: Image files; one that is missing or damaged gives a thumbnail without a picture.
        longer_side_px: Longer side in pixels.
    """
    make = partial(_make_thumbnail, longer_side_px=longer_side_px)
    # load_image silences OpenCV for a moment; threads that overlap would leave it silent.
    level = _OPENCV_LOG.getLogLevel()
    try:
        # OpenCV lets go of Python's lock while it decodes, so threads are enough.
        with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
            return list(tqdm(pool.map(make, paths), total=len(paths), desc="thumbnails", leave=False))
    finally:
        _OPENCV_LOG.setLogLevel(level)


def _make_thumbnail(path: Path, longer_side_px: int) -> Thumbnail:
    try:
        image = load_image(path)
    except FileNotFoundError:
        return Thumbnail(problem="the image file is missing")
    except (OSError, ValueError):
        return Thumbnail(problem="the image file cannot be read")
    height, width = image.shape[:2]
    scale = min(1.0, longer_side_px / max(height, width))
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    # INTER_AREA averages whole pixels: the corners of image and thumbnail stay together.
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        return Thumbnail(image_hw=(height, width), problem="no thumbnail could be made of the image")
    return Thumbnail(jpeg.tobytes(), (height, width))
