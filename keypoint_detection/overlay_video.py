"""Write a video with the predicted points drawn on its frames."""

import errno
import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.video import Frame, VideoFrames, camera_number, pyav
from keypoint_detection.data.video_opencv import OPENCV_IS_SILENT
from keypoint_detection.files import atomic_write
from keypoint_detection.records import Prediction
from keypoint_detection.utils.visualization import draw_prediction, draw_trails

logger = logging.getLogger("keypoint_detection")

_QUEUE_FRAMES = 4  # decoded, or drawn and not yet encoded
_ENCODER_THREADS = 2
_QUALITY = {"crf": "20", "preset": "veryfast"}
_BT709, _LIMITED_RANGE = 1, 1  # FFmpeg's numbers for the colours that players expect
_FINEST_TIME_BASE = Fraction(1, 90_000)

Write = Callable[[NDArray[np.uint8], float], None]
_Picture = NDArray[np.uint8]


class _OfImage(Protocol):
    @property
    def image_hw(self) -> tuple[int, int]: ...


_T = TypeVar("_T", bound=_OfImage)


def write_overlay_video(
    source: str | Path,
    predictions: Iterable[Prediction],
    output: Path,
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    confidence_threshold: float = 0.1,
    trail_frames: int = 0,
    names: bool = True,
) -> int:
    """Draw predictions on the frames of a video, and write them as another video.

    With the extra `video` it is H.264 with the time stamps of the source, at a variable frame rate too;
    without it OpenCV writes MPEG-4 at the average rate. A picture of odd height or width gets its last row or
    column once more, which both codecs need; points stay where they are. Decoding, drawing and encoding run
    side by side, with a few frames between them.

    Args:
        source: The video file that the predictions were made on.
        predictions: One per frame from the first one on, in order; may end before the video does, and then
            the overlay ends there. They are taken one at a time.
        output: A new or old `.mp4` file; only a complete video takes its place.
        skeleton: Pairs of channels; a line joins the best points of each pair.
        confidence_threshold: Least score of a point that is drawn, in [0, 1].
        trail_frames: Frames back to which a trail shows the way of the best point of every channel; 0 draws
            none.
        names: Whether to write the names of the channels.

    Returns:
        How many frames were written.

    Raises:
        FileNotFoundError: There is no such video.
        ValueError: The source is a camera or no video, it has fewer frames than there are predictions, a
            prediction is for another size, there is none, `output` is no `.mp4` or the source itself, or
            `trail_frames` is below 0.
    """
    if trail_frames < 0:
        raise ValueError(f"expected trail_frames of 0 (no trails) or more, got {trail_frames}")
    trail: deque[NDArray[np.float64]] = deque(maxlen=trail_frames + 1)

    def draw(image: NDArray[np.uint8], prediction: Prediction) -> NDArray[np.uint8]:
        trail.append(_best_points(prediction, confidence_threshold))
        image = draw_trails(image, np.stack(trail)) if trail_frames else image
        return draw_prediction(image, prediction, confidence_threshold, 1, skeleton=skeleton, names=names)

    return write_drawn_video(source, predictions, output, draw)


def write_drawn_video(
    source: str | Path, found: Iterable[_T], output: Path, draw: Callable[[NDArray[np.uint8], _T], _Picture]
) -> int:
    """Write a video with something drawn on each frame; see `write_overlay_video`.

    Args:
        source: The video file that `found` is of.
        found: What there is to draw, one for each frame from the first one on, taken one at a time.
        output: A new or old `.mp4` file.
        draw: Gets a frame, RGB uint8 `[h, w, 3]`, and what was found in it; returns another of that size.

    Returns:
        How many frames were written.

    Raises:
        FileNotFoundError: There is no such video.
        ValueError: As for `write_overlay_video`.
    """
    output = Path(output)
    _check_arguments(source, output)
    n_frames = 0
    with (
        VideoFrames(source) as video,
        atomic_write(output) as temporary,
        closing(_read_ahead(iter(video))) as frames,
        _open_writer(temporary, video) as write,
        _Behind(write) as encoder,
    ):
        for frame, one in _pairs(source, frames, found):
            encoder.write(draw(frame.image, one), frame.time_s)
            n_frames += 1
        if n_frames == 0:
            raise ValueError(f"expected a prediction for every frame of {source}, got none")
    return n_frames


def _check_arguments(source: str | Path, output: Path) -> None:
    if camera_number(source) is not None:
        raise ValueError(
            f"expected a video file to draw on, got {source}: what it showed cannot be read again"
        )
    if output.suffix.lower() != ".mp4":
        raise ValueError(f"expected an overlay video that ends in .mp4, got {output}; rename it")
    if output.exists() and Path(source).exists() and output.samefile(source):
        raise ValueError(f"expected another file than the source, got {output} for both; rename the overlay")


def _pairs(
    source: str | Path, frames: Iterator[Frame], predictions: Iterable[_T]
) -> Iterator[tuple[Frame, _T]]:
    for n_frames, prediction in enumerate(predictions):
        frame = next(frames, None)
        if frame is None:
            raise ValueError(
                f"expected at most one prediction per frame, got more than the {n_frames} frames of "
                f"{source}; predict on this very file"
            )
        if frame.image.shape[:2] != tuple(prediction.image_hw):
            expected, got = (f"{hw[1]}x{hw[0]}" for hw in (frame.image.shape, prediction.image_hw))
            raise ValueError(
                f"expected predictions for {expected} pixels, got {got} at frame {n_frames} of {source}; "
                "predict on this very file"
            )
        yield frame, prediction


