"""Named JSON: one instance per image, its points by name, as fractions of the image's width and height.

    {"info": "", "images": {"0": {"file_name": "a.jpg", "width": 640, "height": 480}},
     "keypoints": {"0": {"nose": [0.25, 0.5, 1]}}}

The third number is 1 for a visible point and 0 for an occluded one, whose place is known all the same. A
fraction counts from the top-left **corner** of the image, 0, to its bottom-right corner, 1:
`x_px = x * width - 0.5`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.assembly import (
    DEFAULT_CATEGORY,
    FileNames,
    Point,
    find_beside,
    labelled_points,
    make_annotation,
)
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.json_fields import (
    as_dict,
    as_list,
    as_number,
    as_size,
    as_text,
    read_json,
    shorten,
)
from keypoint_detection.data.formats.tally import count_notes
from keypoint_detection.files import write_text

NAMED_JSON_FILE = "keypoints_annotations.json"
"""Name of the file that `write_named_json` writes."""

_VISIBILITIES = {0.0: 1, 1.0: 2}  # occluded and visible, as COCO counts them
_FIELDS = ("info", "images", "keypoints")
_IMAGE_FIELDS = ("file_name", "width", "height")


def read_named_json(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read a file of named points as COCO keypoints.

    A value below 0 or above 1 cannot be a fraction of the image: its point becomes absent and a note names
    the item, the point and the value. An item whose points are all absent keeps its annotation, so that the
    image does not pass for one without an instance.

    Args:
        source: The JSON file. Images are looked for beside it and in its folder `images`.
        categories: Must be None: the file names its own points, in their order.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has another form.
    """
    if categories is not None:
        raise ValueError(f"named JSON needs no category configuration, got {categories}; leave it out")
    path = Path(source)
    content = as_dict(read_json(path, "named keypoints"), str(path))
    images = as_dict(content.get("images"), f"{path}, field 'images'")
    items = as_dict(content.get("keypoints"), f"{path}, field 'keypoints'")
    _refuse_unknown_items(path, images, items)
    notes = [f"{path}: field {name!r} is not known and left out" for name in content if name not in _FIELDS]
    instances = {key: _read_item(f"{path}, item {key!r}", points, notes) for key, points in items.items()}
    names = list(dict.fromkeys(name for points in items.values() for name in points))
    if not names:
        raise ValueError(f"{path}, field 'keypoints': expected at least one named point, got none")
    category = CocoCategory(id=1, name=DEFAULT_CATEGORY, supercategory="", keypoints=names)
    records, paths = _read_images(path, images, notes)
    annotations: list[CocoAnnotation] = []
    for key, fractions in instances.items():
        image = records[key]
        points = {name: _to_pixels(point, image) for name, point in fractions.items()}
        annotations.append(make_annotation(len(annotations) + 1, image.id, category, points))
    coco = CocoKeypoints(images=list(records.values()), categories=[category], annotations=annotations)
    if content.get("info") and isinstance(content["info"], str):
        coco.info = content["info"]
    return Conversion(coco, paths, tuple(notes))


def _refuse_unknown_items(path: Path, images: Mapping[str, Any], items: Mapping[str, Any]) -> None:
    for key in items:
        if key not in images:
            raise ValueError(
                f"{path}, item {shorten(key)}: expected an entry of 'images' for these points, got none"
            )


def _read_images(
    path: Path, images: Mapping[str, Any], notes: list[str]
) -> tuple[dict[str, CocoImage], dict[int, Path]]:
    """Return the images by key and the files of those that were found; keys that are numbers become ids."""
    names, records, paths = FileNames(), {}, {}
    keys_are_ids = all(key.isascii() and key.isdecimal() and str(int(key[:18])) == key for key in images)
    unknown: Counter[str] = Counter()
    for number, (key, value) in enumerate(images.items(), start=1):
        where = f"{path}, image {shorten(key)}"
        entry = as_dict(value, where)
        foreign_name = as_text(entry.get("file_name"), f"{where}, field 'file_name'")
        width = as_size(entry.get("width"), f"{where}, field 'width'")
        height = as_size(entry.get("height"), f"{where}, field 'height'")
        unknown.update(name for name in entry if name not in _IMAGE_FIELDS)
        identity = int(key) if keys_are_ids else number
        records[key] = CocoImage(id=identity, file_name=names.add(foreign_name), width=width, height=height)
        found = find_beside(path.parent, [foreign_name])
        if found is not None:
            paths[identity] = found
    notes.extend(f"{path}: field {name!r} of {n} images is left out" for name, n in unknown.items())
    missing = len(records) - len(paths)
    notes.extend(count_notes({f"{path}: {{n}} of {len(records)} images are not beside the file": missing}))
    return records, paths


