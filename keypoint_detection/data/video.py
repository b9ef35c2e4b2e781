"""Read the frames of videos and cameras: in order, from any frame on, with their times.

With PyAV (the extra `video`) the times are the presentation times that the file holds; without it OpenCV
reads. Both decode with FFmpeg, turn frames as the file says they were filmed, and give the same pixels.
"""

import logging
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.video_opencv import Camera, OpenCVFile, RawFrame
from keypoint_detection.data.video_pyav import PyAVFile

logger = logging.getLogger("keypoint_detection")

_FORMATS = "3gp avi flv m2ts m4v mkv mov mp4 mpeg mpg mts ogv ts webm wmv"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in _FORMATS.split())

_CAMERA = "camera:"


class Frame(NamedTuple):
    """Hold one frame of a video.

    Attributes:
        index: Counts from 0 at the beginning of the video.
        time_s: Seconds since the first frame of the video was shown.
        image: `[h, w, 3]` RGB or `[h, w, 1]` grey, uint8.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8]


def is_video(path: str | Path) -> bool:
    """Tell by the suffix, in upper or lower case, whether a path is a video."""
    return Path(path).suffix.lower() in VIDEO_SUFFIXES


def camera_number(source: str | Path) -> int | None:
    """Return the number of the camera that `camera:0`, `camera:1`, ... name, None for any other source.

    Raises:
        ValueError: What follows `camera:` is no whole number.
    """
    if not str(source).startswith(_CAMERA):
        return None
    number = str(source).removeprefix(_CAMERA)
    if not (number.isascii() and number.isdigit()):
        raise ValueError(f"expected a camera such as camera:0, got {source}; give its number, from 0 on")
    return int(number)


def pyav() -> Any:
    """Return the module `av`, or None when the extra `video` is not installed."""
    try:
        import av
        import av.error
    except ImportError:
        return None
    return av


class VideoFrames:
    """Iterate over the frames of a video file or a camera; use it in a `with` block, or close it.

    A file can be iterated over again: each time it is read anew. Where a packet is damaged, the frames before
    it are given and then comes the error; a file that ends early ends normally, with one line in the log.
    (OpenCV cannot tell the two apart: both end normally.) When reading starts at a later frame, damage in
    front of it may stay unseen.

    Attributes:
        fps: Frames per second, on average; what the camera says, or 25 where nobody says.
        image_hw: Height and width of every frame in pixels, as it is to be viewed.
        n_frames: Frames by the container's own account: an estimate; None for a camera or where unknown.
        exact_times: True when the times are the file's presentation times.
        time_base: The unit of those times in seconds, None where they are not exact.
    """

    def __init__(self, source: str | Path, *, start: int = 0, n_channels: int = 3) -> None:
        """Open a video and decode its first frame.

        Args:
            source: A video file, or `camera:N`.
            start: Index of the first frame to give, at least 0; the video may be shorter.
            n_channels: 3 for RGB, 1 for grey.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is no video, the camera does not answer, or an argument is out of range.
        """
        if start < 0 or n_channels not in (1, 3):
            raise ValueError(
                f"expected start >= 0 and 1 or 3 channels for {source}, got start {start} and {n_channels} "
                "channels; a model of another number of channels cannot run on video"
            )
        self._source, self._start, self._n_channels = source, start, n_channels
        self._reader = _open_reader(source)
        self.fps: float = self._reader.fps
        self.image_hw: tuple[int, int] = self._reader.image_hw
        self.n_frames: int | None = self._reader.n_frames
        self.exact_times: bool = self._reader.exact_times
        self.time_base: Fraction | None = self._reader.time_base
        self._readings: list[Generator[Frame, None, None]] = []

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames in order, from `start` on.

        Raises:
            ValueError: A frame cannot be decoded, or differs from the first one in size.
        """
        reading = self._read()
        self._readings.append(reading)
        return reading

    def close(self) -> None:
        """End all readings and give the file or the camera back."""
        while self._readings:
            self._readings.pop().close()
        self._reader.close()

    def __enter__(self) -> "VideoFrames":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> Generator[Frame, None, None]:
        index, time_s = None, 0.0
        for index, time_s, image in self._reader.frames(self._start):
            if image.shape[:2] != self.image_hw:
                expected, got = (f"{hw[1]}x{hw[0]}" for hw in (self.image_hw, image.shape))
                raise ValueError(
                    f"expected frames of {expected} pixels throughout, got {got} at frame {index} of "
                    f"{self._source}; cut the video there"
                )
            yield Frame(index, time_s, _with_channels(image, self._n_channels))
        if index is not None:
            self._warn_of_early_end(time_s)

    def _warn_of_early_end(self, last_s: float) -> None:
        if self.n_frames is None:
            return
        given_s, announced_s = last_s + 1 / self.fps, self.n_frames / self.fps
        if given_s < 0.95 * announced_s - 3 / self.fps:
            logger.warning(
                "%s ends after %.1f s though it announces %.1f s: it may be cut or damaged",
                *(self._source, given_s, announced_s),
            )


class _Reader(Protocol):
    fps: float
    image_hw: tuple[int, int]
    n_frames: int | None
    exact_times: bool
    time_base: Fraction | None

    def frames(self, start: int) -> Iterator[RawFrame]: ...

    def close(self) -> None: ...


def _open_reader(source: str | Path) -> _Reader:
    number = camera_number(source)
    if number is not None:
        return Camera(number)
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"expected a video file, found none at {path}; check the path")
    av = pyav()
    return OpenCVFile(path) if av is None else PyAVFile(path, av)


def _with_channels(image: NDArray[np.uint8], n_channels: int) -> NDArray[np.uint8]:
    if n_channels == 3:
        return image
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]
