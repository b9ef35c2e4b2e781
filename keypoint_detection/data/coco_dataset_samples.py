"""Which rows, instances and points of a table make up each sample of a data set."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

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
