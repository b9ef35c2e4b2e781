"""Samples of a COCO keypoint file: an image in the network's frame, and its keypoints grouped by channel."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.augmentations import Augmenter
from keypoint_detection.data.channels import Channels, parse_channels
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.imageloader import ImageError, ImageLoader
from keypoint_detection.geometry import (
    PAD_VALUE,
    Affine,
    identity_affine,
    invert,
    is_inside,
    letterbox_affine,
    transform_points,
    warp_image,
)


class Batch(TypedDict):
    """Hold n images; c channels, k = the most keypoints of a channel in the batch, padded with NaN.

    Attributes:
        image: uint8 `[n, c_in, h, w]`; smaller images are padded at the right and the bottom.
        keypoints: float32 `[n, c, k, 2]`, (x, y) in pixels of `image`.
        visibility: uint8 `[n, c, k]`, COCO's flag as the file has it; 0 for padding.
        keypoint_area: float32 `[n, c, k]`, the `area` of each keypoint's instance.
        to_image: float32 `[n, 2, 3]`, from pixels of `image` to pixels of the original.
        image_id: int64 `[n]`.
        image_hw: int64 `[n, 2]`, size of the original.
        input_hw: int64 `[n, 2]`, size before the batch was padded.
        area: per image float32 `[instances]`, square pixels of the original: the file's, else that of the
            box, else NaN.
        box: per image float32 `[instances, 4]`, (x, y, width, height) in the original, NaN where missing.
    """

    image: Tensor
    keypoints: Tensor
    visibility: Tensor
    keypoint_area: Tensor
    to_image: Tensor
    image_id: Tensor
    image_hw: Tensor
    input_hw: Tensor
    area: list[Tensor]
    box: list[Tensor]


class COCOKeypointsDataset(Dataset[dict[str, Any]]):
    """Give every image of a COCO keypoint file, with or without annotations, and its keypoints by channel."""

    def __init__(
        self,
        json_dataset_path: str | Path | KeypointTable,
        channels: str | Channels | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        n_channels_in: int = 3,
        augmenter: Augmenter | None = None,
        image_ids: Iterable[int] | None = None,
        cache_bytes: int = 0,
    ) -> None:
        """Read the file, if it is not read yet, and check that it has the names and the images.

        Args:
            json_dataset_path: The COCO file, or its table when several data sets share it.
            channels: As `parse_channels` takes them; None is one channel per keypoint name.
            image_size: Height and width in pixels to letterbox to; None keeps each image's own size.
            n_channels_in: 1 for grey, 3 for RGB; any other number must be that of the files.
            augmenter: Changes every sample at random; None changes nothing.
            image_ids: Only these images, in this order; None takes all.
            cache_bytes: Memory of each process for decoded images.

        Raises:
            FileNotFoundError: The file or images are missing.
            ValueError: The file is not valid, lacks a name, or lacks one of `image_ids`.
        """
        is_table = isinstance(json_dataset_path, KeypointTable)
        self.table = json_dataset_path if is_table else read_table(json_dataset_path)
        self.channels = channels_of(self.table, channels)
        self.image_size = image_size
        self.augmenter = augmenter
        self._rows = _rows_of(self.table, image_ids)
        self._loader = ImageLoader(n_channels_in, cache_bytes=cache_bytes)
        names = self.table.names
        self._feeds = np.array([[name in channel for name in names] for channel in self.channels], bool)
        swap = augmenter.swap if augmenter is not None else {}
        self._mirrored_name = np.array([names.index(swap.get(name, name)) for name in names], np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def image_ids(self) -> list[int]:
        """Return the COCO id of each sample."""
        return self.table.image_ids[self._rows].tolist()

    def file_name(self, image_id: int) -> str:
        """Return the path of an image as the COCO file has it."""
        return self.table.file_names[int(np.flatnonzero(self.table.image_ids == image_id)[0])]

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Return a sample: the keys of `Batch` without its first axis, as NumPy arrays and plain numbers.

        Args:
            index: Position of the sample, or position and seed: the same pair gives the same augmentation in
                any process. Without a seed one is drawn from torch's generator.

        Raises:
            ImageError: The image cannot be read, or its size is not that of the COCO file (a ValueError).
        """
        position, seed = index if isinstance(index, tuple) else (index, None)
        row = int(self._rows[position])
        image, to_input = self._to_input(self._load(row), row, seed)
        input_hw = (image.shape[0], image.shape[1])
        instances = slice(*self.table.first_instance[row : row + 2])
        return {
            "image": channels_first(image),
            **self._keypoints(row, to_input, input_hw),
            "to_image": invert(to_input).astype(np.float32),
            "image_id": int(self.table.image_ids[row]),
            "image_hw": tuple(self.table.image_hw[row].tolist()),
            "input_hw": input_hw,
            "area": self.table.area[instances],
            "box": self.table.box[instances],
        }

    def _load(self, row: int) -> NDArray[np.uint8]:
        image = self._loader(self.table.image_path(row))
        height, width = self.table.image_hw[row].tolist()
        if image.shape[:2] != (height, width):
            raise ImageError(
                f"expected {self.table.image_path(row)} to have width x height {width}x{height} as "
                f"{self.table.json_path} says, got {image.shape[1]}x{image.shape[0]} (turned as its EXIF "
                "data says, if it has any); correct one of the two"
            )
        return image

    def _to_input(
        self, image: NDArray[np.uint8], row: int, seed: int | None
    ) -> tuple[NDArray[np.uint8], Affine]:
        """Return the image in the network's frame, and the affine into it."""
        image_hw = (image.shape[0], image.shape[1])
        input_hw = self.image_size or image_hw
        if self.augmenter is not None:
            drawn = int(torch.randint(2**62, ())) if seed is None else seed
            points = self.table.xy[slice(*self.table.first_point[row : row + 2])]
            return self.augmenter(image, input_hw, np.random.default_rng(drawn), points)
        if self.image_size is None:
            return image, identity_affine()
        affine = letterbox_affine(image_hw, input_hw)
        return warp_image(image, affine, input_hw), affine

    def _keypoints(self, row: int, to_input: Affine, input_hw: tuple[int, int]) -> dict[str, NDArray]:
        """Return `keypoints`, `visibility` and `keypoint_area` of an image, by channel."""
        table = self.table
        points = slice(*table.first_point[row : row + 2])
        xy = transform_points(to_input, table.xy[points])
        visibility, area = table.visibility[points], table.area[table.instance[points]]
        names = table.name_index[points]
        if np.linalg.det(to_input[:, :2]) < 0:
            names = self._mirrored_name[names]
        # Without augmentation a point of the image stays in the frame; rounding must not lose one on the
        # border.
        inside = is_inside(xy, input_hw) if self.augmenter is not None else np.ones(len(xy), bool)
        channel, point = np.nonzero(self._feeds[:, names] & inside)
        counts = np.bincount(channel, minlength=len(self.channels))
        slot = np.arange(len(channel)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(self.channels), max(int(counts.max()), 1))
        grouped = {
            "keypoints": np.full((*shape, 2), np.nan, np.float32),
            "visibility": np.zeros(shape, np.uint8),
            "keypoint_area": np.full(shape, np.nan, np.float32),
        }
        for key, values in zip(grouped, (xy, visibility, area), strict=True):
            grouped[key][channel, slot] = values[point]
        return grouped


