"""Read video files and cameras with OpenCV, which needs nothing beyond the core install."""

import math
import os
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import _OPENCV_IS_SILENT as OPENCV_IS_SILENT

DECODER_THREADS = 2
"""Threads of a video decoder: enough to keep ahead of a network, few enough to leave it the cores."""

USUAL_FPS = 25.0
"""Where a file or a camera does not say."""

RawFrame = tuple[int, float, NDArray[np.uint8]]
"""Index, time in seconds since the first frame, and RGB `[h, w, 3]`."""


class OpenCVFile:
    """Read the frames of a video file; the times are what OpenCV makes of the file's."""

    exact_times = False
    time_base: Fraction | None = None

    def __init__(self, path: Path) -> None:
        """Open the file and decode its first frame.

        Raises:
            ValueError: OpenCV finds no frame in it.
        """
        self._path = path
        capture = self._open()
        try:
            image = _read(capture)
            if image is None:
                raise ValueError(
                    f"expected a video, found no frame that can be decoded in {path}; check that it plays"
                )
            self.image_hw = (image.shape[0], image.shape[1])
            fps, n_frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
            if _is_still(capture, image, n_frames) and self._is_unwritten(image):
                raise ValueError(
                    f"expected a video that OpenCV can convert, got unwritten memory from {path} "
                    "(interlaced video?); pip install 'keypoint-detection[video]' to read it with PyAV"
                )
        finally:
            capture.release()
        self.fps = _known_fps(fps)
        self.n_frames = int(n_frames) if n_frames > 0 else None

    def frames(self, start: int) -> Iterator[RawFrame]:
        """Yield the frames from `start` on; the ones before are decoded and dropped.

        OpenCV cannot seek exactly in every file, does not tell damage from the end, and stretches frames of
        another size to that of the first one.
        """
        capture = self._open()
        try:
            index, first_s, time_s = 0, 0.0, 0.0
            while _grab(capture):
                now_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                first_s = now_s if index == 0 else first_s
                # A container without time stamps gives 0 or the same time over and over.
                time_s = now_s - first_s if now_s - first_s > time_s else index / self.fps
                image = _retrieve(capture) if index >= start else None
                if image is not None:
                    yield index, time_s, image
                index += 1
        finally:
            capture.release()

    def close(self) -> None:
        """Do nothing: every reading closes its own file."""

    def _is_unwritten(self, first: NDArray[np.uint8]) -> bool:
        """Tell whether a picture that never changes is one at all: read again, memory is black or another."""
        again = self._open()
        try:
            image = _read(again)
        finally:
            again.release()
        is_black = bool(np.count_nonzero(first) < 0.1 * first.size)
        return is_black or image is None or not np.array_equal(first, image)

    def _open(self) -> Any:
        # FFmpeg's own messages go past OpenCV's log; it looks at this once, when it is first used.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        options = [cv2.CAP_PROP_N_THREADS, DECODER_THREADS]
        with OPENCV_IS_SILENT:
            capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG, options)
            capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        return capture


class Camera:
    """Read a camera from its opening until it gives no more frames; it can be read once."""

    exact_times = False
    time_base: Fraction | None = None
    n_frames: int | None = None

    def __init__(self, number: int) -> None:
        """Open camera `number`, counted from 0, and take its first frame.

        Raises:
            ValueError: There is no such camera, or it gives no frame.
        """
        with OPENCV_IS_SILENT:
            self._capture = cv2.VideoCapture(number)
        image = _read(self._capture)
        if image is None:
            self._capture.release()
            raise ValueError(
                f"expected a camera, camera:{number} gives no frame; check its number (they count from 0), "
                "and that no other program uses it"
            )
        self._next: NDArray[np.uint8] | None = image
        self.image_hw = (image.shape[0], image.shape[1])
        self.fps = _known_fps(self._capture.get(cv2.CAP_PROP_FPS))

    def frames(self, start: int) -> Iterator[RawFrame]:
        """Yield the frames from `start` on, with the time at which each was taken over."""
        began_s, index, time_s = time.monotonic(), 0, 0.0
        while self._next is not None:
            if index >= start:
                yield index, time_s, self._next
            self._next = _read(self._capture)
            time_s = time.monotonic() - began_s
            index += 1

    def close(self) -> None:
        """Give the camera back."""
        self._next = None
        self._capture.release()


def _known_fps(fps: float) -> float:
    return float(fps) if math.isfinite(fps) and fps > 0 else USUAL_FPS


def _grab(capture: Any) -> bool:
    with OPENCV_IS_SILENT:
        return capture.grab()


def _retrieve(capture: Any) -> NDArray[np.uint8] | None:
    with OPENCV_IS_SILENT:
        ok, image = capture.retrieve()
    return _to_rgb(image) if ok and image is not None else None


def _is_still(capture: Any, first: NDArray[np.uint8], n_frames: float) -> bool:
    """Tell whether the second frame and those at each quarter are the first one, bit for bit.

    When FFmpeg refuses to convert a frame, OpenCV reports success and returns what its memory holds.
    """
    for place in (1, *(max(n_frames, 4) * quarter // 4 for quarter in range(1, 4))):
        if place > 1:
            capture.set(cv2.CAP_PROP_POS_FRAMES, place)
        other = _read(capture)
        if other is not None and not np.array_equal(other, first):
            return False
    return True


def _read(capture: Any) -> NDArray[np.uint8] | None:
    with OPENCV_IS_SILENT:
        ok, image = capture.read()
    return _to_rgb(image) if ok and image is not None else None


def _to_rgb(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    code = cv2.COLOR_BGR2RGB if image.ndim == 3 else cv2.COLOR_GRAY2RGB
    return np.asarray(cv2.cvtColor(image, code), np.uint8)
