"""Samples of a COCO keypoint file: an image, or a crop of an instance, and its keypoints by channel."""

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
from keypoint_detection.data.instance_crops import InstanceCrops
from keypoint_detection.geometry import (
    PAD_VALUE,
    Affine,
    box_affine,
    invert,
    is_inside,
    letterbox_affine,
    transform_points,
    warp_image,
)


class Batch(TypedDict):
    """Hold n images or crops; c channels, k = the most keypoints of a channel in the batch, padded with NaN.

    What is said of an image's instances holds for a crop of its one instance; a detected box has none.

    Attributes:
        image: uint8 `[n, c_in, h, w]`; smaller images are padded at the right and the bottom.
        keypoints: float32 `[n, c, k, 2]`, (x, y) in pixels of `image`.
        visibility: uint8 `[n, c, k]`, COCO's flag as the file has it; 0 for padding.
        keypoint_area: float32 `[n, c, k]`, the `area` of each keypoint's instance.
        keypoint_sigma: float32 `[n, c, k]`, the OKS constant of each keypoint's name; NaN where unknown.
        keypoint_length: float32 `[n, c, k]`, original pixels, the length that errors on each keypoint's
            instance are divided by; NaN where unknown.
        to_image: float32 `[n, 2, 3]`, from pixels of `image` to pixels of the original.
        image_id: int64 `[n]`.
        image_hw: int64 `[n, 2]`, size of the original, the whole image.
        input_hw: int64 `[n, 2]`, size before the batch was padded.
        area: per image float32 `[instances]`, square pixels of the original: the file's, else that of the
            box, else NaN.
        box: per image float32 `[instances, 4]`, (x, y, width, height) in the original, NaN where missing.
        crowd_box: per image float32 `[r, 4]`, likewise, the crowd regions of the whole image.
    """

    image: Tensor
    keypoints: Tensor
    visibility: Tensor
    keypoint_area: Tensor
    keypoint_sigma: Tensor
    keypoint_length: Tensor
    to_image: Tensor
    image_id: Tensor
    image_hw: Tensor
    input_hw: Tensor
    area: list[Tensor]
    box: list[Tensor]
    crowd_box: list[Tensor]


