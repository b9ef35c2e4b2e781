"""Write COCO keypoints as Label Studio tasks."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.assembly import labelled_points
from keypoint_detection.data.formats.label_studio_regions import BOX_TYPE, OCCLUDED, POINT_TYPE
from keypoint_detection.data.formats.tally import count_notes
from keypoint_detection.files import write_json, write_text

TASKS_FILE, CONFIG_FILE, CATEGORIES_FILE = "tasks.json", "label_config.xml", "categories.json"
_POINT_WIDTH_PERCENT = 0.5  # how large Label Studio draws a point


def write_label_studio(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write labels as Label Studio tasks into the folder `output`.

    `tasks.json` is for the import, `label_config.xml` for the project's labelling interface, and
    `categories.json` keeps the order of the keypoints and the skeleton for the way back. Images are named as
    local files relative to `image_folder`, which is to be Label Studio's document root for local files.

    Returns:
        A note with a count for every kind of thing that the format cannot hold.

    Raises:
        ValueError: A category or keypoint has a name that a label `category.keypoint` cannot hold.
    """
    _check_names(coco)
    categories = {category.id: category for category in coco.categories}
    by_image: dict[int, list[CocoAnnotation]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        by_image[annotation.image_id].append(annotation)
    left_out: Counter[str] = Counter()
    tasks = [_task(image, by_image[image.id], categories, left_out) for image in coco.images]
    listed = [category.model_dump(exclude_unset=True) for category in coco.categories]
    write_json(output / CATEGORIES_FILE, {"categories": listed})
    write_text(output / CONFIG_FILE, _label_config(coco.categories))
    write_text(output / TASKS_FILE, json.dumps(tasks, indent=1, allow_nan=False) + "\n")
    return (
        f"Label Studio finds the images when {image_folder} is its document root for local files",
        *count_notes(left_out),
    )


def _check_names(coco: CocoKeypoints) -> None:
    names = [category.name for category in coco.categories]
    for category in coco.categories:
        if not category.name or "." in category.name or names.count(category.name) > 1:
            raise ValueError(
                f"category {category.id}: Label Studio needs names that occur once and hold no '.', got "
                f"{category.name!r}; rename it"
            )
        if "" in category.keypoints:
            raise ValueError(f"category {category.name!r}: expected keypoint names, got an empty one")


def _task(
    image: CocoImage,
    annotations: list[CocoAnnotation],
    categories: Mapping[int, CocoCategory],
    left_out: Counter[str],
) -> dict[str, Any]:
    """Return one task; instances with a box share one annotation per annotator, any other has its own."""
    results: dict[tuple[Any, int], list[dict[str, Any]]] = {}
    for annotation in annotations:
        _count_left_out(annotation, left_out)
        annotator = (annotation.model_extra or {}).get("annotator")
        has_box = _box(annotation) is not None
        regions = list(_regions(image, annotation, categories[annotation.category_id]))
        left_out["{n} instances without box and points are left out"] += not regions
        if regions:
            key = annotator if isinstance(annotator, str | int) else None
            results.setdefault((key, 0 if has_box else annotation.id), []).extend(regions)
    entries = [
        {
            "result": result,
            "was_cancelled": False,
            **({} if annotator is None else {"completed_by": annotator}),
        }
        for (annotator, _), result in results.items()
    ]
    return {
        "id": image.id,
        "data": {
            "image": f"/data/local-files/?d={quote(image.file_name)}",
            "width": image.width,
            "height": image.height,
        },
        "annotations": entries or [{"result": [], "was_cancelled": False}],
    }


def _regions(
    image: CocoImage, annotation: CocoAnnotation, category: CocoCategory
) -> Iterator[dict[str, Any]]:
    shared = {
        "to_name": "image",
        "original_width": image.width,
        "original_height": image.height,
        "image_rotation": 0,
    }
    box, box_id = _box(annotation), f"box{annotation.id}"
    if box is not None:
        x, y, width, height = box
        value = {
            "x": 100 * x / image.width,
            "y": 100 * y / image.height,
            "width": 100 * width / image.width,
            "height": 100 * height / image.height,
            "rotation": 0,
            BOX_TYPE: [category.name],
        }
        yield {"id": box_id, "type": BOX_TYPE, "from_name": "box", "value": value, **shared}
    for name, (x, y, visibility) in labelled_points(annotation, category).items():
        identity = f"point{annotation.id}-{category.keypoints.index(name)}"
        value = {
            "x": 100 * (x + 0.5) / image.width,
            "y": 100 * (y + 0.5) / image.height,
            "width": _POINT_WIDTH_PERCENT,
            POINT_TYPE: [f"{category.name}.{name}"],
        }
        note = {} if visibility == 2 else {"meta": {"text": [OCCLUDED]}}
        yield {"id": identity, "type": POINT_TYPE, "from_name": "keypoint", "value": value, **note, **shared}
        if box is not None:
            yield {"type": "relation", "from_id": identity, "to_id": box_id, "direction": "right"}


def _box(annotation: CocoAnnotation) -> list[float] | None:
    box = annotation.bbox
    return box if box is not None and box[2] > 0 and box[3] > 0 else None


def _count_left_out(annotation: CocoAnnotation, left_out: Counter[str]) -> None:
    box, area = annotation.bbox, annotation.area
    left_out["empty boxes of {n} instances are left out"] += box is not None and _box(annotation) is None
    box_area = None if box is None else box[2] * box[3]
    differs = area is not None and (box_area is None or abs(area - box_area) > 1e-6 * max(area, box_area))
    left_out["areas of {n} instances that differ from their box are left out"] += differs
    left_out["{n} crowd instances are written as others"] += bool(annotation.iscrowd)
    for name in annotation.model_extra or {}:
        left_out[f"field {name!r} of {{n}} instances is left out"] += name != "annotator"


def _label_config(categories: list[CocoCategory]) -> str:
    def labels(names: list[str]) -> str:
        return "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)

    keypoints = [f"{category.name}.{name}" for category in categories for name in category.keypoints]
    return (
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <KeyPointLabels name="keypoint" toName="image">\n{labels(keypoints)}  </KeyPointLabels>\n'
        f'  <RectangleLabels name="box" toName="image">\n'
        f"{labels([category.name for category in categories])}  </RectangleLabels>\n</View>\n"
    )
