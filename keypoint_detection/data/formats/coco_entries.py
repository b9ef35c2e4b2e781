"""Put one category or one annotation of a COCO file into its right form, and count what was changed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from keypoint_detection.data.formats.coco_identities import Identities, as_integer
from keypoint_detection.data.formats.json_fields import as_list, as_number, shorten
from keypoint_detection.data.formats.tally import Tally

_PLAIN_NUMBERS = frozenset((int, float))
_HUGE = 1e300  # a whole number above it may be no float any more


@dataclass(frozen=True)
class Categories:
    """Hold what annotations refer to: images and categories by id."""

    images: Identities
    classes: Identities
    by_id: Mapping[int, dict[str, Any]]


def clean_category(entry: dict[str, Any], identity: int, where: str, tally: Tally) -> dict[str, Any]:
    """Return a category with a name, keypoint names as text and a skeleton of pairs of whole numbers."""
    cleaned = {**entry, "id": identity}
    if not isinstance(entry.get("name"), str):
        cleaned["name"] = str(entry["name"]) if isinstance(entry.get("name"), int) else f"category{identity}"
        tally.add("categories without a name", f"{where} is {cleaned['name']!r}")
    names = as_list(entry.get("keypoints") or [], f"{where}, field 'keypoints'")
    for index, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, str | int):
            raise ValueError(f"{where}, field 'keypoints[{index}]': expected a name, got {shorten(name)}")
    cleaned["keypoints"] = [str(name) for name in names]
    bones = entry.get("skeleton")
    if bones is not None and not _is_skeleton(bones):
        del cleaned["skeleton"]
        tally.add("skeletons that are no pairs of keypoint numbers, which are left out", where)
    if not isinstance(entry.get("supercategory", ""), str | None):
        cleaned["supercategory"] = ""
        tally.add("supercategories that are no text, which are left out", where)
    return cleaned


def clean_annotation(
    entry: dict[str, Any], identity: int, context: Categories, where: str, tally: Tally
) -> dict[str, Any] | None:
    """Return an annotation in the right form, or None where it belongs to nothing or holds no keypoints."""
    image_id = context.images.find(entry.get("image_id"))
    category_id = context.classes.find(entry.get("category_id"))
    category = None if category_id is None else context.by_id[category_id]
    if image_id is None or category is None:
        lacking = "an image" if image_id is None else "a category"
        tally.add(f"annotations of {lacking} that the file does not hold, which are left out", where)
        return None
    if not category["keypoints"] or not entry.get("keypoints"):
        tally.add("annotations without keypoints, which are left out", where)
        return None
    values = _keypoints(as_list(entry["keypoints"], f"{where}, field 'keypoints'"), where, tally)
    cleaned = {
        **entry,
        "id": identity,
        "image_id": image_id,
        "category_id": category["id"],
        "keypoints": values,
        "num_keypoints": sum(flag > 0 for flag in values[2::3]),
        "iscrowd": _crowd_flag(entry.get("iscrowd"), where, tally),
    }
    if entry.get("num_keypoints") != cleaned["num_keypoints"]:
        change = f"{shorten(entry.get('num_keypoints'))} is {cleaned['num_keypoints']}"
        tally.add("numbers of keypoints that are counted anew", f"{where}: {change}")
    _clean_box(cleaned, where, tally)
    return cleaned


def _is_skeleton(bones: Any) -> bool:
    return isinstance(bones, list) and all(
        isinstance(bone, list) and len(bone) == 2 and all(type(end) is int for end in bone) for bone in bones
    )


def _crowd_flag(value: Any, where: str, tally: Tally) -> int:
    flag = int(value) if isinstance(value, bool) else as_integer(value)
    if flag not in (0, 1):
        tally.add("annotations without the mark of a crowd, which are none", where)
        return 0
    return flag


def _keypoints(values: list[Any], where: str, tally: Tally) -> list[float]:
    """Return x, y, visibility per keypoint; a point without a number is absent."""
    if all(isinstance(value, list) for value in values):
        values = list(chain.from_iterable(values))
        tally.add("lists of keypoints in lists, which are joined", where)
    # There is no NaN among them: the file is read with null in its place.
    if (
        _PLAIN_NUMBERS.issuperset(map(type, values))
        and values
        and -_HUGE < min(values) <= max(values) < _HUGE
    ):
        return values
    numbers = [_number(value, f"{where}, field 'keypoints[{index}]'") for index, value in enumerate(values)]
    if any(isinstance(value, str) for value in values):
        tally.add("keypoints with numbers written as text", where)
    for start in range(0, len(numbers) - 2, 3):
        triple = numbers[start : start + 3]
        if not all(map(math.isfinite, triple)):
            numbers[start : start + 3] = [0.0, 0.0, 0.0]
            if triple[2] != 0:
                tally.add(
                    "points without finite numbers, which are absent", f"{where}, keypoint {start // 3}"
                )
    return numbers


def _number(value: Any, where: str) -> float:
    """Return a number, NaN for none; a text must hold one."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return math.nan
    if not isinstance(value, str):
        return as_number(value, where)
    try:
        return float(value)
    except ValueError:
        return as_number(value, where)


def _clean_box(cleaned: dict[str, Any], where: str, tally: Tally) -> None:
    """Keep a box of four finite numbers, and see to an area above 0: the box's where there is none."""
    box = cleaned.get("bbox")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        del cleaned["bbox"]
        box = None
        tally.add("boxes that are not four numbers, which are left out", where)
    area: Any = cleaned.get("area")
    if _is_finite(area) and area > 0:
        return
    cleaned.pop("area", None)
    if box is not None and _is_finite(box[2] * box[3]) and box[2] > 0 and box[3] > 0:
        cleaned["area"] = box[2] * box[3]
        tally.add("areas that are missing or 0, which become the box's", where)
    elif area is not None:
        tally.add("areas that are no number above 0, which are left out", where)


def _is_finite(value: Any) -> bool:
    return type(value) in _PLAIN_NUMBERS and abs(value) < _HUGE
