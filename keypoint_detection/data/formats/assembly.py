"""Put COCO records together from what a reader found: annotations, unique file names, sizes of images."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import numpy as np

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory

Point = tuple[float, float, int]
"""x and y in image pixels, an integer being the centre of a pixel, and COCO's visibility 1 or 2."""

IMAGES_FOLDER = "images"
DEFAULT_CATEGORY = "object"
"""Name of the category where a format has none."""


def make_annotation(
    identity: int,
    image_id: int,
    category: CocoCategory,
    points: Mapping[str, Point],
    box_xywh: tuple[float, float, float, float] | None = None,
) -> CocoAnnotation:
    """Return the annotation of one instance; points that are not named are absent (0, 0, 0).

    Args:
        identity: Id of the annotation.
        image_id: Id of its image.
        category: Its category, which gives the order of the points.
        points: Labelled points by name.
        box_xywh: Labelled box in pixels from the corner of the image. Without it the box around the points is
            taken, where they span one.
    """
    values = [number for name in category.keypoints for number in points.get(name, (0.0, 0.0, 0))]
    box = box_xywh or _box_around(points)
    annotation = CocoAnnotation(
        id=identity,
        image_id=image_id,
        category_id=category.id,
        keypoints=values,
        num_keypoints=len(points),
        iscrowd=0,
    )
    if box is not None and np.isfinite(box[2] * box[3]) and box[2] * box[3] > 0:
        # scores that are relative to the area need one above zero
        annotation.bbox, annotation.area = list(box), box[2] * box[3]
    return annotation


def labelled_points(annotation: CocoAnnotation, category: CocoCategory) -> dict[str, Point]:
    """Return the points of an annotation that are not absent, by name: what `make_annotation` is given."""
    values = annotation.keypoints
    triples = zip(category.keypoints, values[::3], values[1::3], values[2::3], strict=True)
    return {name: (x, y, int(flag)) for name, x, y, flag in triples if flag > 0}


def _box_around(points: Mapping[str, Point]) -> tuple[float, float, float, float] | None:
    if not points:
        return None
    columns, rows, _ = zip(*points.values(), strict=True)
    left, top = min(columns), min(rows)
    # COCO's boxes count from the corner of the image, points from the centre of the first pixel
    return left + 0.5, top + 0.5, max(columns) - left, max(rows) - top


class FileNames:
    """Give out file names below `images/` for the paths of a foreign file, each name once."""

    def __init__(self):
        self._taken: set[str] = set()

    def add(self, path: str) -> str:
        """Return `images/...` for a path with either slash; a name that is taken gets `_2`, `_3`, ..."""
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        if parts and parts[0] == IMAGES_FOLDER and len(parts) > 1:
            parts = parts[1:]
        name = PurePosixPath(IMAGES_FOLDER, *(parts or ["image"]))
        candidate, number = name, 1
        while candidate.as_posix() in self._taken:
            number += 1
            candidate = name.with_name(f"{name.stem}_{number}{name.suffix}")
        self._taken.add(candidate.as_posix())
        return candidate.as_posix()


def find_beside(folder: Path, paths: Iterable[str]) -> Path | None:
    """Return the first file that exists below `folder` or its `images`, by a path or its last parts."""
    for path in paths:
        parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            for root in (folder, folder / IMAGES_FOLDER):
                candidate = root.joinpath(*parts[start:])
                if os.path.isfile(candidate):  # False also for what is no legal path
                    return candidate
    return None
