"""Read video files with PyAV, which gives the presentation times that the file holds."""

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.video_opencv import DECODER_THREADS, USUAL_FPS, RawFrame
from keypoint_detection.data.video_seek import entry_times


class PyAVFile:
    """Read the frames of a video file with PyAV; FFmpeg works outside of Python's lock."""

    def __init__(self, path: Path, av: Any) -> None:
        """Open the file and decode its first frame.

        Args:
            path: The file.
            av: The module of PyAV, 17 or later.

        Raises:
            ValueError: FFmpeg finds no frame in it.
        """
        self._path, self._av = path, av
        with self._open(DECODER_THREADS) as (container, stream), closing(self._decoded(0)) as decoded:
            _, first = next(decoded, (0, None))
            if first is None:
                raise ValueError(f"expected a video, found no frame in {path}; check that it plays")
            self.image_hw = self._to_rgb(first, self._reformatter()).shape[:2]
            self.exact_times = first.pts is not None
            self.time_base: Fraction | None = stream.time_base if self.exact_times else None
            self.fps = float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
            self.n_frames = stream.frames or _estimated_frames(container, stream, self.fps)
            self._first_pts = first.pts

    def frames(self, start: int) -> Iterator[RawFrame]:
        """Yield the frames from `start` on."""
        reformatter, time_s = self._reformatter(), -1.0
        for index, frame in self._decoded(start):
            now_s = self._time_s(index, frame.pts)
            # AVI stores no presentation times; FFmpeg's guess can repeat itself.
            time_s = now_s if now_s > time_s else time_s + 1 / self.fps
            if index >= start:
                yield index, time_s, self._to_rgb(frame, reformatter)

    def close(self) -> None:
        """Do nothing: every reading closes its own file."""

    def _time_s(self, index: int, pts: int | None) -> float:
        if self.time_base is None or pts is None:
            return index / self.fps
        return float((pts - self._first_pts) * self.time_base)

    def _decoded(self, start: int) -> Generator[tuple[int, Any], None, None]:
        """Yield index and frame from `start` or a place before it on, in a few threads.

        Those can lose whole frames in front of damage: what is left there is read again in one.
        """
        behind, reason = 0, ""
        for n_threads in (DECODER_THREADS, 1):
            try:
                for index, frame in self._read(max(start, behind), n_threads):
                    if index >= behind:
                        yield index, frame
                        behind = index + 1
                return
            except self._av.error.FFmpegError as error:
                reason = error.strerror
        raise ValueError(
            f"frame {behind} of {self._path} cannot be decoded ({reason}); the frames before it can: "
            "cut the video there or replace it"
        )

    def _read(self, start: int, n_threads: int) -> Generator[tuple[int, Any], None, None]:
        """Enter at the last place that is proved to change nothing, or else decode from the beginning."""
        times = self._entry_times(start)
        if times:
            with self._open(n_threads) as (container, stream):
                decoded = self._decode(container, stream, start + 1 - len(times))
                reached = self._enter(container, stream, decoded, times)
                if reached is not None:
                    yield from chain([reached], decoded)
                    return
        with self._open(n_threads) as (container, stream):
            yield from self._decode(container, stream, 0)

    def _enter(
        self, container: Any, stream: Any, decoded: Iterator[tuple[int, Any]], times: list[int]
    ) -> tuple[int, Any] | None:
        """Return the frame at the last of the times, or None where the frames up to it come otherwise."""
        item = None
        try:
            container.seek(times[0], stream=stream)
            for time, item in zip(times, decoded, strict=False):  # times first: nothing more is decoded
                if item[1].pts != time:
                    return None
        except self._av.error.FFmpegError:
            return None
        return item if item is not None and item[1].pts == times[-1] else None

    def _entry_times(self, start: int) -> list[int]:
        if start == 0:
            return []
        with self._open(1) as (container, stream):
            try:
                return entry_times(container, stream, start)
            except self._av.error.FFmpegError:  # decoding will come to it, and say where
                return []

    @contextmanager
    def _open(self, n_threads: int) -> Iterator[tuple[Any, Any]]:
        try:
            container = self._av.open(str(self._path), metadata_errors="replace")
        except self._av.error.FFmpegError as error:
            raise ValueError(
                f"expected a video, FFmpeg cannot read {self._path} ({error.strerror}); check that it plays"
            ) from None
        with container:
            if not container.streams.video:
                raise ValueError(f"expected a video, found no pictures in {self._path}; check that it plays")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = n_threads
            yield container, stream

    def _decode(self, container: Any, stream: Any, index: int) -> Iterator[tuple[int, Any]]:
        """Yield index and frame; in one thread, nothing that can be decoded in front of damage is missing."""
        last_pts = None
        try:
            for frame in container.decode(stream):
                yield index, frame
                index, last_pts = index + 1, frame.pts
        except self._av.error.FFmpegError:
            if stream.codec_context.thread_count == 1:
                yield from enumerate(self._held(stream.codec_context, last_pts), index)
            raise

    def _held(self, codec: Any, last_pts: int | None) -> Iterator[Any]:
        """Yield the frames that a decoder holds back for their order, as far as they follow without a gap.

        Where a frame between them is damaged, what comes behind it is not asked for: it may lean on it.
        """
        with self._open(1) as (container, stream):
            try:
                held = codec.decode(None)
                packets = [packet.pts for packet in container.demux(stream)]
            except self._av.error.FFmpegError:
                return
        following = sorted(pts for pts in packets if pts is not None and (last_pts is None or pts > last_pts))
        for frame, pts in zip(held, following, strict=False):
            if frame.pts != pts:
                return
            yield frame

    def _reformatter(self) -> Any:
        return self._av.video.reformatter.VideoReformatter()

    def _to_rgb(self, frame: Any, reformatter: Any) -> NDArray[np.uint8]:
        image = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        quarters, rest = divmod(round(frame.rotation), 90)  # counter-clockwise
        # OpenCV leaves any other angle alone as well.
        return np.ascontiguousarray(np.rot90(image, quarters) if rest == 0 else image)


def _estimated_frames(container: Any, stream: Any, fps: float) -> int | None:
    if stream.duration is not None:
        return round(stream.duration * stream.time_base * Fraction(fps)) or None
    return round(container.duration / 1_000_000 * fps) or None if container.duration else None
