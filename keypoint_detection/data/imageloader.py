"""Read image files as uint8: any bit depth and colour type, one-line errors, retries when a disk stumbles."""

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_OPENCV_LOG: Any = getattr(cv2.utils, "logging", cv2)  # OpenCV 5 moved the functions
_PNG_SIGNATURE, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_PERMANENT = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)


class ImageError(ValueError):
    """Say in one line which image cannot be used and why, also out of a worker process."""

    def __init__(self, message: str) -> None:
        # PyTorch rebuilds an error of a worker process with its whole traceback as the message.
        last_line = message.rstrip().rsplit("\n", 1)[-1]
        super().__init__(last_line.rpartition("ImageError: ")[2])


def load_image(path: str | Path, n_channels: int = 3) -> NDArray[np.uint8]:
    """Read an image file.

    Grey and palette images become RGB (or RGB becomes grey) as `n_channels` asks, and transparency is
    dropped. 16-bit values are divided by 257 and rounded, without stretching. The EXIF orientation is
    applied, as viewers and labelling tools do; for `n_channels` other than 1 and 3 the file is taken as it is
    stored.

    Args:
        path: Any format that OpenCV reads: PNG, JPEG, TIFF, WebP, BMP, ...
        n_channels: 1 for grey, 3 for RGB (in this order); any other number must be that of the file.

    Returns:
        `[h, w, n_channels]`, uint8.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file cannot be read; another try may help.
        ImageError: The content is no readable image, its pixels are not 8- or 16-bit integers, or the number
            of channels differs (a ValueError).
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"expected an image file, found nothing at {path}; check the path") from None
    image = _decode(content, _flags(n_channels))
    if image is None or image.dtype not in (np.uint8, np.uint16):
        raise ImageError(_explain(content, path))
    image = image.reshape(*image.shape[:2], -1)
    if image.shape[2] != n_channels:
        raise ImageError(
            f"expected an image of {n_channels} channels (n_channels_in), got {image.shape[2]} in {path}; "
            "1 and 3 convert any image"
        )
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return np.ascontiguousarray(image[..., [2, 1, 0, 3]]) if n_channels == 4 else image


class ImageLoader:
    """Load images of one kind, and try again when reading fails for a moment."""

    def __init__(self, n_channels: int = 3, tries: int = 4, first_wait_s: float = 0.05) -> None:
        """Store the settings.

        Args:
            n_channels: As in `load_image`.
            tries: Attempts per file when reading fails with an OSError; a missing or corrupt file fails at
                once.
            first_wait_s: Seconds before the second attempt; each further wait is twice as long.
        """
        self.n_channels = n_channels
        self.tries = tries
        self.first_wait_s = first_wait_s

    def __call__(self, path: str | Path) -> NDArray[np.uint8]:
        """Return the image `[h, w, n_channels]`, see `load_image`."""
        for attempt in range(self.tries - 1):
            try:
                return load_image(path, self.n_channels)
            except _PERMANENT:
                raise
            except OSError:
                time.sleep(self.first_wait_s * 2**attempt)
        try:
            return load_image(path, self.n_channels)
        except _PERMANENT:
            raise
        except OSError as error:  # of a read: it has no file name
            raise ImageError(
                f"cannot read {path}: {error.strerror or error}, {self.tries} times; check the disk it is on"
            ) from None


class _OpenCVIsSilent:
    """Keep OpenCV from logging while any thread is inside; the level belongs to the whole process."""

    def __init__(self) -> None:
        self._lock, self._threads, self._level = threading.Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if self._threads == 0:
                self._level = _OPENCV_LOG.getLogLevel()
                _OPENCV_LOG.setLogLevel(0)
            self._threads += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                _OPENCV_LOG.setLogLevel(self._level)


_OPENCV_IS_SILENT = _OpenCVIsSilent()


def _flags(n_channels: int) -> int:
    if n_channels == 3:
        return cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
    return cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH if n_channels == 1 else cv2.IMREAD_UNCHANGED


def _decode(content: bytes, flags: int) -> NDArray | None:
    # libpng of OpenCV 4 complains straight to stderr: the usual damage, a cut file, is found before it is
    # asked.
    if not content or (content.startswith(_PNG_SIGNATURE) and _PNG_END not in content):
        return None
    try:
        with _OPENCV_IS_SILENT:  # the caller raises one line instead
            return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        return None


def _explain(content: bytes, path: Path) -> str:
    if not content:
        return f"expected an image, got an empty file: {path}; replace it or leave it out"
    stored = _decode(content, cv2.IMREAD_UNCHANGED)
    if stored is None:
        return f"expected an image, got a corrupt, cut or unknown file: {path}; replace it or leave it out"
    return f"expected 8- or 16-bit pixels, got {stored.dtype} in {path}; convert it to uint8 or uint16"
