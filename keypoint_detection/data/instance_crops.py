"""Crops of instances: which part of which image each sample of top-down training and scoring shows."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_dataset_table import KeypointTable

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class InstanceCrops:
    """Hold q crops of the images of one table.

    Attributes:
        row: int64 `[q]`, the row of the image in the table.
        box: float32 `[q, 4]`, COCO's (x, y, width, height) in pixels of the image, as `geometry.box_affine`
            takes it.
        instance: int64 `[q]`, the row of the instance in the table; -1 for a box that a detector found.
        score: float32 `[q]`, the detector's, 1 for labels.
        category_id: int64 `[q]`.
        padding: Each box is enlarged by this factor about its centre.
    """

    row: NDArray[np.int64]
    box: NDArray[np.float32]
    instance: NDArray[np.int64]
    score: NDArray[np.float32]
    category_id: NDArray[np.int64]
    padding: float

    def __len__(self) -> int:
        return len(self.row)


def label_crops(
    table: KeypointTable, padding: float, image_ids: Iterable[int] | None = None
) -> InstanceCrops:
    """Return a crop of every instance with a labelled keypoint, in the order of the table.

    Its box is that of the file. Where there is none, or one without width or height, it is the extent of the
    labelled keypoints, at least a pixel wide and high; how often is logged once.

    Args:
        table: The COCO file.
        padding: Each box is enlarged by this factor about its centre.
        image_ids: Only instances of these images; None takes all.

    Raises:
        ValueError: An instance has neither a box nor keypoints apart from each other, a box does not overlap
            its image, or there is no image of an id.
    """
    image_row = np.repeat(np.arange(len(table.image_ids)), np.diff(table.first_instance))
    chosen = np.bincount(table.instance, minlength=len(table.area)) > 0
    if image_ids is not None:
        chosen &= np.isin(image_row, table.rows_of(image_ids))
    instance = np.flatnonzero(chosen)
    box, row = table.box[instance].copy(), image_row[instance]
    lacking = np.flatnonzero(~_has_size(box))
    box[lacking] = _boxes_of_keypoints(table, instance[lacking])
    if len(lacking):
        logger.warning(
            "%s: %d of %d boxes are the extent of their keypoints, because the annotations have none with "
            "width and height (first annotation %d)",
            table.json_path,
            len(lacking),
            len(instance),
            table.instance_ids[instance[lacking[0]]],
        )
    _check_overlap(table, box, row, lambda q: f"annotation {table.instance_ids[instance[q]]}, field 'bbox'")
    score = np.ones(len(instance), np.float32)
    return InstanceCrops(row, box, instance, score, table.category_ids[instance], padding)


def detection_crops(  # noqa: PLR0917 - the columns of a detections file
    table: KeypointTable,
    boxes: NDArray[np.floating],
    scores: NDArray[np.floating] | Sequence[float],
    image_ids: Iterable[int],
    category_ids: NDArray[np.integer] | Sequence[int],
    padding: float,
) -> InstanceCrops:
    """Return a crop of every box that a detector found, in the order given.

    Args:
        table: The COCO file of the images.
        boxes: `[q, 4]`, COCO's (x, y, width, height) in pixels.
        scores: `[q]`, finite.
        image_ids: q COCO ids of images of the table.
        category_ids: q COCO ids.
        padding: Each box is enlarged by this factor about its centre.

    Raises:
        ValueError: The numbers of entries differ, there is no image of an id, a box has no size or does not
            overlap its image, or a score is not finite.
    """
    box = np.asarray(boxes, np.float32).reshape(-1, 4)
    row = table.rows_of(image_ids)
    score, category_id = np.asarray(scores, np.float32), np.asarray(category_ids, np.int64)
    counts = [len(values) for values in (box, score, row, category_id)]
    if len(set(counts)) > 1:
        raise ValueError(f"expected as many boxes as scores, image ids and category ids, got {counts}")
    for index in np.flatnonzero(~_has_size(box) | ~np.isfinite(score))[:1]:
        raise ValueError(
            f"detection {index} of image {table.image_ids[row[index]]}: expected a finite score and a box "
            f"with width and height above 0, got score {score[index]:g} and {_listed(box[index])}"
        )
    _check_overlap(table, box, row, lambda q: f"detection {q} of image {table.image_ids[row[q]]}")
    return InstanceCrops(row, box, np.full(len(row), -1, np.int64), score, category_id, padding)


def _has_size(box: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.logical_and(np.isfinite(box).all(axis=1), (box[:, 2:] > 0).all(axis=1))


def _check_overlap(
    table: KeypointTable, box: NDArray[np.float32], row: NDArray[np.int64], name: Callable[[int], str]
) -> None:
    """Raise a ValueError for a box that shares no area with its image; both count from its corner."""
    low, size = box[:, :2].astype(np.float64), box[:, 2:].astype(np.float64)
    overlaps = ((low < table.image_hw[row, ::-1]) & (low + size > 0)).all(axis=1)
    if not overlaps.all():
        first = int(overlaps.argmin())
        height, width = table.image_hw[row[first]].tolist()
        raise ValueError(
            f"{table.json_path}: {name(first)}: expected a box (x, y, width, height) that overlaps its image "
            f"of {width}x{height} pixels ({table.file_names[row[first]]}), got {_listed(box[first])}; "
            "correct it or leave it out"
        )


def _boxes_of_keypoints(table: KeypointTable, instances: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the extent `[q, 4]` of the labelled keypoints of instances, each side at least one pixel."""
    low, high = np.full((len(table.area), 2), np.inf), np.full((len(table.area), 2), -np.inf)
    np.minimum.at(low, table.instance, table.xy)
    np.maximum.at(high, table.instance, table.xy)
    low, high = low[instances], high[instances]
    for index in np.flatnonzero((low == high).all(axis=1))[:1]:
        x, y = low[index].tolist()
        raise ValueError(
            f"{table.json_path}: annotation {table.instance_ids[instances[index]]}, field 'bbox': expected a "
            "box with width and height above 0, or labelled keypoints apart from each other to take one "
            f"from, got neither (its keypoints are at ({x:g}, {y:g})); add the box, or leave the instance out"
        )
    size = np.maximum(high - low, 1.0)
    corner = (low + high) / 2 + 0.5 - size / 2  # a box counts from the corner of the image
    return np.concatenate([corner, size], axis=1)


def _listed(box: NDArray[np.float32]) -> str:
    return f"({', '.join(f'{value:g}' for value in box.tolist())})"