def channels_of(table: KeypointTable, channels: str | Channels | None) -> Channels:
    """Return the channels of a configuration (see `parse_channels`); an error names the file."""
    try:
        return parse_channels(channels, table.names)
    except ValueError as error:
        raise ValueError(f"{table.json_path}: {error}") from None


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Return a batch of samples of `COCOKeypointsDataset`, padded to its largest image and keypoint list."""
    return Batch(
        image=stack_images([sample["image"] for sample in samples]),
        keypoints=_stack_channels(samples, "keypoints", np.nan),
        visibility=_stack_channels(samples, "visibility", 0),
        keypoint_area=_stack_channels(samples, "keypoint_area", np.nan),
        to_image=torch.from_numpy(np.stack([sample["to_image"] for sample in samples])),
        image_id=torch.tensor([sample["image_id"] for sample in samples]),
        image_hw=torch.tensor([sample["image_hw"] for sample in samples]),
        input_hw=torch.tensor([sample["input_hw"] for sample in samples]),
        area=[torch.from_numpy(sample["area"].copy()) for sample in samples],
        box=[torch.from_numpy(sample["box"].copy()) for sample in samples],
    )


def channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy `[c, h, w]` of `[h, w, c]`, in less than half the time that a transposed copy takes."""
    return np.stack(cv2.split(image)).astype(np.uint8, copy=False)


def stack_images(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack `[c, h, w]` images; smaller ones are padded at the right and the bottom with `PAD_VALUE`."""
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    stacked = np.full((len(images), images[0].shape[0], height, width), PAD_VALUE, np.uint8)
    for row, image in enumerate(images):
        stacked[row, :, : image.shape[1], : image.shape[2]] = image
    return torch.from_numpy(stacked)


def _stack_channels(samples: Sequence[Mapping[str, Any]], key: str, padding: float) -> Tensor:
    arrays = [sample[key] for sample in samples]
    most, first = max(array.shape[1] for array in arrays), arrays[0]
    stacked = np.full((len(arrays), first.shape[0], most, *first.shape[2:]), padding, first.dtype)
    for row, array in enumerate(arrays):
        stacked[row, :, : array.shape[1]] = array
    return torch.from_numpy(stacked)


def _rows_of(table: KeypointTable, image_ids: Iterable[int] | None) -> NDArray[np.int64]:
    if image_ids is None:
        return np.arange(len(table.image_ids))
    row_by_id = {image_id: row for row, image_id in enumerate(table.image_ids.tolist())}
    rows = []
    for image_id in image_ids:
        if image_id not in row_by_id:
            raise ValueError(f"{table.json_path}: expected image ids of this file, got {image_id}")
        rows.append(row_by_id[image_id])
    return np.array(rows, np.int64)
