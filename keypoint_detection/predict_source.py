"""What a prediction run reads: image files, a video or a camera, one image after the other."""

import glob
import hashlib
import logging
import os
import uuid
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import ImageLoader
from keypoint_detection.data.unlabeled_dataset import IMAGE_SUFFIXES, find_images, natural_order
from keypoint_detection.data.video import VideoFrames, camera_number, is_video
from keypoint_detection.predict_folder import is_overlay
from keypoint_detection.predict_pipeline import map_in_order

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class Item:
    """Hold one image of a source, or why there is none.

    Attributes:
        index: Place in the source, from 0.
        source: Path of the image or the video, or the camera.
        image: `[h, w, c]`, uint8; None with a problem.
        time_s: Time of a frame in seconds; None for an image file.
        problem: Why it cannot be read, in one line.
    """

    index: int
    source: str
    image: NDArray[np.uint8] | None = None
    time_s: float | None = None
    problem: str | None = None


@dataclass(frozen=True)
class ImageFiles:
    """Name image files, in the order of the predictions."""

    paths: tuple[Path, ...]
    is_video = False
    is_camera = False

    def identity(self) -> str:
        """Return a hash over paths, sizes and times of change."""
        digest = hashlib.sha256()
        for path in self.paths:
            digest.update(_stamp(path))
        return digest.hexdigest()

    def count(self) -> int:
        """Return how many images there are."""
        return len(self.paths)

    def items(self, start: int, n_channels: int) -> Generator[Item, None, None]:
        """Yield the images from `start` on, each once and in order; they are decoded in a few threads."""
        load = ImageLoader(n_channels)

        def item(index: int) -> Item:
            path = self.paths[index]
            try:
                check_name(path)
                return Item(index, str(path), load(path))
            except (ValueError, OSError) as error:
                return Item(index, str(path), problem=one_line(error))

        threads = max(1, min(8, (os.cpu_count() or 1) // 2))
        return map_in_order(item, range(start, len(self.paths)), threads)


@dataclass(frozen=True)
class VideoSource:
    """Name a video file, or a camera as in `camera:0`.

    Attributes:
        source: The path, or the camera.
        max_frames: Frames to take; None takes all of them.
    """

    source: str
    max_frames: int | None = None
    is_video = True

    @property
    def is_camera(self) -> bool:
        """Tell whether the frames come from a camera, and so only once."""
        return camera_number(self.source) is not None

    def identity(self) -> str:
        """Return a hash over path, size and time of change; a camera is never the same again."""
        content = uuid.uuid4().bytes if self.is_camera else _stamp(Path(self.source))
        return hashlib.sha256(content).hexdigest()

    def count(self) -> int | None:
        """Return how many frames there are, None where nobody knows; a file that is no video is an error."""
        if self.is_camera:
            return self.max_frames
        check_name(self.source)
        with VideoFrames(self.source) as frames:
            known = [n for n in (frames.n_frames, self.max_frames) if n is not None]
        return min(known) if known else None

    def items(self, start: int, n_channels: int) -> Generator[Item, None, None]:
        """Yield the frames from `start` on; damage ends them with an item that names it."""
        index = start
        end = float("inf") if self.max_frames is None else self.max_frames
        if index >= end:
            return
        with VideoFrames(self.source, start=start, n_channels=n_channels) as frames:
            try:
                for frame in frames:
                    for missing in range(index, frame.index):
                        problem = f"frame {missing} of {self.source} cannot be decoded; cut the video there"
                        yield Item(missing, self.source, problem=problem)
                    yield Item(frame.index, self.source, frame.image, frame.time_s)
                    index = frame.index + 1
                    if index >= end:
                        return
            except (ValueError, OSError) as error:
                yield Item(index, self.source, problem=one_line(error))


Source = ImageFiles | VideoSource


def find_sources(
    source: str | Path | Sequence[str | Path], max_frames: int | None = None, output: Path | None = None
) -> list[ImageFiles] | list[VideoSource]:
    """Return all images as one source, or every video as one; what is named twice is taken once.

    Args:
        source: An image, a video, a folder, a glob, `camera:0`, or a list of these. Of a folder or a glob
            with images and videos, only the images are taken.
        max_frames: Frames per video or camera; None takes all of them.
        output: Where the run writes: overlays that lie there are left out of folders and globs.

    Raises:
        FileNotFoundError: There is nothing at a source.
        ValueError: Images and videos are given together, or `max_frames` with images, or a file that the run
            would write over.
    """
    entries = [source] if isinstance(source, str | Path) else list(source)
    if not entries:
        raise FileNotFoundError("expected an image, a video, a folder or a glob, got an empty list")
    images: dict[Path, None] = {}
    videos: dict[str, None] = {}
    for entry in entries:
        new_images, new_videos = _expand(entry, output)
        images |= dict.fromkeys(new_images)
        videos |= dict.fromkeys(new_videos)
    _check_kinds(list(images), list(videos), max_frames)
    return [ImageFiles(tuple(images))] if images else [VideoSource(v, max_frames) for v in videos]


def _check_kinds(images: list[Path], videos: list[str], max_frames: int | None) -> None:
    if images and videos:
        raise ValueError(
            f"expected images or videos, got both, such as {images[0]} and {videos[0]}; run predict for each"
        )
    if images and max_frames is not None:
        raise ValueError(f"--max_frames expects a video or a camera, got images such as {images[0]}")
    if len(videos) > 1 and any(camera_number(video) is not None for video in videos):
        raise ValueError(f"expected a camera by itself, got {len(videos)} sources; run predict for each")


def _expand(entry: str | Path, output: Path | None) -> tuple[list[Path], list[str]]:
    """Return the images of one entry, or else its videos."""
    path = Path(entry)
    if camera_number(str(entry)) is not None:
        return [], [str(entry)]
    if path.is_file():
        if output is not None and is_overlay(path, output):
            raise ValueError(f"{path} is where the overlays of this run go; give another --output")
        return ([], [str(entry)]) if is_video(path) else ([path], [])
    found = list(path.iterdir()) if path.is_dir() else [Path(name) for name in _glob(entry)]
    own = {file for file in found if output is not None and is_overlay(file, output)}
    files = sorted((file for file in found if file.is_file() and is_video(file)), key=natural_order)
    videos = [str(file) for file in files if file not in own]
    images = [file for file in _images(entry, found, bool(videos)) if file not in own]
    if not images and not videos:
        raise FileNotFoundError(
            f"expected images or videos in {entry}, found only the overlays of an earlier run"
        )
    if images and videos:
        logger.info("%s: took its %d images, left out %d videos", entry, len(images), len(videos))
    return (images, []) if images else ([], videos)


def _images(entry: str | Path, found: list[Path], has_videos: bool) -> list[Path]:
    """Return the images of a folder or a glob, and links to some that are gone, which are to be named."""
    try:
        images = find_images(entry)
    except FileNotFoundError as error:
        if has_videos:
            return []
        if any(path.is_dir() for path in found) and Path(entry).is_dir():
            raise FileNotFoundError(f"{error}; '{entry}/**/*' takes those of its folders") from None
        raise
    gone = [path for path in found if path.is_symlink() and not path.exists()]
    named = [path for path in gone if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted([*images, *named], key=natural_order)


def _glob(entry: str | Path) -> list[str]:
    return glob.glob(str(entry), recursive=True) if glob.has_magic(str(entry)) else []


def video_folders(sources: Sequence[Source], output: Path) -> list[Path]:
    """Return the folder of each source's files: `output`, or for several videos `output/<stem>`."""
    if len(sources) == 1:
        return [output]
    taken: dict[str, None] = {}
    for source in sources:
        stem = Path(source.source).stem if isinstance(source, VideoSource) else ""
        names = (stem, *(f"{stem}_{number}" for number in range(2, len(sources) + 2)))
        taken[next(name for name in names if name not in taken)] = None
    return [output / name for name in taken]


def _stamp(path: Path) -> bytes:
    """Return path, size and time of change; those of a file that has gone are 0."""
    try:
        status = path.stat()
    except OSError:
        return os.fsencode(path) + b"\0000\0000\n"
    return os.fsencode(path) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode()


def check_name(path: str | Path) -> None:
    """Raise a ValueError for a name that no text file can hold: one of bytes that are not UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ValueError(f"expected a name in UTF-8, got {path}; rename the file or its folder") from None


def one_line(error: Exception) -> str:
    """Return what went wrong in one line that can be written as UTF-8."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode(errors="backslashreplace").decode()
