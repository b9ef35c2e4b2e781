"""Read one entry of a COCO keypoint file as the doctor does: what can be used, or what is wrong with it."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.repeated_labels import ANNOTATOR_FIELD, OBJECT_FIELD
from keypoint_detection.data.symmetry import FIELDS

SECTIONS = {"images": "image", "categories": "category", "annotations": "annotation"}
LARGEST_NUMBER = 1e9
"""Coordinates and areas beyond this size are taken as this: squares of them stay finite."""
_REQUIRED = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "keypoints"),
}
_MEND_EXPORT = "correct the export, or let --fix leave it out"


class ImageEntry(NamedTuple):
    """Hold an image entry; `hw` is height and width in pixels, None where the fields are wrong."""

    id: int
    file_name: str
    hw: tuple[int, int] | None


class CategoryEntry(NamedTuple):
    """Hold a category entry; `symmetries` are the fields of `data.symmetry` as the file has them."""

    id: int
    name: str
    keypoints: tuple[str, ...]
    symmetries: Mapping[str, Any] = {}


class AnnotationEntry(NamedTuple):
    """Hold an annotation of a known image and category; what a number field lacks is NaN.

    `xyv` is `[k, 3]` and finite: x and y in pixels, and the visibility as the file has it. `box` is `[4]`.
    """

    id: int
    image_id: int
    category_id: int
    xyv: NDArray[np.float64]
    area: float
    box: tuple[float, ...]
    num_keypoints: float
    is_crowd: bool
    is_repeat: bool


class Fault(NamedTuple):
    """Say what is wrong with an entry: the code of the finding, and its message."""

    code: str
    message: str


def show(value: Any) -> str:
    """Return a value of a file as short text of one line."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def one_line(text: str) -> str:
    """Return a message as one line that any terminal and any file takes."""
    text = " ".join(text.split())
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def is_id(value: Any) -> bool:
    """Tell whether a value of a file can be an id."""
    return type(value) is int and abs(value) < 2**62


def is_pixels(value: Any) -> bool:
    """Tell whether a value of a file can be the width or height of an image."""
    return type(value) is int and 0 < value < 2**31


def read_image(entry: dict[str, Any]) -> ImageEntry | Fault:
    """Return an image entry, or what is wrong with it."""
    fault = _missing(entry, "images")
    identity, name = entry.get("id"), entry.get("file_name")
    if not is_id(identity) or not isinstance(name, str) or not name.strip("/."):
        return fault or Fault(
            "field-value",
            f"expected a whole number as id and a file name, got {show(identity)} and {show(name)}; "
            f"{_MEND_EXPORT}",
        )
    width, height = entry.get("width"), entry.get("height")
    hw = (height, width) if is_pixels(width) and is_pixels(height) else None
    return ImageEntry(identity, name, hw)  # type: ignore[arg-type]


def image_fault(entry: dict[str, Any]) -> Fault | None:
    """Return what is wrong with the size fields of an image entry that can be used."""
    fault = _missing(entry, "images")
    width, height = entry.get("width"), entry.get("height")
    if fault or (is_pixels(width) and is_pixels(height)):
        return fault
    return Fault(
        "field-value",
        f"expected width and height in whole pixels, got {show(width)} and {show(height)}; "
        "correct them (--fix takes them from the file)",
    )


def read_category(entry: dict[str, Any]) -> CategoryEntry | Fault:
    """Return a category entry, or what is wrong with it."""
    fault = _missing(entry, "categories")
    identity, names = entry.get("id"), entry.get("keypoints")
    names = [] if names is None else names
    if fault or not is_id(identity):
        return fault or Fault(
            "field-value", f"expected a whole number as id, got {show(identity)}; {_MEND_EXPORT}"
        )
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return Fault(
            "field-value", f"expected a list of keypoint names, got {show(names)}; write the names as text"
        )
    if len(set(names)) < len(names):
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        return Fault("field-value", f"expected keypoint names that occur once, got {show(repeated)} twice")
    symmetries = {field: entry[field] for field in FIELDS if entry.get(field) is not None}
    return CategoryEntry(identity, show(entry["name"]), tuple(names), symmetries)  # type: ignore[arg-type]


