"""Image files of a data set that is converted: their sizes without decoding them, and copies of them."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

_OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the functions
_MAX_SIDE_PX = 2**20  # OpenCV's own limit
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_JPEG_SIZE_MARKERS = frozenset((0xC0, 0xC1, 0xC2))
_JPEG_SCAN, _JPEG_APP1 = 0xDA, 0xE1
_THREADS = min(8, (os.cpu_count() or 1) + 2)


def image_sizes_hw(paths: Sequence[Path]) -> list[tuple[int, int] | None]:
    """Return height and width in pixels of every file as the image loader gives it; None for no image.

    PNG and JPEG tell their size in the header; an image with EXIF data, which may turn it, and any other kind
    is decoded.
    """
    with _silent_opencv(), ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(_size_hw, paths))


def image_size_hw(path: Path) -> tuple[int, int] | None:
    """Return what `image_sizes_hw` returns, of one file."""
    with _silent_opencv():
        return _size_hw(path)


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Keep OpenCV quiet: the caller says in one line what is wrong."""
    level = _OPENCV_LOG.getLogLevel()
    _OPENCV_LOG.setLogLevel(0)
    try:
        yield
    finally:
        _OPENCV_LOG.setLogLevel(level)


def copy_files(pairs: Iterable[tuple[Path, Path]]) -> None:
    """Copy files `(from, to)` in parallel, each one whole or not at all; a file onto itself stays.

    When one copy fails, the copies that are new are removed again, so that nothing half-done stays behind.
    """
    pairs = list(pairs)
    new = [target for _, target in pairs if not target.exists()]
    for folder in {target.parent for _, target in pairs}:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(_copy_file, pairs))
    except BaseException:
        for target in new:
            target.unlink(missing_ok=True)
        raise


def _copy_file(pair: tuple[Path, Path]) -> None:
    original, target = pair
    if target.exists() and target.samefile(original):
        return
    # Not `atomic_write`: it asks for the umask by setting it, which threads must not do at the same time.
    temporary = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        shutil.copyfile(original, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _size_hw(path: Path) -> tuple[int, int] | None:
    content = path.read_bytes()
    if content.startswith(_PNG) and b"eXIf" not in content:
        size = int.from_bytes(content[20:24], "big"), int.from_bytes(content[16:20], "big")
    else:
        size = (_jpeg_hw(content) if content.startswith(_JPEG) else None) or _decoded_hw(content)
    return size if size is not None and all(0 < side <= _MAX_SIDE_PX for side in size) else None


def _jpeg_hw(content: bytes) -> tuple[int, int] | None:
    """Return the size that the segments before the pixels tell; None when they hold EXIF or make no sense."""
    position, size = len(_JPEG), None
    while position + 9 <= len(content) and content[position] == 0xFF:
        marker, length = content[position + 1], int.from_bytes(content[position + 2 : position + 4], "big")
        if marker == _JPEG_SCAN:
            return size
        if length < 2 or (marker == _JPEG_APP1 and content.startswith(b"Exif", position + 4)):
            return None
        if marker in _JPEG_SIZE_MARKERS:
            height, width = content[position + 5 : position + 7], content[position + 7 : position + 9]
            size = int.from_bytes(height, "big"), int.from_bytes(width, "big")
        position += 2 + length
    return None


def _decoded_hw(content: bytes) -> tuple[int, int] | None:
    # libpng complains straight to stderr about a cut file, which is found before it is asked
    if not content or (content.startswith(_PNG) and b"IEND" not in content):
        return None
    try:
        # grey, not unchanged: the EXIF orientation is applied, as it is when the image is loaded
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        return None
    return None if image is None else (image.shape[0], image.shape[1])
