"""The heads and the depth map of every image of a source."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keypoint_detection.data.unlabeled_dataset import find_images
from keypoint_detection.gaze.head_boxes import HeadBox, HeadBoxes
from keypoint_detection.gaze.head_boxes_match import heads_of_images
from keypoint_detection.gaze.samples import depth_path
from keypoint_detection.predict_source import ImageFiles, Source

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class PeopleOfSource:
    """Hold who is where in a source.

    Attributes:
        heads: The file that the heads are from.
        of_images: Heads in each image; None for a video.
        depths: Depth map of each image or frame; None is none at all, and a frame behind the last has none.
    """

    heads: HeadBoxes
    of_images: Sequence[Sequence[HeadBox]] | None
    depths: Sequence[Path] | None

    def __getitem__(self, index: int) -> Sequence[HeadBox]:
        """Return the heads of an image or a frame."""
        if self.of_images is None:
            return self.heads.by_frame.get(index, ())
        return self.of_images[index]

    def depth(self, index: int) -> Path | None:
        """Return the depth map of an image or a frame, None if there are no depth maps.

        Raises:
            FileNotFoundError: There are some, but not this one.
        """
        if self.depths is None:
            return None
        if index >= len(self.depths):
            raise FileNotFoundError(
                f"expected a depth map for frame {index}, got {len(self.depths)} in all; give one per frame"
            )
        return self.depths[index]

    def depth_identity(self) -> str | None:
        """Return a hash over the depth maps, their sizes and times of change."""
        return None if self.depths is None else ImageFiles(tuple(self.depths)).identity()


def people_of_source(source: Source, heads: HeadBoxes, depth_folder: str | Path | None) -> PeopleOfSource:
    """Join a source with its heads, and say how many images of the file are not there.

    Raises:
        FileNotFoundError: There is no folder of depth maps, or nothing in it.
        ValueError: Boxes are of frames and the source of images, or the other way round; or a name does not
            tell which image it is.
    """
    if not isinstance(source, ImageFiles):
        if heads.by_image:
            raise ValueError(
                f"{heads.path}: expected boxes with the numbers of frames (frame) for {source.source}, got "
                "names of images"
            )
        return PeopleOfSource(heads, None, None if depth_folder is None else find_images(depth_folder))
    of_images, n_others = heads_of_images(heads, source.paths)
    if n_others:
        n_names = len(heads.by_image)
        logger.info("%s: %d of its %d images are not in the source", heads.path, n_others, n_names)
    depths = None if depth_folder is None else _depths(Path(depth_folder), source.paths)
    return PeopleOfSource(heads, of_images, depths)


def _depths(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return where the depth map of each image is, or would be; the folder may have that of the images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of depth maps, found none at {folder}; check --depth")
    return [_depth_of(folder, path) for path in paths]


def _depth_of(folder: Path, path: Path) -> Path:
    parts = path.resolve().parts
    for start in range(1, len(parts)):
        try:
            return depth_path(folder, "/".join(parts[start:]))
        except FileNotFoundError:
            continue
    return folder / path.with_suffix(".png").name
