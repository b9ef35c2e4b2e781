"""The images of SLEAP's frames: files of an image sequence, frames of a video, or frames inside the file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np

from keypoint_detection.data.formats.assembly import FileNames, find_beside
from keypoint_detection.data.formats.image_files import image_size_hw
from keypoint_detection.data.formats.sleap_file import refuse_broken
from keypoint_detection.files import atomic_write

IMAGE_FOLDER_KEY = "keypoint_detection_image_folder"
"""Where the provenance of a file that `write_sleap` wrote keeps the folder of its images."""


@dataclass(frozen=True)
class FrameImage:
    """Hold what is known of the image of one frame.

    Attributes:
        file_name: Where it is to lie in the new data set.
        size: Width and height in pixels.
        path: Where it lies now, or None.
        shift_xy: From the frame's pixels to those of the image; not zero for a crop of an image sequence.
    """

    file_name: str
    size: tuple[int, int]
    path: Path | None
    shift_xy: tuple[float, float] = (0.0, 0.0)


class FrameImages:
    """Name the images of the labelled frames of one file, each once, and find those that are files."""

    def __init__(self, path: Path, labels: Any, frames: Sequence[Any]):
        self._path, self._names = path, FileNames()
        self._described: dict[tuple[str, str | int], FrameImage] = {}
        self._root = _common_folder(labels, frames)
        self._video_names = video_names(labels.videos)

    def describe(self, frame: Any) -> FrameImage:
        """Return the image of a frame; the same frame or file is the same image every time."""
        files = sequence_files(frame.video)
        if files is None:
            key = (self._video_names[id(frame.video)], int(frame.frame_idx))
        else:
            if not 0 <= frame.frame_idx < len(files):
                raise ValueError(
                    f"{self._path}: expected frames 0 to {len(files) - 1} of an image sequence, "
                    f"got {frame.frame_idx}"
                )
            key = ("", files[frame.frame_idx])
        if key not in self._described:
            describe = self._video_frame if files is None else self._sequence_file
            self._described[key] = describe(frame.video, key[1])
        return self._described[key]

    def notes(self, n_missing: int) -> Mapping[str, int]:
        """Return the note on images without a file, and how many there are."""
        n_frames = sum(1 for (video, _), image in self._described.items() if video and image.path is None)
        return {
            "{n} frames of videos, or inside the file, are no image files yet": n_frames,
            "{n} files of image sequences are neither where the file says nor beside it": n_missing
            - n_frames,
        }

    def _sequence_file(self, video: Any, file: Any) -> FrameImage:
        beside = find_beside(self._path.parent, [file])
        path = Path(file) if os.path.isabs(file) and os.path.isfile(file) else beside
        crop = video.crop_rect
        size = None if path is None else _size_of_file(path)
        path = None if size is None else path  # a file that is no image is none of ours
        inside = file.removeprefix(self._root)
        shift = (float(crop[0]), float(crop[1])) if crop else (0.0, 0.0)
        size = size or self._size_of_video(video, "source_shape" if crop else "shape")
        return FrameImage(self._names.add(inside), size, path, shift)

    def _video_frame(self, video: Any, frame_index: Any) -> FrameImage:
        name = self._names.add(f"{self._video_names[id(video)]}/{frame_file_name(frame_index)}")
        path = self._path.parent / name
        exists = os.path.isfile(path)
        size = _size_of_file(path) if exists else None
        return FrameImage(name, size or self._size_of_video(video, "shape"), path if exists else None)

    def _size_of_video(self, video: Any, field: str) -> tuple[int, int]:
        shape = video.backend_metadata.get(field)
        if shape is not None:
            height, width = int(shape[1]), int(shape[2])
        elif video.backend_metadata.get("has_embedded_images") or _is_inside(video):
            height, width = self._size_inside(video)
        else:
            height, width = _size_of_media(self._path.parent, video)
        if not (0 < height <= 1e6 and 0 < width <= 1e6):
            raise ValueError(
                f"{self._path}: expected the size of the frames of {str(video.filename)[:80]!r}, found "
                "neither in the file nor a video; put the video beside the file"
            )
        return width, height

    def _size_inside(self, video: Any) -> tuple[int, int]:
        """Return height and width of the first frame that is stored inside the file, or zeros."""
        import h5py  # comes with sleap-io

        with refuse_broken(self._path), h5py.File(self._path, "r") as file:
            stored: Any = file[str(video.backend_metadata["dataset"])]
            if "height" in stored.attrs and "width" in stored.attrs:
                return int(stored.attrs["height"]), int(stored.attrs["width"])
            first = cv2.imdecode(np.asarray(stored[0]).view(np.uint8), cv2.IMREAD_GRAYSCALE)
            return (0, 0) if first is None else (first.shape[0], first.shape[1])


def write_frame(path: Path, frame: Any, image: FrameImage, folder: Path) -> bool:
    """Write a frame of a video, or inside the file, below a folder at the name of its image.

    Returns:
        Whether it was written: a file of an image sequence is not, nor a frame of a video that is not found.

    Raises:
        ValueError: The video cannot be read, or its frames have another size than the image.
    """
    if sequence_files(frame.video) is not None or not _open_video(path, frame.video):
        return False
    with refuse_broken(path):
        picture = np.asarray(frame.image)
    width, height = image.size
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[:2] != (height, width):
        raise ValueError(
            f"{path}: expected frame {frame.frame_idx} of {str(frame.video.filename)[:80]!r} as "
            f"{width}x{height} pixels of 8 bits, got {picture.dtype} {picture.shape}"
        )
    # OpenCV takes blue first, sleap-io gives red first
    is_grey = picture.ndim == 2 or picture.shape[2] == 1
    pixels = picture if is_grey else cv2.cvtColor(picture[..., :3], cv2.COLOR_RGB2BGR)
    with atomic_write(folder / image.file_name) as temporary:
        if not cv2.imwrite(str(temporary), pixels):
            raise ValueError(f"{path}: expected an image of frame {frame.frame_idx}, got {picture.shape}")
    return True


def sequence_files(video: Any) -> list[str] | None:
    """Return the files of an image sequence, with forward slashes, or None for any other video."""
    files = video.filename
    return [str(file).replace("\\", "/") for file in files] if isinstance(files, list) else None


def video_names(videos: Sequence[Any]) -> dict[int, str]:
    """Return a name for every video by its object: that of its file, or of the video it was taken from."""
    names: dict[int, str] = {}
    for video in videos:
        origin = video.original_video or video
        files = sequence_files(origin)
        file = files[0] if files else str(origin.filename).replace("\\", "/")
        stem = PurePosixPath(file).name.removesuffix(".slp").removesuffix(".pkg")
        stem = (PurePosixPath(stem).stem if origin is not video or "." in stem else stem) or "video"
        name, number = stem, 1
        while name in names.values():
            number += 1
            name = f"{stem}_{number}"
        names[id(video)] = name
    return names


def _size_of_file(path: Path) -> tuple[int, int] | None:
    size_hw = image_size_hw(path)
    return None if size_hw is None else (size_hw[1], size_hw[0])


def frame_file_name(frame_index: int) -> str:
    """Return the name of a frame's file: `frame_000012.png`."""
    return f"frame_{int(frame_index):06d}.png"


