"""One annotation of a Label Studio task: its regions, and how points and rectangles belong together.

Label Studio counts in percent of the image from its top-left **corner**: `x_px = x / 100 * width - 0.5` for a
point; a box counts from the corner in COCO too.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from keypoint_detection.data.formats.assembly import DEFAULT_CATEGORY, Point
from keypoint_detection.data.formats.json_fields import as_dict, as_list, as_number, as_size, as_text, shorten

OCCLUDED = "occluded"
"""The word that marks a point as occluded, as a region's note (`meta.text`) or as a choice made for it."""

POINT_TYPE, BOX_TYPE = "keypointlabels", "rectanglelabels"
_RELATION_TYPE, _CHOICES_TYPE = "relation", "choices"


@dataclass
class Region:
    """Hold one labelled point or rectangle.

    Attributes:
        label: The label as it is drawn.
        point: Its place, for a point.
        box_xywh: Pixels from the corner of the image, for a rectangle.
    """

    label: str
    point: Point | None = None
    box_xywh: tuple[float, float, float, float] | None = None


@dataclass
class LabelledInstance:
    """Hold what belongs to one object: its category, its points by name, and its box where it has one."""

    category: str
    points: dict[str, Point] = field(default_factory=dict)
    box_xywh: tuple[float, float, float, float] | None = None


def image_size_of(result: Iterable[Any], where: str) -> tuple[int, int] | None:
    """Return the width and height of the image that the regions name, or None if none does."""
    found: tuple[int, int] | None = None
    for item in result:
        entry = as_dict(item, where)
        if entry.get("type") not in (POINT_TYPE, BOX_TYPE):
            continue
        size = (
            as_size(entry.get("original_width"), f"{where}, field 'original_width'"),
            as_size(entry.get("original_height"), f"{where}, field 'original_height'"),
        )
        if found not in (None, size):
            raise ValueError(f"{where}: expected one size of the image, got {found} and {size}")
        if entry.get("image_rotation"):
            turn = shorten(entry["image_rotation"])
            raise ValueError(f"{where}: expected an image that is not turned, got image_rotation {turn}")
        found = size
    return found


def read_instances(
    result: Sequence[Any], where: str, size: tuple[int, int], counts: Counter[str]
) -> list[LabelledInstance]:
    """Return the instances of one annotation.

    Points and rectangles that are joined by relations or by `parentID` are one instance. The points that
    nothing joins belong to the only rectangle if no point is joined to that; otherwise those of one category
    are one instance, so their names must differ.

    Args:
        result: The annotation's `result`.
        where: Its place, for messages.
        size: Width and height of the image in pixels.
        counts: Notes and how often each applies; what is left out is added.
    """
    regions, links = _read_regions(result, where, size, counts)
    groups, rest = _join(regions, links, counts)
    boxes = [group for group in groups if any(regions[index].box_xywh for index in group)]
    if len(boxes) == 1 and len(boxes[0]) == 1 and rest:
        boxes[0].extend(rest)
        rest = []
    by_category: dict[str, list[str]] = {}
    for index in rest:
        by_category.setdefault(split_label(regions[index].label)[0], []).append(index)
    return [
        _instance([regions[index] for index in group], where) for group in [*groups, *by_category.values()]
    ]


def split_label(label: str) -> tuple[str, str]:
    """Return category and keypoint of a label `category.keypoint`; the category of a plain label is empty."""
    category, _, name = label.partition(".")
    return (category, name) if category and name else ("", label)


def _read_regions(
    result: Sequence[Any], where: str, size: tuple[int, int], counts: Counter[str]
) -> tuple[dict[str, Region], list[tuple[str, str]]]:
    """Return the regions by id, and the pairs of ids that are joined."""
    regions: dict[str, Region] = {}
    links: list[tuple[str, str]] = []
    occluded: set[str] = set()
    for number, item in enumerate(result):
        entry = as_dict(item, where)
        kind, identity = entry.get("type"), _text_or(entry.get("id"), f"#{number}")
        if kind == _RELATION_TYPE:
            links.append((_text_or(entry.get("from_id"), ""), _text_or(entry.get("to_id"), "")))
        elif kind in (POINT_TYPE, BOX_TYPE):
            if identity in regions:
                raise ValueError(f"{where}: expected ids that occur once, got {shorten(identity)} twice")
            _add_region(
                regions, identity, _read_region(entry, f"{where}, region {identity!r:.40}", size), counts
            )
            links.extend((parent, identity) for parent in [entry.get("parentID")] if isinstance(parent, str))
        elif kind == _CHOICES_TYPE and _says_occluded(entry.get("value"), _CHOICES_TYPE):
            occluded.add(identity)
        else:
            counts[f"{{n}} results of type {shorten(kind)} are not understood and left out"] += 1
    _mark_occluded(regions, occluded)
    return regions, links


