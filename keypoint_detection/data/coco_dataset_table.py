"""A COCO keypoint file as arrays: small for 100 000 images, quick to cut into samples, shared by splits."""

import logging
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoKeypoints, read_coco
from keypoint_detection.data.symmetry import Symmetry, read_symmetry
from keypoint_detection.geometry import is_inside

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class KeypointTable:
    """Hold n images, and sorted by image m instances, p keypoints and the boxes of r crowd regions.

    Crowd regions are no instances.

    Attributes:
        json_path: The COCO file.
        names: Every keypoint name of the file.
        image_ids: int64 `[n]`.
        file_names: n paths as the file has them, relative to its folder.
        image_hw: int64 `[n, 2]`.
        area: float32 `[m]`, square pixels: the area of the file, else that of the box, else NaN.
        box: float32 `[m, 4]`, COCO's (x, y, width, height) in pixels, NaN where the file has none.
        instance_ids: int64 `[m]`, the ids of the annotations.
        category_ids: int64 `[m]`.
        head_size: float32 `[m]`, pixels: 0.6 of the diagonal of the annotation's `head_box` (as PCKh has it),
            else NaN.
        first_instance: int64 `[n + 1]`: image i has the instances `first_instance[i]:first_instance[i + 1]`.
        xy: float64 `[p, 2]`, pixels, all inside their image.
        visibility: uint8 `[p]`, 1 or 2.
        name_index: int64 `[p]`, into `names`.
        instance: int64 `[p]`, the row of the instance.
        first_point: int64 `[n + 1]`, as `first_instance`.
        crowd_box: float32 `[r, 4]`, as `box`; a crowd region without a box is left out.
        first_crowd: int64 `[n + 1]`, as `first_instance`.
        symmetry: Which names change places, as the categories declare it.
        skeleton: Pairs of names that a line joins in drawings, of all categories.
    """

    json_path: Path
    names: list[str]
    image_ids: NDArray[np.int64]
    file_names: list[str]
    image_hw: NDArray[np.int64]
    area: NDArray[np.float32]
    box: NDArray[np.float32]
    instance_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]
    head_size: NDArray[np.float32]
    first_instance: NDArray[np.int64]
    xy: NDArray[np.float64]
    visibility: NDArray[np.uint8]
    name_index: NDArray[np.int64]
    instance: NDArray[np.int64]
    first_point: NDArray[np.int64]
    crowd_box: NDArray[np.float32]
    first_crowd: NDArray[np.int64]
    symmetry: Symmetry = field(default_factory=Symmetry)
    skeleton: tuple[tuple[str, str], ...] = ()

    def image_path(self, row: int) -> Path:
        """Return where the image of a row is."""
        return self.json_path.parent / self.file_names[row]

    def rows_of(self, image_ids: Iterable[int]) -> NDArray[np.int64]:
        """Return the rows of images by their ids, in the order given; an unknown id is a ValueError."""
        row_by_id = {image_id: row for row, image_id in enumerate(self.image_ids.tolist())}
        rows = []
        for image_id in image_ids:
            if image_id not in row_by_id:
                raise ValueError(f"{self.json_path}: expected image ids of this file, got {image_id}")
            rows.append(row_by_id[image_id])
        return np.array(rows, np.int64)

    def check_areas(self) -> None:
        """Raise a ValueError when a labelled instance has no area to scale OKS by."""
        lacking = ~(self.area[np.unique(self.instance)] > 0)
        if lacking.any():
            raise ValueError(
                f"{self.json_path}: OKS thresholds (all below 1) need the area of every instance, but "
                f"{int(lacking.sum())} of {len(lacking)} have none above 0, nor a bbox for it; add them, or "
                "give thresholds in pixels such as --maximal_gt_keypoint_pixel_distances '2 4'"
            )

    def keypoint_counts(self) -> NDArray[np.int64]:
        """Return how many keypoints each name has, `[names]`."""
        return np.bincount(self.name_index, minlength=len(self.names))


def read_table(
    json_path: str | Path, coco: CocoKeypoints | None = None, *, require_images: bool = True
) -> KeypointTable:
    """Read a COCO keypoint file; keypoints outside their image are left out and reported once, with a count.

    Args:
        json_path: The file.
        coco: What `read_coco` gave for it, where it has been read already.
        require_images: Refuse a file whose images are not there; only what never reads them can do without.

    Raises:
        FileNotFoundError: There is no such file, or images are missing that are required.
        ValueError: The file is not valid (CocoError), has no images, a `head_box` is no box, or a declared
            symmetry contradicts itself.
    """
    json_path = Path(json_path)
    coco = read_coco(json_path) if coco is None else coco
    if not coco.images:
        raise ValueError(f"{json_path}: expected images, got an empty list")
    file_names = [image.file_name for image in coco.images]
    if require_images:
        _check_images_exist(json_path, file_names)
    annotations, first_instance = _by_image(coco, crowds=False)
    crowds, first_crowd = _by_image(coco, crowds=True)
    box = _boxes(annotations)
    return KeypointTable(
        json_path=json_path,
        names=coco.keypoint_names(),
        image_ids=np.array([image.id for image in coco.images], np.int64),
        file_names=file_names,
        image_hw=np.array([(image.height, image.width) for image in coco.images], np.int64),
        area=_areas(annotations, box),
        box=box,
        instance_ids=np.array([annotation.id for annotation in annotations], np.int64),
        category_ids=np.array([annotation.category_id for annotation in annotations], np.int64),
        head_size=_head_sizes(json_path, annotations),
        first_instance=first_instance,
        **_points_inside(json_path, coco, annotations, first_instance),
        crowd_box=_boxes(crowds),
        first_crowd=first_crowd,
        symmetry=_symmetry(json_path, coco),
        skeleton=_skeleton(coco),
    )