def _read_item(where: str, value: Any, notes: list[str]) -> dict[str, tuple[float, float, int]]:
    """Return the points of one item as fractions and COCO visibility, without those outside 0..1."""
    points: dict[str, tuple[float, float, int]] = {}
    outside: dict[str, tuple[float, float]] = {}
    for name, numbers in as_dict(value, where).items():
        if numbers is None:
            continue
        place = f"{where}, point {shorten(name)}"
        triple = [as_number(number, place) for number in as_list(numbers, place)]
        if len(triple) != 3 or triple[2] not in _VISIBILITIES:
            raise ValueError(
                f"{place}: expected x, y and visibility 0 (occluded) or 1 (visible), got {numbers!r:.60}"
            )
        x, y, visible = triple
        if 0 <= x <= 1 and 0 <= y <= 1:
            points[name] = (x, y, _VISIBILITIES[visible])
        else:
            outside[name] = (x, y)
    if outside:
        notes.append(_outside_note(where, outside))
    return points


def _outside_note(where: str, outside: Mapping[str, tuple[float, float]]) -> str:
    listed = ", ".join(f"{' '.join(name.split())} ({x:.4g}, {y:.4g})" for name, (x, y) in outside.items())
    doubled = all(0 <= value <= 2 for point in outside.values() for value in point)
    hint = "; half of each would lie inside: were they doubled?" if doubled else ""
    return f"{where}: {len(outside)} points outside 0..1 are left out as absent: {listed}{hint}"


def _to_pixels(point: tuple[float, float, int], image: CocoImage) -> Point:
    x, y, visibility = point
    return x * image.width - 0.5, y * image.height - 0.5, visibility


def write_named_json(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write labels as `keypoints_annotations.json`: one category, one instance per image, points by name.

    Items are numbered from "0" in the order of the images, as readers of this format expect. File names stay
    relative to `image_folder`, except that a leading `images/` is left out.

    Returns:
        A note with a count for every kind of thing that the format cannot hold.
    """
    categories = {category.id: category for category in coco.categories}
    used = next((annotation.category_id for annotation in coco.annotations), coco.categories[0].id)
    left_out: Counter[str] = Counter()
    chosen: dict[int, CocoAnnotation] = {}
    for annotation in coco.annotations:
        if annotation.category_id != used:
            left_out[f"{{n}} instances of other categories than {categories[used].name!r} are left out"] += 1
        elif annotation.image_id in chosen:
            left_out["{n} instances are left out: an image holds one, its first"] += 1
        else:
            chosen[annotation.image_id] = annotation
    images, items = {}, {}
    for number, image in enumerate(coco.images):
        left_out["{n} images are numbered anew, from 0"] += image.id != number
        images[str(number)] = {
            "file_name": image.file_name.removeprefix("images/"),
            "width": image.width,
            "height": image.height,
        }
        if image.id in chosen:
            points = labelled_points(chosen[image.id], categories[used])
            items[str(number)] = _fractions(points, image, left_out)
    left_out.update(_fields_left_out(chosen.values(), categories[used]))
    order = list(dict.fromkeys(name for points in items.values() for name in points))
    left_out["the order of {n} keypoints of the category is not kept"] += (
        len(order) if order != categories[used].keypoints else 0
    )
    content = {"info": coco.info if isinstance(coco.info, str) else "", "images": images, "keypoints": items}
    write_text(output / NAMED_JSON_FILE, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return count_notes(left_out)


def _fractions(
    points: Mapping[str, Point], image: CocoImage, left_out: Counter[str]
) -> dict[str, tuple[float, float, int]]:
    """Return the points that lie inside the image, as fractions, with 1 for visible and 0 for occluded."""
    fractions = {}
    for name, (x, y, visibility) in points.items():
        place = (x + 0.5) / image.width, (y + 0.5) / image.height
        if all(0 <= value <= 1 for value in place):
            fractions[name] = (*place, visibility - 1)
        else:
            left_out["{n} points outside their image are left out"] += 1
    return fractions


def _fields_left_out(annotations: Any, category: CocoCategory) -> Counter[str]:
    counts: Counter[str] = Counter()
    for annotation in annotations:
        counts["boxes and areas of {n} instances are left out"] += annotation.bbox is not None
        counts["{n} crowd instances are written as others"] += bool(annotation.iscrowd)
    counts["the category name and skeleton of {n} category are left out"] += bool(
        category.skeleton or category.name != DEFAULT_CATEGORY
    )
    return counts
