"""Head boxes of a COCO file: those of its category `head`."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

CATEGORY = "head"


def coco_rows(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place of every head, and image, x0, y0, x1, y1 and person (the id of the annotation).

    COCO counts from the corner of an image, so half a pixel is taken off.

    Raises:
        ValueError: There is no category `head`, or an entry is broken.
    """
    heads = _heads(path, content)
    names = {}
    for index, image in enumerate(_objects(path, content, "images")):
        names[_value(f"{path}: images[{index}]", image, "id")] = _value(
            f"{path}: images[{index}]", image, "file_name"
        )
    for index, annotation in enumerate(_objects(path, content, "annotations")):
        place = f"{path}: annotations[{index}]"
        if _value(place, annotation, "category_id") not in heads:
            continue
        image = _value(place, annotation, "image_id")
        if image not in names:
            raise ValueError(f"{place}: expected image_id of an image of the file, got {image!r}")
        x, y, width, height = _box(place, annotation)
        corners = {"x0": x - 0.5, "y0": y - 0.5, "x1": x + width - 0.5, "y1": y + height - 0.5}
        yield place, {"image": names[image], "person": _person(annotation, index), **corners}


def _person(annotation: Mapping[str, Any], index: int) -> str:
    return str(annotation.get("id", f"annotation {index}"))


def _heads(path: Path, content: Mapping[str, Any]) -> set[Any]:
    """Return the ids of the category."""
    categories = _objects(path, content, "categories")
    heads = {
        _value(f"{path}: categories[{index}]", category, "id")
        for index, category in enumerate(categories)
        if str(category.get("name", "")).strip().lower() == CATEGORY
    }
    if not heads:
        listed = ", ".join(str(category.get("name")) for category in categories) or "none"
        raise ValueError(f"{path}: expected a category {CATEGORY!r} with the boxes of heads, got {listed}")
    return heads


def _objects(path: Path, content: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries = content.get(name)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path}: expected {name} as a list of objects, got {type(entries).__name__}")
    return entries


def _value(place: str, entry: Mapping[str, Any], name: str) -> Any:
    value = entry.get(name)
    if not isinstance(value, int | str):
        raise ValueError(f"{place}: expected {name} as a number or text, got {value!r:.60}")
    return value


def _box(place: str, annotation: Mapping[str, Any]) -> Sequence[float]:
    box = annotation.get("bbox")
    numbers = box if isinstance(box, list) else []
    right = [number for number in numbers if isinstance(number, int | float) and not isinstance(number, bool)]
    if len(right) != 4 or len(numbers) != 4:
        raise ValueError(f"{place}: expected bbox as x, y, width, height, got {box!r:.60}")
    return right
