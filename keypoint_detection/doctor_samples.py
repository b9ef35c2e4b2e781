"""What a network would be shown under some settings: frames and labelled points, without reading an image."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.data.channels import Channels, channel_name
from keypoint_detection.data.coco_dataset import channels_of
from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.instance_crops import label_crops
from keypoint_detection.geometry import (
    box_affine,
    image_to_heatmap,
    invert,
    letterbox_affine,
    transform_points,
)


@dataclass(frozen=True)
class Settings:
    """Hold the settings of a training that decide what its network could reach at best.

    Attributes:
        image_hw: Height and width in pixels of the network's frame; None keeps each image's own size.
        input_mode: What the network sees: whole images, or a crop per labelled instance.
        box_padding: Each instance's box is enlarged by this factor for its crop.
        stride: Pixels of the frame per heatmap pixel, that of the backbone.
        sigma_px: Standard deviation of the targets of the last epoch, heatmap pixels.
        channels: As `parse_channels` takes them; None is one channel per keypoint name.
        max_keypoints: Most detections per channel and image.
        min_distance_px: Radius of non-maximum suppression, heatmap pixels.
        thresholds: Of AP: original pixels, or OKS when all are below 1.
        head: `heatmap` or `regression`.
        required_visibility: Lowest flag that counts as a keypoint, 1 or 2.
        scoring: Definitions of the scores, `ScoreConfig` by name.
    """

    image_hw: tuple[int, int] | None = None
    input_mode: Literal["image", "instance"] = "image"
    box_padding: float = 1.25
    stride: int = 1
    sigma_px: float = 2.0
    channels: str | Channels | None = None
    max_keypoints: int = 20
    min_distance_px: int = 1
    thresholds: Sequence[float] = (2.0, 4.0)
    head: Literal["heatmap", "regression"] = "heatmap"
    required_visibility: int = 1
    scoring: Mapping[str, Any] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.input_mode == "instance" and self.image_hw is None:
            raise ValueError("input_mode instance: expected an image_size such as 256x192, got none")
        if self.stride < 1 or self.sigma_px <= 0:
            raise ValueError(
                f"expected a stride of at least 1 and a sigma above 0, got {self.stride} and {self.sigma_px}"
            )


@dataclass(frozen=True)
class LabelSamples:
    """Hold q samples, whole images or crops, and p labels: a point of the table in a channel that it feeds.

    Attributes:
        table: The data set.
        settings: What the samples were made by.
        channels: Keypoint names per channel.
        row: int64 `[q]`, the row of each sample's image in the table.
        to_input: float64 `[q, 2, 3]`, from original pixels into the frame.
        input_hw: int64 `[q, 2]`, size of the frame.
        sample: int64 `[p]`, rising.
        channel: int64 `[p]`, rising within a sample.
        point: int64 `[p]`, row of the point in the table, rising within a sample and channel.
    """

    table: KeypointTable
    settings: Settings
    channels: Channels
    row: NDArray[np.int64]
    to_input: NDArray[np.float64]
    input_hw: NDArray[np.int64]
    sample: NDArray[np.int64]
    channel: NDArray[np.int64]
    point: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    @functools.cached_property
    def channel_names(self) -> list[str]:
        """Return the label of each channel."""
        return [channel_name(channel) for channel in self.channels]

    @functools.cached_property
    def counts(self) -> NDArray[np.bool_]:
        """Tell which labels are visible enough to be a keypoint, `[p]`."""
        return self.table.visibility[self.point] >= self.settings.required_visibility

    @functools.cached_property
    def frame_xy(self) -> NDArray[np.float32]:
        """Return where the labels are in the network's frame, `[p, 2]`, as precise as a batch has them."""
        xy = transform_points(self.to_input[self.sample], self.table.xy[self.point])
        return xy.astype(np.float32)

    @property
    def heatmap_xy(self) -> NDArray[np.float32]:
        """Return where the labels are in the heatmap, `[p, 2]`."""
        return image_to_heatmap(self.frame_xy, self.settings.stride)

    @property
    def heatmap_hw(self) -> NDArray[np.int64]:
        """Return the size of each sample's heatmaps, `[q, 2]`."""
        return -(-self.input_hw // self.settings.stride)

    @functools.cached_property
    def scale(self) -> NDArray[np.float64]:
        """Return how many frame pixels an original pixel becomes, `[q]`."""
        return np.sqrt(np.abs(np.linalg.det(self.to_input[:, :, :2])))

    @functools.cached_property
    def slot(self) -> NDArray[np.int64]:
        """Return the place of each label among those of its sample and channel, `[p]`."""
        group = self.sample * len(self.channels) + self.channel
        return np.arange(len(group)) - np.searchsorted(group, group)

    def to_image(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the maps from the frames of some samples to original pixels, `[s, 2, 3]`."""
        maps = [invert(affine) for affine in self.to_input[positions]]
        return np.array(maps, np.float32).reshape(-1, 2, 3)

    def labels_of(self, positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the labels of some samples `[e]`, and the place of each in `positions` `[e]`."""
        first, last = np.searchsorted(self.sample, positions + np.array([[0], [1]]))
        return _ranges(first, last)


def label_samples(table: KeypointTable, settings: Settings) -> LabelSamples:
    """Return every sample of a data set as `COCOKeypointsDataset` would give it, without its pixels.

    Raises:
        ValueError: A channel names a keypoint that the file lacks, or an instance has no box to crop by.
    """
    channels = channels_of(table, settings.channels)
    if settings.input_mode == "instance":
        row, to_input, input_hw, first, last = _crops(table, settings)
    else:
        row = np.arange(len(table.image_ids))
        to_input, input_hw = _whole_images(table, settings)
        first, last = table.first_point[:-1], table.first_point[1:]
    point, sample = _ranges(first, last)
    feeds = np.array([[name in channel for name in table.names] for channel in channels], bool)
    channel, label = np.nonzero(feeds[:, table.name_index[point]])
    order = np.lexsort((label, channel, sample[label]))
    label, channel = label[order], channel[order]
    return LabelSamples(
        table, settings, channels, row, to_input, input_hw, sample[label], channel, point[label]
    )


def draw_positions(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """Return all positions below `count`, or `most` of them drawn by a seed, in rising order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def label_batches(
    samples: LabelSamples,
    positions: NDArray[np.int64],
    lengths: NDArray[np.floating],
    sigmas: NDArray[np.floating],
    *,
    most_pixels: int = 2**23,
) -> Iterator[tuple[NDArray[np.int64], dict[str, Any]]]:
    """Yield batches as `data.coco_dataset.Batch` describes them, of samples of one size, without pixels.

    `image` has the right shape and nothing in it, and `area` and `box` are left out.

    Args:
        samples: The samples.
        positions: Which ones.
        lengths: `[m]`, a length per instance of the table, for `keypoint_length`.
        sigmas: `[names]`, an OKS constant per name of the table, for `keypoint_sigma`.
        most_pixels: A batch has about this many heatmap pixels at most.
    """
    sizes, kind = np.unique(samples.input_hw[positions], axis=0, return_inverse=True)
    for index, (height, width) in enumerate(sizes.tolist()):
        chosen = positions[kind.ravel() == index]
        pixels = len(samples.channels) * height * width / samples.settings.stride**2
        step = max(1, int(most_pixels / pixels))
        for start in range(0, len(chosen), step):
            part = chosen[start : start + step]
            yield part, _batch(samples, part, (height, width), lengths, sigmas)


def _batch(
    samples: LabelSamples,
    positions: NDArray[np.int64],
    input_hw: tuple[int, int],
    lengths: NDArray[np.floating],
    sigmas: NDArray[np.floating],
) -> dict[str, Any]:
    """Return the batch of some samples of one size."""
    table, rows = samples.table, samples.row[positions]
    edges = zip(table.first_crowd[rows], table.first_crowd[rows + 1], strict=True)
    return _label_fields(samples, positions, lengths, sigmas) | {
        "image": torch.empty(1, dtype=torch.uint8).expand(len(positions), 1, *input_hw),
        "to_image": torch.from_numpy(samples.to_image(positions)),
        "image_id": torch.from_numpy(table.image_ids[rows]),
        "image_hw": torch.from_numpy(table.image_hw[rows]),
        "input_hw": torch.from_numpy(samples.input_hw[positions]),
        "crowd_box": [torch.from_numpy(table.crowd_box[first:last].copy()) for first, last in edges],
    }


def _label_fields(
    samples: LabelSamples,
    positions: NDArray[np.int64],
    lengths: NDArray[np.floating],
    sigmas: NDArray[np.floating],
) -> dict[str, Any]:
    """Return what a batch says of its labels, `[n, c, k]` each, padded as a batch is."""
    table = samples.table
    labels, place = samples.labels_of(positions)
    point, slot = samples.point[labels], samples.slot[labels]
    instance = table.instance[point]
    shape = (len(positions), len(samples.channels), int(slot.max(initial=0)) + 1)
    fields: dict[str, tuple[NDArray, float]] = {
        "keypoints": (samples.frame_xy[labels], np.nan),
        "visibility": (table.visibility[point], 0),
        "keypoint_area": (table.area[instance], np.nan),
        "keypoint_sigma": (sigmas[table.name_index[point]].astype(np.float32), np.nan),
        "keypoint_length": (lengths[instance].astype(np.float32), np.nan),
    }
    batch: dict[str, Any] = {}
    for key, (values, padding) in fields.items():
        grouped = np.full((*shape, *values.shape[1:]), padding, values.dtype)
        grouped[place, samples.channel[labels], slot] = values
        batch[key] = torch.from_numpy(grouped)
    return batch


def _ranges(first: NDArray[np.int64], last: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the numbers of the ranges `first:last` one after the other, and the range of each."""
    sizes = last - first
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return np.arange(len(owner)) + (first - np.cumsum(sizes) + sizes)[owner], owner


def _whole_images(table: KeypointTable, settings: Settings) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the maps into the frame and its sizes; images of a size share one map."""
    sizes, kind = np.unique(table.image_hw, axis=0, return_inverse=True)
    sizes = [(height, width) for height, width in sizes.tolist()]
    frames = [settings.image_hw or size for size in sizes]
    maps = [letterbox_affine(size, frame) for size, frame in zip(sizes, frames, strict=True)]
    return np.stack(maps)[kind.ravel()], np.array(frames)[kind.ravel()]


def _crops(table: KeypointTable, settings: Settings) -> tuple[NDArray[Any], ...]:
    """Return of q crops the image row, map, frame size, and first and last + 1 point."""
    crops, frame = label_crops(table, settings.box_padding), settings.image_hw
    assert frame is not None  # a Settings of instances has one
    maps = [box_affine(box, frame, crops.padding) for box in crops.box]
    first, last = np.searchsorted(table.instance, crops.instance + np.array([[0], [1]]))
    to_input = np.array(maps, np.float64).reshape(-1, 2, 3)
    return crops.row, to_input, np.tile(frame, (len(crops), 1)), first, last
