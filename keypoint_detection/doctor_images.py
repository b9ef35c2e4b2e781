"""Read the image files of a data set, and find the missing, the broken and those of another size."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.doctor_entries import ImageEntry, one_line, show
from keypoint_detection.doctor_files import LabelFile
from keypoint_detection.doctor_findings import Finding

THUMBNAIL = 32
"""Side of the grey thumbnails that are compared, in pixels."""
_TAIL_BYTES = 1 << 16
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the functions


class Picture(NamedTuple):
    """Hold what the doctor keeps of an image file.

    Attributes:
        hw: Height and width in pixels as the image is loaded (EXIF orientation applied), or None.
        problem: Code and message of what keeps it from being used, or None.
        thumbnail: Grey, uint8 `[THUMBNAIL, THUMBNAIL]`.
        hash_thumbnail: Grey, uint8 `[8, 9]`, for the difference hash.
    """

    hw: tuple[int, int] | None = None
    problem: tuple[str, str] | None = None
    thumbnail: NDArray[np.uint8] | None = None
    hash_thumbnail: NDArray[np.uint8] | None = None


def image_path(labels: LabelFile, image: ImageEntry) -> Path:
    """Return where the file of an image entry lies."""
    return labels.path.parent / image.file_name


def read_pictures(files: Sequence[LabelFile], workers: int | None) -> dict[Path, Picture]:
    """Read every image file once.

    Args:
        files: Label files.
        workers: Threads; None takes one per processor, 32 at most.

    Returns:
        What is kept of each image, by its path as `image_path` gives it.
    """
    paths = list(
        dict.fromkeys(image_path(labels, image) for labels in files for image in labels.images.values())
    )
    level = _OPENCV_LOG.getLogLevel()
    try:
        with ThreadPoolExecutor(max_workers=workers) as pool:
            return dict(zip(paths, pool.map(read_picture, paths), strict=True))
    finally:
        # each reading silences OpenCV for a moment, and threads may restore each other's silence
        _OPENCV_LOG.setLogLevel(level)


def read_picture(path: Path) -> Picture:
    """Read one image file; a broken one is a picture with a problem, not an error."""
    try:
        if not path.is_file():
            return Picture(problem=("image-missing", "expected an image file, got nothing"))
        grey = load_image(path, 1)[..., 0]
    except (ValueError, OSError) as error:
        return Picture(problem=("image-unreadable", _reason(error)))
    hw = (grey.shape[0], grey.shape[1])
    problem = None
    if _is_cut_jpeg(path):
        problem = ("image-unreadable", "expected a whole JPEG, got one without its end: it is cut")
    # areas are averaged, so that a copy of another size or compression gives the same thumbnail
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return Picture(hw, problem, np.asarray(thumbnail, np.uint8), np.asarray(small, np.uint8))


def image_findings(labels: LabelFile, pictures: dict[Path, Picture]) -> Iterator[Finding]:
    """Yield what is wrong with the image files of a label file."""
    file = str(labels.path)
    first_of: dict[Path, int] = {}
    for image in labels.images.values():
        path = image_path(labels, image)
        picture = pictures[path]
        if first_of.setdefault(path, image.id) != image.id:
            message = (
                f"expected one entry per image file, got {show(image.file_name)} also for image "
                f"{first_of[path]}; merge the two entries (--fix does)"
            )
            yield Finding("image-name-twice", "error", message, image.id, file=file)
        if picture.problem is not None:
            code, reason = picture.problem
            message = f"{show(image.file_name)}: {reason}; restore the file or leave the image out"
            yield Finding(code, "error", message, image.id, file=file)
        if picture.hw is not None and image.hw is not None and picture.hw != image.hw:
            yield Finding("image-size", "error", _size_message(image, picture.hw, path), image.id, file=file)


def _size_message(image: ImageEntry, hw: tuple[int, int], path: Path) -> str:
    assert image.hw is not None
    text = (
        f"expected the size of {show(image.file_name)}, {hw[1]}x{hw[0]}, got {image.hw[1]}x{image.hw[0]} "
        "(width x height) in its entry"
    )
    if image.hw == hw[::-1]:
        if stored_hw(path) == image.hw:
            return (
                f"{text}: its EXIF rotation is applied when it is loaded, but not in the labels; write the "
                "file without the rotation, or turn the labels"
            )
        return f"{text}: width and height are swapped; correct the entry"
    return f"{text}; if the labels were made on an image of another size, scale them, else correct the entry"


def stored_hw(path: Path) -> tuple[int, int] | None:
    """Return height and width of an image as stored, without its EXIF orientation."""
    stored = cv2.imdecode(
        np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    )
    return None if stored is None else (stored.shape[0], stored.shape[1])


def _is_cut_jpeg(path: Path) -> bool:
    """Tell whether a JPEG lacks its end; the decoder fills what is missing with grey and says nothing."""
    with path.open("rb") as stream:
        if stream.read(2) != _JPEG_START:
            return False
        size = stream.seek(0, 2)
        stream.seek(max(size - _TAIL_BYTES, 0))
        return _JPEG_END not in stream.read()


def _reason(error: Exception) -> str:
    return one_line(str(error).split("; ")[0])