def _best_points(prediction: Prediction, threshold: float) -> NDArray[np.float64]:
    """Return `[c, 2]`, NaN where no point of the channel is confident."""
    best = [
        channel[0] if channel and channel[0].score >= threshold else None for channel in prediction.keypoints
    ]
    return np.array([(p.x, p.y) if p else (np.nan, np.nan) for p in best], np.float64).reshape(-1, 2)


def _read_ahead(frames: Iterator[Frame]) -> Generator[Frame, None, None]:
    """Yield the same frames, decoded in a thread that is a few of them ahead."""
    with ThreadPoolExecutor(1, "decode") as pool:
        waiting = deque(pool.submit(next, frames, None) for _ in range(_QUEUE_FRAMES))
        while (frame := waiting.popleft().result()) is not None:
            waiting.append(pool.submit(next, frames, None))
            yield frame


class _Behind:
    """Write in a thread that is at most a few pictures behind; its errors come out at a later write."""

    def __init__(self, write: Write) -> None:
        self._write, self._pool = write, ThreadPoolExecutor(1, "encode")
        self._waiting: deque[Future[None]] = deque()

    def write(self, picture: NDArray[np.uint8], time_s: float) -> None:
        """Hand over a picture `[h, w, 3]`, RGB uint8, which nobody changes afterwards."""
        self._waiting.append(self._pool.submit(self._write, picture, time_s))
        if len(self._waiting) > _QUEUE_FRAMES:
            self._waiting.popleft().result()

    def __enter__(self) -> "_Behind":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        for written in self._waiting if kind is None else ():
            written.result()


def _open_writer(path: Path, video: VideoFrames) -> AbstractContextManager[Write]:
    av = pyav()
    if av is not None and "libx264" in av.codecs_available:
        return _H264Writer(av, path, video)
    logger.warning(
        "the overlay video is MPEG-4 at a constant %.4g frames per second; "
        "pip install 'keypoint-detection[video]' makes it H.264 with exact times, which every player shows",
        video.fps,
    )
    return _MPEG4Writer(path, video)


class _H264Writer:
    """Encode with libx264: yuv420p, BT.709, the index at the beginning, times as they come."""

    def __init__(self, av: Any, path: Path, video: VideoFrames) -> None:
        self._av, self._last_pts, self._time_base = av, -1, _usable_time_base(video.time_base)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(video.fps).limit_denominator(100_000)
        self._stream = self._container.add_stream("libx264", rate=rate, options=_QUALITY)
        self._stream.height, self._stream.width = (_even(length) for length in video.image_hw)
        self._stream.pix_fmt = "yuv420p"
        codec = self._stream.codec_context
        codec.time_base, codec.thread_count = self._time_base, _ENCODER_THREADS
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE
        self._reformatter = av.video.reformatter.VideoReformatter()

    def __enter__(self) -> Write:
        return self._write

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()

    def _write(self, picture: NDArray[np.uint8], time_s: float) -> None:
        frame = self._av.VideoFrame.from_ndarray(_padded_to_even(picture), format="rgb24")
        frame = self._reformatter.reformat(
            frame, format="yuv420p", dst_colorspace="itu709", dst_color_range="MPEG", threads=1
        )
        self._last_pts = max(round(Fraction(time_s) / self._time_base), self._last_pts + 1)
        frame.pts, frame.time_base = self._last_pts, self._time_base
        self._container.mux(self._stream.encode(frame))


class _MPEG4Writer:
    """Encode with OpenCV, which knows no times: one frame follows the other at the average rate."""

    def __init__(self, path: Path, video: VideoFrames) -> None:
        height, width = (_even(length) for length in video.image_hw)
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        with OPENCV_IS_SILENT:
            self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, video.fps, (width, height))
        self._path, self._n_frames = path, 0
        if not self._writer.isOpened():
            raise ValueError(
                f"expected an OpenCV that writes MPEG-4, got one that cannot at {width}x{height} pixels and "
                f"{video.fps:.4g} frames per second; pip install 'keypoint-detection[video]'"
            )

    def __enter__(self) -> Write:
        return self._write

    def __exit__(self, kind: object, *_: object) -> None:
        self._writer.release()
        if kind is None and self._stored() != self._n_frames:  # OpenCV keeps it to itself
            raise OSError(errno.ENOSPC, "the video cannot be read back; is the disk full?", str(self._path))

    def _stored(self) -> int:
        with OPENCV_IS_SILENT:
            video = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        return count

    def _write(self, picture: NDArray[np.uint8], time_s: float) -> None:
        self._n_frames += 1
        self._writer.write(np.asarray(cv2.cvtColor(_padded_to_even(picture), cv2.COLOR_RGB2BGR)))


def _usable_time_base(time_base: Fraction | None) -> Fraction:
    """Return the unit of the source, or a finer one than any camera's where MP4 could not count in it."""
    if time_base is None or time_base.denominator > 1_000_000:
        return _FINEST_TIME_BASE
    return time_base


def _even(length: int) -> int:
    return 2 * math.ceil(length / 2)


def _padded_to_even(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return picture
    return np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