class COCOKeypointsDataset(Dataset[dict[str, Any]]):
    """Give every image of a COCO keypoint file, with or without annotations, or crops of its instances."""

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
        crops: InstanceCrops | None = None,
        lengths: NDArray[np.floating] | None = None,
        sigmas: NDArray[np.floating] | None = None,
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
            crops: One sample per crop instead of per image, scaled to `image_size`, with the keypoints of its
                own instance alone.
            lengths: `[m]`, a length in original pixels per instance of the table, for `keypoint_length`.
            sigmas: `[names]`, an OKS constant per keypoint name of the table, for `keypoint_sigma`.

        Raises:
            FileNotFoundError: The file or images are missing.
            ValueError: The file is not valid, lacks a name, or lacks one of `image_ids`; crops without
                `image_size` or with `image_ids`; lengths or sigmas of another number.
        """
        is_table = isinstance(json_dataset_path, KeypointTable)
        self.table = json_dataset_path if is_table else read_table(json_dataset_path)
        self.channels = channels_of(self.table, channels)
        self.image_size, self.augmenter, self.crops = image_size, augmenter, crops
        if crops is not None and (image_size is None or image_ids is not None):
            raise ValueError("crops: expected an image_size such as (256, 192) for them and no image_ids")
        self._rows, self._instances, self._points = _spans(self.table, image_ids, crops)
        self._loader = ImageLoader(n_channels_in, cache_bytes=cache_bytes)
        self._latest: tuple[int, NDArray[np.uint8]] | None = None
        names = self.table.names
        self._feeds = np.array([[name in channel for name in names] for channel in self.channels], bool)
        swap = augmenter.swap if augmenter is not None else {}
        self._mirrored_name = np.array([names.index(swap.get(name, name)) for name in names], np.int64)
        self._lengths = _one_each("lengths", lengths, len(self.table.area))
        self._sigmas = _one_each("sigmas", sigmas, len(names))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def image_ids(self) -> list[int]:
        """Return the COCO id of the image of each sample."""
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
        instances, points = slice(*self._instances[position]), slice(*self._points[position])
        image, to_input = self._to_input(self._load(row), position, seed)
        input_hw = (image.shape[0], image.shape[1])
        return {
            "image": channels_first(image),
            **self._keypoints(points, to_input, input_hw),
            "to_image": invert(to_input).astype(np.float32),
            "image_id": int(self.table.image_ids[row]),
            "image_hw": tuple(self.table.image_hw[row].tolist()),
            "input_hw": input_hw,
            "area": self.table.area[instances],
            "box": self.table.box[instances],
            "crowd_box": self.table.crowd_box[slice(*self.table.first_crowd[row : row + 2])],
        }

    def _load(self, row: int) -> NDArray[np.uint8]:
        if self._latest is not None and self._latest[0] == row:
            return self._latest[1]
        image = self._loader(self.table.image_path(row))
        height, width = self.table.image_hw[row].tolist()
        if image.shape[:2] != (height, width):
            raise ImageError(
                f"expected {self.table.image_path(row)} to have width x height {width}x{height} as "
                f"{self.table.json_path} says, got {image.shape[1]}x{image.shape[0]} (turned as its EXIF "
                "data says, if it has any); correct one of the two"
            )
        if self.crops is not None:
            self._latest = row, image  # in order, the crops of an image come one after the other
        return image

    def _to_input(
        self, image: NDArray[np.uint8], position: int, seed: int | None
    ) -> tuple[NDArray[np.uint8], Affine]:
        """Return the image or its crop in the network's frame, and the affine into it."""
        image_hw = (image.shape[0], image.shape[1])
        input_hw = self.image_size or image_hw
        if self.crops is None:
            base = letterbox_affine(image_hw, input_hw)
        else:
            base = box_affine(self.crops.box[position], input_hw, self.crops.padding)
        if self.augmenter is None:
            return warp_image(image, base, input_hw), base
        drawn = int(torch.randint(2**62, ())) if seed is None else seed
        points = self.table.xy[slice(*self._points[position])]
        return self.augmenter(image, input_hw, np.random.default_rng(drawn), points, base=base)

    def _keypoints(self, points: slice, to_input: Affine, input_hw: tuple[int, int]) -> dict[str, NDArray]:
        """Return what `Batch` says of points of the table, by channel."""
        table = self.table
        xy = transform_points(to_input, table.xy[points])
        names, instance = table.name_index[points], table.instance[points]
        if np.linalg.det(to_input[:, :2]) < 0:
            names = self._mirrored_name[names]
        # Without augmentation a point of the image stays in the frame; rounding must not lose one on the
        # border. One that its own box leaves out of a crop stays a label: it is there to be found or missed.
        inside = is_inside(xy, input_hw) if self.augmenter is not None else np.ones(len(xy), bool)
        channel, point = np.nonzero(self._feeds[:, names] & inside)
        counts = np.bincount(channel, minlength=len(self.channels))
        slot = np.arange(len(channel)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (len(self.channels), max(int(counts.max()), 1))
        fields: dict[str, tuple[NDArray, float]] = {
            "keypoints": (xy.astype(np.float32), np.nan),
            "visibility": (table.visibility[points], 0),
            "keypoint_area": (table.area[instance], np.nan),
            "keypoint_sigma": (self._sigmas[names], np.nan),
            "keypoint_length": (self._lengths[instance], np.nan),
        }
        grouped = {}
        for key, (values, padding) in fields.items():
            grouped[key] = np.full((*shape, *values.shape[1:]), padding, values.dtype)
            grouped[key][channel, slot] = values[point]
        return grouped


def channels_of(table: KeypointTable, channels: str | Channels | None) -> Channels:
    """Return the channels of a configuration (see `parse_channels`); an error names the file."""
    try:
        parsed = parse_channels(channels, table.names)
        table.symmetry.check_channels(parsed)
        return parsed
    except ValueError as error:
        raise ValueError(f"{table.json_path}: {error}") from None


def collate(samples: Sequence[Mapping[str, Any]]) -> Batch:
    """Return a batch of samples of `COCOKeypointsDataset`, padded to its largest image and keypoint list."""
    return Batch(
        image=stack_images([sample["image"] for sample in samples]),
        keypoints=_stack_channels(samples, "keypoints", np.nan),
        visibility=_stack_channels(samples, "visibility", 0),
        keypoint_area=_stack_channels(samples, "keypoint_area", np.nan),
        keypoint_sigma=_stack_channels(samples, "keypoint_sigma", np.nan),
        keypoint_length=_stack_channels(samples, "keypoint_length", np.nan),
        to_image=torch.from_numpy(np.stack([sample["to_image"] for sample in samples])),
        image_id=torch.tensor([sample["image_id"] for sample in samples]),
        image_hw=torch.tensor([sample["image_hw"] for sample in samples]),
        input_hw=torch.tensor([sample["input_hw"] for sample in samples]),
        area=_listed(samples, "area"),
        box=_listed(samples, "box"),
        crowd_box=_listed(samples, "crowd_box"),
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


def _listed(samples: Sequence[Mapping[str, Any]], key: str) -> list[Tensor]:
    return [torch.from_numpy(sample[key].copy()) for sample in samples]


def _spans(
    table: KeypointTable, image_ids: Iterable[int] | None, crops: InstanceCrops | None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return of s samples the image row `[s]`, and first and last + 1 instance and point, `[s, 2]` each."""
    if crops is not None:
        found = crops.instance < 0
        instances = np.where(found[:, None], 0, crops.instance[:, None] + [0, 1])
        return crops.row, instances, np.searchsorted(table.instance, instances)
    rows = np.arange(len(table.image_ids)) if image_ids is None else table.rows_of(image_ids)
    edges = rows[:, None] + [0, 1]
    return rows, table.first_instance[edges], table.first_point[edges]


def _one_each(name: str, values: NDArray[np.floating] | None, count: int) -> NDArray[np.float32]:
    if values is None:
        return np.full(count, np.nan, np.float32)
    if np.shape(values) != (count,):
        raise ValueError(f"{name}: expected {count} numbers, got an array of shape {np.shape(values)}")
    return np.asarray(values, np.float32)
