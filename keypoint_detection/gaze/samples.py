"""Samples of gaze following: the scene, the head of one person in it, and where this person looks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.imageloader import ImageError, ImageLoader
from keypoint_detection.gaze.augmentation import GazeAugmentation, GazeChange, draw_change, no_change
from keypoint_detection.gaze.people import UNKNOWN, GazeTable, check
from keypoint_detection.gaze.samples_inputs import eye_of, person_inputs
from keypoint_detection.geometry import transform_points

_FEWEST_PX = 8


class GazeBatch(TypedDict):
    """Hold n people; a = the annotators of the table, one at least; pixels are those of `scene`.

    Attributes:
        scene: uint8 `[n, 3, H, W]`, the image or a part of it, stretched.
        head: uint8 `[n, 3, h, w]`, the enlarged head box, stretched; grey beyond the image.
        head_mask: uint8 `[n, 1, H, W]`, 255 in the head box, its edge smooth.
        depth: uint8 `[n, 1, H, W]`, where there are depth maps.
        gaze: float32 `[n, a, 2]`, NaN for no point.
        in_frame: float32 `[n]`, 1 looks into the image, 0 out of it, NaN unknown.
        eye: float32 `[n, 2]`.
        head_box: float32 `[n, 4]`, x0, y0, x1, y1, as the mask shows it.
        to_image: float32 `[n, 2, 3]`, from pixels of `scene` to pixels of the original.
        image_hw: int64 `[n, 2]`, size of the original.
        index: int64 `[n]`, row of the table.
    """

    scene: Tensor
    head: Tensor
    head_mask: Tensor
    depth: NotRequired[Tensor]
    gaze: Tensor
    in_frame: Tensor
    eye: Tensor
    head_box: Tensor
    to_image: Tensor
    image_hw: Tensor
    index: Tensor


class GazeDataset(Dataset[dict[str, Any]]):
    """Give a sample per person of a table, also of people without a target."""

    def __init__(
        self,
        table: GazeTable,
        root: str | Path,
        *,
        scene_hw: tuple[int, int] = (224, 224),
        head_hw: tuple[int, int] = (224, 224),
        augmentation: GazeAugmentation | None = None,
        depth_folder: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        """Check the table, and that the images are there.

        Args:
            table: The people.
            root: Folder that the names of the images are relative to.
            scene_hw: Height and width of the scene in pixels.
            head_hw: Height and width of the head crop in pixels.
            augmentation: Changes every sample at random; None changes nothing.
            depth_folder: Folder of grey depth maps of any size under the names of the images, or ending in
                .png; None is none.
            seed: Of the changes of a sample that is taken by its position alone.

        Raises:
            FileNotFoundError: An image or a depth map is missing.
            ValueError: A size is below 8 pixels, or a value of the table cannot be.
        """
        check(table)
        for name, size in (("scene_hw", scene_hw), ("head_hw", head_hw)):
            if min(size) < _FEWEST_PX:
                raise ValueError(f"{name}: expected at least {_FEWEST_PX}x{_FEWEST_PX}, got {size}")
        self.table, self.root, self.augmentation, self.seed = table, Path(root), augmentation, seed
        self.scene_hw, self.head_hw = scene_hw, head_hw
        self._load, self._load_depth = ImageLoader(3), ImageLoader(1)
        used = np.unique(table.image).tolist()
        for image in used:
            _check_file(self.root / table.image_names[image], "an image")
        self._depth_paths: dict[int, Path] = {}
        if depth_folder is not None:
            self._depth_paths = {i: depth_path(Path(depth_folder), table.image_names[i]) for i in used}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Return a sample: the keys of `GazeBatch` without its first axis, as NumPy arrays and numbers.

        Args:
            index: Row of the table, or row and seed: the same pair gives the same changes in any process.
                Without a seed they are those of the first epoch of a shuffled loader of the same seed.

        Raises:
            FileNotFoundError: The image is gone.
            ImageError: It cannot be read, or its size is not that of the table (a ValueError).
        """
        row, seed = index if isinstance(index, tuple) else (index, None)
        table, image = self.table, int(self.table.image[row])
        image_hw = (int(table.image_hw[image, 0]), int(table.image_hw[image, 1]))
        eye = eye_of(table.eye_xy[row], table.head_box[row])
        pixels, depth = self._read(image, image_hw)
        inputs = person_inputs(
            pixels,
            eye,
            self._change(row, seed, eye, image_hw),
            scene_hw=self.scene_hw,
            head_hw=self.head_hw,
            depth=depth,
        )
        is_known = table.in_frame[row] != UNKNOWN
        return {
            **inputs.values,
            "gaze": transform_points(inputs.to_scene, _points(table, row)).astype(np.float32),
            "in_frame": np.float32(table.in_frame[row] if is_known else np.nan),
            "image_hw": table.image_hw[image],
            "index": np.int64(row),
        }

    def _change(
        self, row: int, seed: int | None, eye: NDArray[np.float64], image_hw: tuple[int, int]
    ) -> GazeChange:
        head_box = self.table.head_box[row]
        if self.augmentation is None:
            return no_change(head_box, image_hw)
        if seed is None:  # as `datamodule_loaders.SeededSampler` draws it for epoch 0
            entropy = np.random.SeedSequence((self.seed, 0, row))
            seed = int(entropy.generate_state(1, np.uint64)[0])
        points = np.concatenate([eye[None], self.table.gaze_xy[row]])
        return draw_change(self.augmentation, np.random.default_rng(seed), head_box, points, image_hw)

    def _read(
        self, image: int, image_hw: tuple[int, int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return an image and, where there is one, its depth map."""
        path = self.root / self.table.image_names[image]
        pixels = self._load(path)
        if pixels.shape[:2] != image_hw:
            raise ImageError(
                f"expected {path} to have width x height {image_hw[1]}x{image_hw[0]} as the table of people "
                f"says, got {pixels.shape[1]}x{pixels.shape[0]} (turned as its EXIF data says, if it has "
                "any); correct one of the two"
            )
        return pixels, self._load_depth(self._depth_paths[image]) if self._depth_paths else None


def collate_gaze(samples: Sequence[Mapping[str, Any]]) -> GazeBatch:
    """Return a batch of one or more samples of a `GazeDataset`."""
    batch: Any = {key: torch.from_numpy(np.stack([sample[key] for sample in samples])) for key in samples[0]}
    return batch


def _points(table: GazeTable, row: int) -> NDArray[np.float64]:
    """Return the points of a person, `[a, 2]` with one row at least."""
    points = table.gaze_xy[row]
    return points if len(points) else np.full((1, 2), np.nan)


def _check_file(path: Path, what: str) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"expected {what}, found nothing at {path}; check the folder")
    return path


def depth_path(folder: Path, name: str) -> Path:
    """Return the depth map of an image in a folder: of its name, or with its ending replaced by .png."""
    path = folder / name
    return path if path.is_file() else _check_file(path.with_suffix(".png"), "a depth map")
