"""The instances of a COCO file as the metrics of instances take them: per image, raw, in file order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoKeypoints


def instance_targets(
    coco: CocoKeypoints, category_id: int, allow_zero_area: bool = False
) -> dict[int, dict[str, NDArray]]:
    """Return the instances of one category for every image, in file order; an image may have none.

    Nothing is left out: crowds and people without labelled keypoints are the ignore regions of the metric.

    Args:
        coco: The file.
        category_id: The category that is scored; it has k keypoints.
        allow_zero_area: Accept labelled instances of area 0 or below, as pycocotools does.

    Returns:
        By image id, for g instances: `keypoints` float64 `[g, k, 2]` in pixels, `visibility` uint8 `[g, k]`,
        `area` float64 `[g]` in square pixels (of the file, else of the bbox), `iscrowd` bool `[g]` and
        `boxes` float64 `[g, 4]` (x, y, width, height). A box that the file lacks is NaN; so is the area of an
        ignore region (crowd or no labelled keypoint) without area and bbox.

    Raises:
        ValueError: There is no such category, a labelled instance has no area or one that is not positive, or
            `num_keypoints` contradicts the labels.
    """
    n_keypoints = len(_category(coco, category_id).keypoints)
    annotations = [annotation for annotation in coco.annotations if annotation.category_id == category_id]
    values = np.array([annotation.keypoints for annotation in annotations], np.float64)
    values = values.reshape(len(annotations), n_keypoints, 3)
    missing = [np.nan] * 4
    boxes = [missing if annotation.bbox is None else annotation.bbox for annotation in annotations]
    target = {
        "keypoints": values[..., :2],
        "visibility": values[..., 2].astype(np.uint8),
        "area": np.array([_area(annotation) for annotation in annotations], np.float64),
        "iscrowd": np.array([bool(annotation.iscrowd) for annotation in annotations], bool),
        "boxes": np.array(boxes, np.float64).reshape(-1, 4),
    }
    labelled = (target["visibility"] > 0).any(1)
    _check_counts(annotations, labelled)
    _check_areas(annotations, target["area"], labelled & ~target["iscrowd"], allow_zero_area)
    return _by_image(coco, annotations, target)


def keypoint_category(coco: CocoKeypoints) -> CocoCategory | str:
    """Return the one category whose instances have labelled keypoints, or the reason why there is not one."""
    used = {annotation.category_id for annotation in coco.annotations if _is_scored(annotation)}
    categories = [category for category in coco.categories if category.id in used]
    if not categories:
        return "OKS-AP needs instances with labelled keypoints, but the file has none"
    if len(categories) > 1:
        names = ", ".join(repr(category.name) for category in categories)
        return f"OKS-AP is defined for one category, but {len(categories)} have labelled keypoints: {names}"
    return categories[0]


def has_single_instances(coco: CocoKeypoints) -> bool:
    """Tell whether no image has two labelled instances, so that what is found in an image is one instance."""
    images = [annotation.image_id for annotation in coco.annotations if _is_scored(annotation)]
    return len(set(images)) == len(images)


def _is_scored(annotation: CocoAnnotation) -> bool:
    return not annotation.iscrowd and any(flag > 0 for flag in annotation.keypoints[2::3])


def _category(coco: CocoKeypoints, category_id: int) -> CocoCategory:
    for category in coco.categories:
        if category.id == category_id:
            return category
    known = ", ".join(f"{category.id} ({category.name!r})" for category in coco.categories)
    raise ValueError(f"expected the id of a category of the COCO file, got {category_id}; it has {known}")


def _area(annotation: CocoAnnotation) -> float:
    if annotation.area is not None:
        return annotation.area
    return np.nan if annotation.bbox is None else annotation.bbox[2] * annotation.bbox[3]


def _check_counts(annotations: Sequence[CocoAnnotation], labelled: NDArray[np.bool_]) -> None:
    """Refuse a `num_keypoints` by which COCO would ignore a labelled instance, or score an empty one."""
    wrong = [
        (annotation, has_labels)
        for annotation, has_labels in zip(annotations, labelled.tolist(), strict=True)
        if annotation.num_keypoints is not None
        and not annotation.iscrowd  # ignored whatever the count
        and (annotation.num_keypoints > 0) != has_labels
    ]
    if wrong:
        annotation, has_labels = wrong[0]
        count = sum(flag > 0 for flag in annotation.keypoints[2::3])
        verb = "ignores" if has_labels else "scores"
        raise ValueError(
            f"annotation {annotation.id}, field 'num_keypoints': expected {count}, its keypoints of "
            f"visibility 1 or 2, got {annotation.num_keypoints} ({len(wrong)} of {len(annotations)} are "
            f"wrong); COCO {verb} such an instance: correct the field or remove it"
        )


def _check_areas(
    annotations: Sequence[CocoAnnotation],
    area: NDArray[np.float64],
    scored: NDArray[np.bool_],
    allow_zero_area: bool,
) -> None:
    lacking, empty = scored & np.isnan(area), scored & (area <= 0)
    if lacking.any():
        raise ValueError(
            f"{_first_of(annotations, lacking, scored)}, field 'area': OKS expected an area in square "
            "pixels, got neither area nor bbox; add one of them to the file"
        )
    if empty.any() and not allow_zero_area:
        raise ValueError(
            f"{_first_of(annotations, empty, scored)}, field 'area': OKS expected an area above 0 square "
            f"pixels, got {area[empty][0]:g}, which only an exact prediction matches; correct the areas, or "
            "remove them to use width x height of the bbox"
        )


def _first_of(
    annotations: Sequence[CocoAnnotation], wrong: NDArray[np.bool_], scored: NDArray[np.bool_]
) -> str:
    first = annotations[int(wrong.argmax())].id
    return f"annotation {first} (the first of {wrong.sum()} in {scored.sum()} labelled ones)"


def _by_image(
    coco: CocoKeypoints, annotations: Sequence[CocoAnnotation], target: dict[str, NDArray]
) -> dict[int, dict[str, NDArray]]:
    """Cut the arrays of all instances into those of each image."""
    rows = {image.id: row for row, image in enumerate(coco.images)}
    instance_row = np.array([rows[annotation.image_id] for annotation in annotations], np.int64)
    order = np.argsort(instance_row, kind="stable")
    edges = np.searchsorted(instance_row[order], np.arange(len(rows) + 1)).tolist()
    ordered = {name: values[order] for name, values in target.items()}
    return {
        image_id: {name: values[edges[row] : edges[row + 1]] for name, values in ordered.items()}
        for image_id, row in rows.items()
    }
