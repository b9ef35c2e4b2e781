"""Read the boxes that a detector found: a COCO detection results file, as arrays."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, TypeAdapter

from keypoint_detection.data.coco_parser import Number
from keypoint_detection.data.coco_results import Identity, check_ids, read_entries

logger = logging.getLogger("keypoint_detection")

DETECTION_FORM = '{"image_id", "category_id", "bbox": [x, y, width, height], "score"}'


class _DetectionEntry(BaseModel):
    image_id: Identity
    category_id: Identity
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)]
    score: Number


_DETECTION_ENTRIES = TypeAdapter(list[_DetectionEntry])


@dataclass(frozen=True)
class Detections:
    """Hold q boxes in file order.

    Attributes:
        image_id: int64 `[q]`.
        category_id: int64 `[q]`.
        box: float32 `[q, 4]`, COCO's (x, y, width, height) in pixels, of positive size.
        score: float32 `[q]`, finite.
    """

    image_id: NDArray[np.int64]
    category_id: NDArray[np.int64]
    box: NDArray[np.float32]
    score: NDArray[np.float32]


def read_detections(
    path: str | Path,
    image_ids: Iterable[int],
    category_ids: Iterable[int] | None = None,
    image_sizes: Mapping[int, tuple[int, int]] | None = None,
) -> Detections:
    """Read and check a COCO detection results file.

    Detections that repeat an earlier one are kept and reported once, with their count. A box may reach beyond
    its image.

    Args:
        path: The file; an empty list is valid, and further fields of an entry are ignored.
        image_ids: Ids of the images that are scored.
        category_ids: Ids that an entry may have; None allows all.
        image_sizes: Height and width in pixels of each of these images; with them, a box that lies wholly
            outside its image is an error.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON list of such entries, a number is not finite, a box has no size or
            lies outside its image, or an image or a category is unknown.
    """
    path = Path(path)
    entries = read_entries(path, _DETECTION_ENTRIES, DETECTION_FORM)
    with np.errstate(
        over="ignore"
    ):  # a number too large for float32 becomes infinite, which is refused below
        detections = Detections(
            image_id=np.array([entry.image_id for entry in entries], np.int64),
            category_id=np.array([entry.category_id for entry in entries], np.int64),
            box=np.array([entry.bbox for entry in entries], np.float64).reshape(-1, 4).astype(np.float32),
            score=np.array([entry.score for entry in entries], np.float64).astype(np.float32),
        )
    check_ids(path, "image_id", detections.image_id, image_ids)
    if category_ids is not None:
        check_ids(path, "category_id", detections.category_id, category_ids)
    _check_numbers(path, detections)
    if image_sizes is not None:
        _check_overlap(path, detections, image_sizes)
    _report_duplicates(path, detections)
    return detections


def _check_numbers(path: Path, detections: Detections) -> None:
    box, score = detections.box, detections.score
    sized = np.isfinite(box).all(1) & (box[:, 2:] > 0).all(1)
    if not sized.all():
        first = int(sized.argmin())
        raise ValueError(
            f"{path}: entry {first}, field 'bbox': expected finite x, y and a positive width and height, got "
            f"{box[first].tolist()} ({int((~sized).sum())} of {len(box)} boxes); remove these entries"
        )
    if not np.isfinite(score).all():
        first = int(np.isfinite(score).argmin())
        raise ValueError(
            f"{path}: entry {first}, field 'score': expected a finite 32-bit number, got {score[first]}; "
            "write scores such as probabilities"
        )


def _check_overlap(path: Path, detections: Detections, image_sizes: Mapping[int, tuple[int, int]]) -> None:
    """Raise a ValueError for a box that shares no area with its image, COCO's `[0, width] x [0, height]`."""
    ids, rows = np.unique(detections.image_id, return_inverse=True)
    sizes = np.array([image_sizes[image_id] for image_id in ids.tolist()], np.float64).reshape(-1, 2)
    limits = sizes[rows, ::-1]
    corner, size = np.split(detections.box.astype(np.float64), 2, axis=1)
    overlaps = np.logical_and(corner < limits, corner + size > 0).all(1)
    if not overlaps.all():
        first, count = int(overlaps.argmin()), int((~overlaps).sum())
        width, height = limits[first].tolist()
        raise ValueError(
            f"{path}: entry {first}, field 'bbox': expected [x, y, width, height] in pixels that overlaps "
            f"image {detections.image_id[first]} (width {width:g}, height {height:g}), got "
            f"{detections.box[first].tolist()} ({count} of {len(limits)} boxes); remove these entries, or "
            "write the boxes in pixels of the original images"
        )


def _report_duplicates(path: Path, detections: Detections) -> None:
    columns = (detections.image_id, detections.category_id, detections.score, *detections.box.T)
    order = np.lexsort(columns)
    same = [column[order][1:] == column[order][:-1] for column in columns]
    repeated = int(np.logical_and.reduce(same).sum())
    if repeated:
        logger.warning(
            "%s: %d of %d detections repeat another one (same image, category, box and score); all are kept",
            path,
            repeated,
            len(order),
        )
