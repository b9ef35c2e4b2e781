"""Which rows, instances and points of a table make up each sample of a data set, and samples side by side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.instance_crops import InstanceCrops


def spans(
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


def one_per_row(name: str, values: NDArray[np.floating] | None, count: int) -> NDArray[np.float32]:
    """Return given numbers `[count]`, or NaN for all; another number of them is a ValueError."""
    if values is None:
        return np.full(count, np.nan, np.float32)
    if np.shape(values) != (count,):
        raise ValueError(f"{name}: expected {count} numbers, got an array of shape {np.shape(values)}")
    return np.asarray(values, np.float32)


def stack_channels(samples: Sequence[Mapping[str, Any]], key: str, padding: float) -> Tensor:
    """Stack what each sample has per channel, `[c, k, ...]`, padded to the most that any has."""
    arrays = [sample[key] for sample in samples]
    most, first = max(array.shape[1] for array in arrays), arrays[0]
    stacked = np.full((len(arrays), first.shape[0], most, *first.shape[2:]), padding, first.dtype)
    for row, array in enumerate(arrays):
        stacked[row, :, : array.shape[1]] = array
    return torch.from_numpy(stacked)


def listed(samples: Sequence[Mapping[str, Any]], key: str) -> list[Tensor]:
    """Return what each sample has, as a tensor each."""
    return [torch.from_numpy(sample[key].copy()) for sample in samples]
