"""The categories of a Label Studio export: those a file declares, or those that its labels name."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keypoint_detection.data.coco_parser import CocoCategory
from keypoint_detection.data.formats.json_fields import as_dict, as_list, read_json, shorten
from keypoint_detection.data.formats.label_studio_regions import LabelledInstance


def read_categories(path: Path) -> dict[str, CocoCategory]:
    """Return the categories of a JSON file by name, each with its keypoints in order.

    Raises:
        ValueError: The file has no list `categories` as a COCO file has it, or names twice.
    """
    content = as_dict(read_json(path, "a category configuration"), str(path))
    categories: dict[str, CocoCategory] = {}
    for number, value in enumerate(as_list(content.get("categories"), f"{path}, field 'categories'")):
        where = f"{path}, category at position {number}"
        category = _category(as_dict(value, where), where)
        if category.name in categories or category.id in {other.id for other in categories.values()}:
            raise ValueError(f"{where}: expected names and ids that occur once, got {category.name!r} again")
        if not category.keypoints or len(set(category.keypoints)) < len(category.keypoints):
            raise ValueError(f"{where}: expected 'keypoints' with names that occur once")
        categories[category.name] = category
    return categories


def _category(entry: Mapping[str, Any], where: str) -> CocoCategory:
    try:
        return CocoCategory.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}, field {place!r}: {first['msg']}, got {shorten(first['input'])}") from None


def gather_categories(
    path: Path, instances: Iterable[LabelledInstance], known: Mapping[str, CocoCategory] | None
) -> dict[str, CocoCategory]:
    """Return the categories by name: the known ones, or those that occur, with keypoints as they occur.

    Raises:
        ValueError: A label is none of the known ones, or there is no keypoint at all.
    """
    names: dict[str, dict[str, None]] = {}
    for instance in instances:
        names.setdefault(instance.category, {}).update(dict.fromkeys(instance.points))
    if known is None:
        with_points = {name: list(points) for name, points in names.items() if points}
        if not with_points:
            raise ValueError(f"{path}: expected at least one region of type 'keypointlabels', got none")
        return {
            name: CocoCategory(id=number, name=name, supercategory="", keypoints=points)
            for number, (name, points) in enumerate(with_points.items(), start=1)
        }
    if not known:
        raise ValueError(f"{path}: expected at least one category in the category configuration, got none")
    for name, points in names.items():
        if points and name not in known:
            listed = ", ".join(shorten(category) for category in known)
            raise ValueError(f"{path}: expected one of the categories {listed}, got {shorten(name)}")
        unknown = next((point for point in points if point not in known[name].keypoints), None)
        if unknown is not None:
            raise ValueError(f"{path}: expected a keypoint of {shorten(name)}, got {shorten(unknown)}")
    return dict(known)
