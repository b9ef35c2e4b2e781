"""Samples of a COCO keypoint file: an image, or a crop of an instance, and its keypoints by channel."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.augmentations import Augmenter
from keypoint_detection.data.augmentations_device import DeviceChange, change_arrays, stack_changes
from keypoint_detection.data.batch_buffers import BatchBuffers
from keypoint_detection.data.channels import Channels, parse_channels
from keypoint_detection.data.coco_dataset_images import TableImages, channels_first, stack_in_buffer
from keypoint_detection.data.coco_dataset_samples import listed, one_per_row, spans, stack_channels
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.image_cache import ImageCache
from keypoint_detection.data.instance_crops import InstanceCrops
from keypoint_detection.geometry import (
    Affine,
    box_affine,
    compose,
    identity_affine,
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
        change: What is still to be done to the images on their device, where augmentation is done there.
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
    change: NotRequired[DeviceChange]


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
        cache: ImageCache | None = None,
        changes_on_device: bool = False,
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
            cache: Keeps decoded images for all processes, see `cached_frame`; None decodes them every time.
            changes_on_device: Only draw what the augmenter changes, as `change` of a batch, for
                `change_images` to do it; the keypoints are moved already.
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
        if crops is not None and changes_on_device:
            raise ValueError(
                "augment_device gpu: expected whole images, as a crop does not show what a rotation brings "
                "in; leave it out with --input_mode instance"
            )
        self._rows, self._instances, self._points = spans(self.table, image_ids, crops)
        self._changes_on_device = changes_on_device
        self._images = TableImages(self.table, n_channels_in)
        if cache is not None:
            zoom = None if augmenter is None or changes_on_device else augmenter.config.scale
            self._images.use_cache(cache, self._rows, None if crops is not None else image_size, zoom)
        self._latest: tuple[int, NDArray[np.uint8], Affine] | None = None
        names = self.table.names
        self._feeds = np.array([[name in channel for name in names] for channel in self.channels], bool)
        swap = augmenter.swap if augmenter is not None else {}
        self._mirrored_name = np.array([names.index(swap.get(name, name)) for name in names], np.int64)
        self._lengths = one_per_row("lengths", lengths, len(self.table.area))
        self._sigmas = one_per_row("sigmas", sigmas, len(names))

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def image_ids(self) -> list[int]:
        """Return the COCO id of the image of each sample."""
        return self.table.image_ids[self._rows].tolist()

    @property
    def sizes_hw(self) -> NDArray[np.int64]:
        """Return height and width in the network's frame of each sample, `[n, 2]`."""
        if self.image_size is None:
            return self.table.image_hw[self._rows]
        return np.tile(np.array(self.image_size, np.int64), (len(self), 1))

    @property
    def largest_bytes(self) -> int:
        """Return the bytes of a sample's image when it is padded to the largest height and width."""
        return int(self.sizes_hw.max(axis=0).prod()) * self._images.n_channels if len(self) else 0

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
        image, to_input, further = self._to_input(row, position, seed)
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
            **further,
        }

    def _load(self, row: int) -> tuple[NDArray[np.uint8], Affine]:
        if self.crops is None:
            return self._images(row)
        if self._latest is None or self._latest[0] != row:
            self._latest = (row, *self._images(row))  # in order, the crops of an image come after each other
        return self._latest[1:]

    def _to_input(
        self, row: int, position: int, seed: int | None
    ) -> tuple[NDArray[np.uint8], Affine, dict[str, Any]]:
        """Return the image in the network's frame, the affine from the file into it, and further keys."""
        if self.augmenter is None:
            return *self._unchanged(row, position), {}
        generator = np.random.default_rng(int(torch.randint(2**62, ())) if seed is None else seed)
        points = self.table.xy[slice(*self._points[position])]
        if self._changes_on_device:
            image, base = self._unchanged(row, position)
            hw, points = (image.shape[0], image.shape[1]), transform_points(base, points)
            affine = self.augmenter.draw_affine(hw, hw, generator, points, base=identity_affine())
            values, noise_seed = self.augmenter.draw_values(generator), int(generator.integers(2**62))
            change = change_arrays(affine, values, image.shape[2], noise_seed)
            return image, compose(base, affine), {"change": change}
        image, to_loaded = self._load(row)
        input_hw, base = self._frame(row, position)
        if not (is_whole := np.array_equal(to_loaded, identity_affine())):
            base, points = compose(invert(to_loaded), base), transform_points(to_loaded, points)
        image, affine = self.augmenter(image, input_hw, generator, points, base=base)
        return image, affine if is_whole else compose(to_loaded, affine), {}

    def _unchanged(self, row: int, position: int) -> tuple[NDArray[np.uint8], Affine]:
        image, to_loaded = self._load(row)
        if not np.array_equal(to_loaded, identity_affine()):
            return image, to_loaded  # cached as the network takes it
        input_hw, base = self._frame(row, position)
        return warp_image(image, base, input_hw), base

    def _frame(self, row: int, position: int) -> tuple[tuple[int, int], Affine]:
        """Return height and width of the network's frame, and the affine from the file without any change."""
        height, width = self.table.image_hw[row].tolist()
        input_hw = self.image_size or (height, width)
        if self.crops is None:
            return input_hw, letterbox_affine((height, width), input_hw)
        return input_hw, box_affine(self.crops.box[position], input_hw, self.crops.padding)

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


def collate(samples: Sequence[Mapping[str, Any]], buffers: BatchBuffers | None = None) -> Batch:
    """Return a batch of samples of `COCOKeypointsDataset`, padded to its largest image and keypoint list.

    Args:
        samples: At least one.
        buffers: Memory for `image`, which a loader process has in place of a tensor then.
    """
    image: Any = stack_in_buffer([sample["image"] for sample in samples], buffers)
    batch = Batch(
        image=image,
        keypoints=stack_channels(samples, "keypoints", np.nan),
        visibility=stack_channels(samples, "visibility", 0),
        keypoint_area=stack_channels(samples, "keypoint_area", np.nan),
        keypoint_sigma=stack_channels(samples, "keypoint_sigma", np.nan),
        keypoint_length=stack_channels(samples, "keypoint_length", np.nan),
        to_image=torch.from_numpy(np.stack([sample["to_image"] for sample in samples])),
        image_id=torch.tensor([sample["image_id"] for sample in samples]),
        image_hw=torch.tensor([sample["image_hw"] for sample in samples]),
        input_hw=torch.tensor([sample["input_hw"] for sample in samples]),
        area=listed(samples, "area"),
        box=listed(samples, "box"),
        crowd_box=listed(samples, "crowd_box"),
    )
    if "change" in samples[0]:
        batch["change"] = stack_changes([sample["change"] for sample in samples])
    return batch