def _add_region(
    regions: dict[str, Region], identity: str, region: Region | None, counts: Counter[str]
) -> None:
    if region is None:
        counts["{n} regions without a label are left out"] += 1
    else:
        regions[identity] = region


def _mark_occluded(regions: Mapping[str, Region], identities: set[str]) -> None:
    for region in (regions[identity] for identity in identities & regions.keys()):
        if region.point is not None:
            region.point = (region.point[0], region.point[1], 1)


def _read_region(entry: Mapping[str, Any], where: str, size: tuple[int, int]) -> Region | None:
    value = as_dict(entry.get("value"), f"{where}, field 'value'")
    labels = value.get(entry["type"])
    if not labels:
        return None
    if len(as_list(labels, where)) != 1:
        raise ValueError(f"{where}: expected one label, got {len(labels)}")
    label = as_text(labels[0], f"{where}, field {entry['type']!r}")
    width, height = size

    def pixels(name: str, side: int) -> float:
        # divided last: whole percentages of round sizes stay exact
        return as_number(value.get(name), f"{where}, field {name!r}") * side / 100

    x, y = pixels("x", width), pixels("y", height)
    if entry["type"] == POINT_TYPE:
        return Region(label, point=(x - 0.5, y - 0.5, 1 if _says_occluded(entry.get("meta"), "text") else 2))
    degrees = as_number(value.get("rotation") or 0, f"{where}, field 'rotation'")
    return Region(
        label, box_xywh=_envelope((x, y, pixels("width", width), pixels("height", height)), degrees)
    )


def _envelope(box: tuple[float, float, float, float], degrees: float) -> tuple[float, float, float, float]:
    """Return the upright box around a box that is turned clockwise about its top-left corner."""
    if degrees == 0:
        return box
    x, y, width, height = box
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    columns = [0.0, width * cosine, -height * sine, width * cosine - height * sine]
    rows = [0.0, width * sine, height * cosine, width * sine + height * cosine]
    return x + min(columns), y + min(rows), max(columns) - min(columns), max(rows) - min(rows)


def _text_or(value: Any, default: str) -> str:
    return value if isinstance(value, str) else default


def _says_occluded(holder: Any, name: str) -> bool:
    words = holder.get(name) if isinstance(holder, dict) else None
    words = [words] if isinstance(words, str) else words
    return isinstance(words, list) and any(
        isinstance(word, str) and word.strip().lower() == OCCLUDED for word in words
    )


def _join(
    regions: Mapping[str, Region], links: Iterable[tuple[str, str]], counts: Counter[str]
) -> tuple[list[list[str]], list[str]]:
    """Return the groups of regions that are joined, a rectangle being one by itself, and all other points."""
    group_of = {identity: [identity] for identity in regions}
    for first, second in links:
        if first not in regions or second not in regions:
            counts["{n} relations with regions that are not understood are left out"] += 1
            continue
        ours, theirs = group_of[first], group_of[second]
        if ours is not theirs:
            ours.extend(theirs)
            group_of.update(dict.fromkeys(theirs, ours))
    position = {identity: number for number, identity in enumerate(regions)}
    distinct = {id(group): group for group in group_of.values()}.values()
    groups = [sorted(group, key=position.__getitem__) for group in distinct]
    joined = [group for group in groups if len(group) > 1 or regions[group[0]].box_xywh]
    return joined, [group[0] for group in groups if len(group) == 1 and not regions[group[0]].box_xywh]


def _instance(group: Sequence[Region], where: str) -> LabelledInstance:
    boxes = [region for region in group if region.box_xywh]
    if len(boxes) > 1:
        raise ValueError(f"{where}: expected points that are joined to one rectangle, got {len(boxes)}")
    points: dict[str, Point] = {}
    categories = {box.label for box in boxes}
    for region in group:
        if region.point is None:
            continue
        category, name = split_label(region.label)
        if name in points:
            raise ValueError(
                f"{where}: expected each keypoint once per instance, got {shorten(name)} twice; draw a "
                "rectangle per instance and join its points to it by relations"
            )
        points[name] = region.point
        categories |= {category} - {""}
    if len(categories) > 1:
        named = " and ".join(shorten(name) for name in sorted(categories))
        raise ValueError(f"{where}: expected one category per instance, got {named}")
    box = boxes[0].box_xywh if boxes else None
    return LabelledInstance(next(iter(categories), DEFAULT_CATEGORY), points, box)
