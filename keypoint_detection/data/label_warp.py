"""Labels under a resize or a crop: points, boxes, areas and outlines of COCO annotations move together."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from keypoint_detection.data.coco_parser import CocoAnnotation
from keypoint_detection.geometry import Affine, transform_points


def warp_annotation(annotation: CocoAnnotation, affine: Affine) -> CocoAnnotation:
    """Return an annotation as it is after a map without rotation.

    Points count from the centre of a pixel; boxes and outlines from the corner of the image. A point that is
    absent as 0, 0, 0 stays so, and a mask (run-length code) is left out: `warp_notes` counts them.

    Args:
        annotation: In pixels of the image.
        affine: `[2, 3]`, from image pixels to frame pixels; its linear part is diagonal.
    """
    points = np.array(annotation.keypoints, np.float64).reshape(-1, 3)
    is_blank = (points == 0).all(axis=1)
    points[:, :2] = np.where(is_blank[:, None], 0.0, transform_points(affine, points[:, :2]))
    changes: dict[str, Any] = {"keypoints": points.ravel().tolist()}
    scale_xy = affine.diagonal()
    if annotation.bbox is not None:
        corner = _warp_corners(np.array(annotation.bbox[:2]), affine)
        changes["bbox"] = [*corner.tolist(), *(np.array(annotation.bbox[2:]) * scale_xy).tolist()]
    if annotation.area is not None:
        changes["area"] = annotation.area * float(scale_xy.prod())
    moved = annotation.model_copy(update=changes)
    extra = moved.model_extra
    if extra is not None and extra.get("segmentation") is not None:
        outlines = extra.pop("segmentation")
        if _is_outlines(outlines):
            extra["segmentation"] = [
                _warp_corners(np.array(outline, np.float64).reshape(-1, 2), affine).ravel().tolist()
                for outline in outlines
            ]
    return moved


def warp_notes(annotations: Iterable[CocoAnnotation]) -> list[str]:
    """Return a note on everything in annotations that `warp_annotation` leaves out or cannot move."""
    masks, unmoved = 0, dict[str, int]()
    for annotation in annotations:
        for name, value in (annotation.model_extra or {}).items():
            if name == "segmentation":
                masks += value is not None and not _is_outlines(value)
            elif _is_numbers(value):
                unmoved[name] = unmoved.get(name, 0) + 1
    notes = [
        f"field {name!r} of {count} annotations holds numbers that are kept as they are: if they are pixels, "
        "they are those of the source"
        for name, count in unmoved.items()
    ]
    if masks:
        notes.append(
            f"{masks} segmentations are left out: masks (run-length codes) are not moved, polygons are"
        )
    return notes


def _warp_corners(corners: np.ndarray, affine: Affine) -> np.ndarray:
    """Map points `[..., 2]` that count from the corner of the image; exactly `x * s` for a resize."""
    scale_xy = affine.diagonal()
    return corners * scale_xy + (affine[:, 2] - (0.5 * scale_xy - 0.5))


def _is_outlines(value: Any) -> bool:
    return isinstance(value, list) and all(_is_numbers(part) and len(part) % 2 == 0 for part in value)


def _is_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 1
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in value)
    )