def _common_folder(labels: Any, frames: Sequence[Any]) -> str:
    """Return the folder, with a slash at its end, that the names of image sequences are taken from."""
    videos = {id(frame.video): frame.video for frame in frames}.values()
    files = [file for video in videos for file in sequence_files(video) or ()]
    folder = str(labels.provenance.get(IMAGE_FOLDER_KEY) or "").rstrip("/") + "/"
    if len(folder) > 1 and all(file.startswith(folder) for file in files):
        return folder
    try:
        return os.path.commonpath([os.path.dirname(file) for file in files]).rstrip("/") + "/"
    except ValueError:  # none at all, or absolute and relative ones
        return ""


def _is_inside(video: Any) -> bool:
    return bool(video.backend_metadata.get("dataset")) and str(video.filename).endswith(".slp")


def _open_video(path: Path, video: Any) -> bool:
    """Open a video where the file says or beside the file, never over a network; False if it is not there."""
    if video.backend is None:
        name = str(video.filename).replace("\\", "/")
        found = Path(name) if os.path.isfile(name) else find_beside(path.parent, [name])
        if found is None:
            return False
        with refuse_broken(path):
            video.replace_filename(found.as_posix(), open=True)
    return True


def _size_of_media(folder: Path, video: Any) -> tuple[int, int]:
    """Return height and width of the frames of a video file, or zeros if it is not to be found."""
    name = str(video.filename).replace("\\", "/")
    path = name if os.path.isfile(name) else find_beside(folder, [name])
    if path is None:
        return 0, 0
    reader = cv2.VideoCapture(str(path))
    try:
        return int(reader.get(cv2.CAP_PROP_FRAME_HEIGHT)), int(reader.get(cv2.CAP_PROP_FRAME_WIDTH))
    finally:
        reader.release()