def read_annotation(
    entry: dict[str, Any], images: Mapping[int, Any], categories: Mapping[int, CategoryEntry]
) -> AnnotationEntry | Fault:
    """Return an annotation entry, or the first thing that makes it unusable."""
    fault = _missing(entry, "annotations") or _reference_fault(entry, images, categories)
    if fault:
        return fault
    category, values = categories[entry["category_id"]], entry["keypoints"]
    if not isinstance(values, list) or len(values) != 3 * len(category.keypoints):
        return Fault(
            "keypoint-count",
            f"field 'keypoints': expected {3 * len(category.keypoints)} numbers (x, y, visibility for the "
            f"{len(category.keypoints)} names of category {category.name}), got {_length(values)}; "
            f"{_MEND_EXPORT}",
        )
    xyv = _finite_numbers(values)
    if xyv is None:
        return Fault(
            "field-value",
            "field 'keypoints': expected finite numbers, got text, null, NaN or a number beyond all bounds; "
            f"{_MEND_EXPORT}",
        )
    box = entry.get("bbox")
    numbers = _finite_numbers(box) if isinstance(box, list) and len(box) == 4 else None
    xyv = xyv.reshape(-1, 3)
    is_repeat = OBJECT_FIELD in entry or ANNOTATOR_FIELD in entry
    box = (math.nan,) * 4 if numbers is None else tuple(numbers.tolist())
    return AnnotationEntry(
        entry["id"],
        entry["image_id"],
        entry["category_id"],
        xyv,
        _number(entry.get("area")),
        box,
        _number(entry.get("num_keypoints")),
        entry.get("iscrowd") == 1,
        is_repeat,
    )


def number_fault(entry: dict[str, Any], used: AnnotationEntry) -> Fault | None:
    """Return which number field of an annotation that can be used holds no number."""
    fields = (("area", used.area), ("bbox", used.box[0]), ("num_keypoints", used.num_keypoints))
    for name, value in fields:
        if math.isnan(value) and entry.get(name) is not None:
            expected = "four finite numbers" if name == "bbox" else "a finite number"
            return Fault(
                "field-value",
                f"field {name!r}: expected {expected}, got {show(entry[name])}; correct it or "
                "leave it out (--fix does)",
            )
    return None


def _missing(entry: dict[str, Any], section: str) -> Fault | None:
    missing = [name for name in _REQUIRED[section] if entry.get(name) is None]
    if not missing:
        return None
    return Fault(
        "field-missing",
        f"expected the fields {', '.join(_REQUIRED[section])}, got no {', '.join(missing)}; {_MEND_EXPORT}",
    )


def _reference_fault(
    entry: dict[str, Any], images: Mapping[int, Any], categories: Mapping[int, CategoryEntry]
) -> Fault | None:
    if not is_id(entry["id"]):
        return Fault("field-value", f"expected a whole number as id, got {show(entry['id'])}; {_MEND_EXPORT}")
    for field_name, code, known in (
        ("image_id", "image-reference", images),
        ("category_id", "category-reference", categories),
    ):
        value = entry[field_name]
        if not is_id(value) or value not in known:
            kind = "images" if field_name == "image_id" else "categories"
            return Fault(
                code,
                f"field {field_name!r}: expected the id of one of the {len(known)} usable {kind} "
                f"of this file, got {show(value)}; {_MEND_EXPORT}",
            )
    return None


def _length(values: Any) -> str:
    return str(len(values)) if isinstance(values, list) else show(values)


def _finite_numbers(values: list[Any]) -> NDArray[np.float64] | None:
    if not {*map(type, values)} <= {int, float}:  # text and true are no numbers, whatever they look like
        return None
    try:
        numbers = np.array(values, np.float64)
    except OverflowError:
        return None
    return np.clip(numbers, -LARGEST_NUMBER, LARGEST_NUMBER) if np.isfinite(numbers).all() else None


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return min(max(number, -LARGEST_NUMBER), LARGEST_NUMBER) if math.isfinite(number) else math.nan