def _symmetry(json_path: Path, coco: CocoKeypoints) -> Symmetry:
    try:
        return read_symmetry(coco)
    except ValueError as error:
        raise ValueError(f"{json_path}: {error}") from None


def _skeleton(coco: CocoKeypoints) -> tuple[tuple[str, str], ...]:
    """Return the lines of all categories by name, each once; COCO counts keypoints from 1."""
    lines: dict[tuple[str, str], None] = {}
    for category in coco.categories:
        names = category.keypoints
        for ends in category.skeleton or []:
            if len(ends) == 2 and all(1 <= end <= len(names) for end in ends):
                lines[(names[ends[0] - 1], names[ends[1] - 1])] = None
    return tuple(lines)


def _by_image(coco: CocoKeypoints, *, crowds: bool) -> tuple[list[CocoAnnotation], NDArray[np.int64]]:
    """Return instances, or crowd regions that have a box, sorted by image, and where each image starts."""
    rows = {image.id: row for row, image in enumerate(coco.images)}
    chosen = [
        annotation
        for annotation in coco.annotations
        if bool(annotation.iscrowd) == crowds and not (crowds and annotation.bbox is None)
    ]
    chosen.sort(key=lambda annotation: rows[annotation.image_id])
    per_annotation = np.array([rows[annotation.image_id] for annotation in chosen], np.int64)
    return chosen, np.searchsorted(per_annotation, np.arange(len(rows) + 1))


def _points_inside(
    json_path: Path,
    coco: CocoKeypoints,
    annotations: list[CocoAnnotation],
    first_instance: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the fields of the table that are about points: labelled ones inside their image."""
    values, name_index, instance = _keypoint_arrays(coco, annotations)
    instance_row = np.repeat(np.arange(len(coco.images)), np.diff(first_instance))
    row = instance_row[instance]
    image_hw = np.array([(image.height, image.width) for image in coco.images], np.int64)[row]
    labelled = values[:, 2] > 0
    inside = is_inside(values[:, :2], (image_hw[:, 0], image_hw[:, 1]))
    outside = row[labelled & ~inside]
    if len(outside):
        logger.warning(
            "%s: %d of %d keypoints lie outside their image and count as absent (first in %s)",
            json_path,
            len(outside),
            int(labelled.sum()),
            coco.images[outside[0]].file_name,
        )
    kept = labelled & inside
    return {
        "xy": values[kept, :2],
        "visibility": values[kept, 2].astype(np.uint8),
        "name_index": name_index[kept],
        "instance": instance[kept],
        "first_point": np.searchsorted(row[kept], np.arange(len(coco.images) + 1)),
    }


def _keypoint_arrays(
    coco: CocoKeypoints, annotations: list[CocoAnnotation]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Return x, y, visibility `[p, 3]`, name index `[p]` and instance `[p]` of every keypoint of the file."""
    numbers = {name: number for number, name in enumerate(coco.keypoint_names())}
    names = {
        category.id: np.array([numbers[name] for name in category.keypoints], np.int64)
        for category in coco.categories
    }
    empty = np.empty(0, np.int64)  # lets a file without annotations through concatenate
    values = np.concatenate([empty, *(annotation.keypoints for annotation in annotations)])
    name_index = np.concatenate([empty, *(names[annotation.category_id] for annotation in annotations)])
    counts = [len(annotation.keypoints) // 3 for annotation in annotations]
    return values.astype(np.float64).reshape(-1, 3), name_index, np.repeat(np.arange(len(counts)), counts)


def _boxes(annotations: list[CocoAnnotation]) -> NDArray[np.float32]:
    missing = [np.nan] * 4
    boxes = [missing if annotation.bbox is None else annotation.bbox for annotation in annotations]
    return np.array(boxes, np.float32).reshape(-1, 4)


def _areas(annotations: list[CocoAnnotation], box: NDArray[np.float32]) -> NDArray[np.float32]:
    areas = [np.nan if annotation.area is None else annotation.area for annotation in annotations]
    area = np.array(areas, np.float32)
    return np.where(np.isnan(area), box[:, 2] * box[:, 3], area)


def _head_sizes(json_path: Path, annotations: list[CocoAnnotation]) -> NDArray[np.float32]:
    """Return 0.6 of the diagonal of each head box, NaN without one, `[m]` pixels.

    Source: the evaluation of MPII Human Pose (Andriluka et al. 2014), where PCKh is defined.
    """
    sizes = np.full(len(annotations), np.nan, np.float32)
    for row, annotation in enumerate(annotations):
        box = (annotation.model_extra or {}).get("head_box")
        if box is not None:
            sizes[row] = 0.6 * _diagonal_of_head(json_path, annotation.id, box)
    return sizes


def _diagonal_of_head(json_path: Path, annotation_id: int, box: Any) -> float:
    is_list = isinstance(box, list) and len(box) == 4
    if is_list and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box):
        diagonal = math.hypot(box[2], box[3])
        if all(map(math.isfinite, box)) and min(box[2], box[3]) > 0:
            return diagonal
    raise ValueError(
        f"{json_path}: annotation {annotation_id}, field 'head_box': expected four numbers (x, y, width, "
        f"height) with width and height above 0, got {shorten(repr(box), 60)}; correct it or leave it out"
    )


def _check_images_exist(json_path: Path, file_names: list[str]) -> None:
    folder = str(json_path.parent)
    missing = [name for name in file_names if not os.path.isfile(os.path.join(folder, name))]  # quick
    if missing:
        raise FileNotFoundError(
            f"expected the images of {json_path}, but {len(missing)} of {len(file_names)} are missing, first "
            f"{json_path.parent / missing[0]}; paths in the file are relative to its folder"
        )
