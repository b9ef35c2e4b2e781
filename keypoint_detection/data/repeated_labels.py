"""Which annotations of a COCO file label the same object, and how far apart their keypoints lie."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoKeypoints
from keypoint_detection.metrics.oks_sigmas import RepeatedDistances

OBJECT_FIELD = "object_id"
ANNOTATOR_FIELD = "annotator"


class _Labels(NamedTuple):
    """Hold l labelled points: the object and the keypoint name of each, both `[l]`, and `xy` `[l, 2]`."""

    object_index: NDArray[np.int64]
    name_index: NDArray[np.int64]
    xy: NDArray[np.float64]


def repeated_distances(coco: CocoKeypoints) -> RepeatedDistances | None:
    """Return how far repeated labels of the same objects lie apart, per keypoint name of the file.

    Annotations label the same object when they share image, category and the value of the extra field
    `object_id`. Those without this field do when they share image and category, and each has an extra field
    `annotator` with a value of its own there. Crowds, and annotations without labelled keypoints, are passed
    over. The scale of an object is the mean area of its annotations: that of the file, else that of the bbox;
    an object where neither is above 0 is left out and counted.

    Args:
        coco: The file.

    Returns:
        The distances, or None where no object has a keypoint that is labelled twice.

    Raises:
        ValueError: An `object_id` or `annotator` is neither a number nor text.
    """
    names = coco.keypoint_names()
    objects = _repeated_objects(coco.annotations)
    labels = _labels(coco, objects, names)
    if not len(labels.xy):
        return None
    groups, group_of_label, num_labels = np.unique(
        labels.object_index * len(names) + labels.name_index, return_inverse=True, return_counts=True
    )
    object_index, name_index = np.divmod(groups, len(names))
    is_repeated = num_labels > 1
    if not is_repeated.any():
        return None
    area = np.array([_mean_area(annotations) for annotations in objects])
    used = is_repeated & np.isfinite(area[object_index])
    squares = _squares_about_mean(labels.xy, group_of_label, num_labels)[used] / area[object_index[used]]
    sizes = [len(objects[index]) for index in np.unique(object_index[used])]
    return RepeatedDistances(
        tuple(names),
        np.bincount(name_index[used], squares, len(names)).astype(np.float64),
        np.bincount(name_index[used], num_labels[used] - 1, len(names)).astype(np.int64),
        len(sizes),
        (min(sizes, default=0), max(sizes, default=0)),
        len(np.unique(object_index[is_repeated & ~used])),
    )


def _repeated_objects(annotations: Sequence[CocoAnnotation]) -> list[list[CocoAnnotation]]:
    """Return the annotations of each object that has at least two, all of them of one category."""
    by_object: dict[tuple[Hashable, ...], list[CocoAnnotation]] = defaultdict(list)
    by_place: dict[tuple[int, int], list[CocoAnnotation]] = defaultdict(list)
    for annotation in annotations:
        place = (annotation.image_id, annotation.category_id)
        object_id = _extra(annotation, OBJECT_FIELD)
        if annotation.iscrowd or not any(flag > 0 for flag in annotation.keypoints[2::3]):
            continue
        if object_id is not None:
            by_object[*place, object_id].append(annotation)
        elif _extra(annotation, ANNOTATOR_FIELD) is not None:
            by_place[place].append(annotation)
    one_each = [found for found in by_place.values() if _all_differ(found)]
    return [found for found in [*by_object.values(), *one_each] if len(found) > 1]


def _extra(annotation: CocoAnnotation, field: str) -> Hashable:
    value: Any = (annotation.model_extra or {}).get(field)
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(
            f"annotation {annotation.id}, field {field!r}: expected a number or text, got {value!r}; "
            "correct it or leave it out"
        )
    return value


def _all_differ(annotations: Sequence[CocoAnnotation]) -> bool:
    return len({_extra(annotation, ANNOTATOR_FIELD) for annotation in annotations}) == len(annotations)


def _labels(
    coco: CocoKeypoints, objects: Sequence[Sequence[CocoAnnotation]], names: Sequence[str]
) -> _Labels:
    """Return all labelled points of the objects' annotations."""
    name_index = {name: index for index, name in enumerate(names)}
    parts = []
    for category in coco.categories:
        rows = [
            (index, annotation.keypoints)
            for index, annotations in enumerate(objects)
            for annotation in annotations
            if annotation.category_id == category.id
        ]
        columns = np.array([name_index[name] for name in category.keypoints], np.int64)
        points = np.array([keypoints for _, keypoints in rows], np.float64).reshape(
            len(rows), len(columns), 3
        )
        row, column = np.nonzero(points[..., 2] > 0)
        object_index = np.array([index for index, _ in rows], np.int64)
        parts.append(_Labels(object_index[row], columns[column], points[row, column, :2]))
    if not parts:
        empty = np.zeros(0, np.int64)
        return _Labels(empty, empty, np.zeros((0, 2)))
    return _Labels(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _mean_area(annotations: Sequence[CocoAnnotation]) -> float:
    """Return the mean of the areas above 0 in square pixels, NaN where there is none."""
    areas = []
    for annotation in annotations:
        area, box = annotation.area, annotation.bbox
        if area is None and box is not None:
            area = box[2] * box[3]
        if area is not None and area > 0:
            areas.append(area)
    return float(np.mean(areas)) if areas else np.nan


def _squares_about_mean(
    xy: NDArray[np.float64], group_of_label: NDArray[np.int64], num_labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the sum of `|x - mean|^2` over the labels of each group, `[g]`, in square pixels."""
    first = np.zeros(len(num_labels), np.int64)
    first[group_of_label[::-1]] = np.arange(len(xy))[::-1]
    offset = xy - xy[first][group_of_label]  # equal labels have a spread of exactly 0
    mean = np.stack([np.bincount(group_of_label, values) for values in offset.T], 1) / num_labels[:, None]
    squares = ((offset - mean[group_of_label]) ** 2).sum(1)
    return np.bincount(group_of_label, squares).astype(np.float64)
