"""Say which keypoints a CVAT task labels: by a category configuration, or by the labels themselves."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from xml.parsers import expat

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from keypoint_detection.data.coco_parser import CocoCategory
from keypoint_detection.data.formats.cvat_xml import XmlHeader

CONFIGURATION_NAME = "coco_category_configuration.json"
LabelSplitter = Callable[[str], tuple[str, str]]
"""Returns the category and the semantic type that the label of a point stands for."""

_Name = Annotated[StrictStr, Field(min_length=1)]


class SemanticType(BaseModel):
    """Hold one kind of keypoint: CVAT labels it `category.name`, and an instance has `n_keypoints` of it."""

    model_config = ConfigDict(extra="forbid")
    name: _Name
    n_keypoints: Annotated[StrictInt, Field(ge=1, le=1000)] = 1


class ConfiguredCategory(BaseModel):
    """Hold one category; fields beyond these become fields of the COCO category."""

    model_config = ConfigDict(extra="allow")
    name: _Name
    id: StrictInt
    supercategory: str | None = ""
    skeleton: list[list[int]] | None = None
    semantic_types: Annotated[list[SemanticType], Field(min_length=1)]


class CategoryConfiguration(BaseModel):
    """Hold a whole configuration file."""

    model_config = ConfigDict(extra="forbid")
    categories: Annotated[list[ConfiguredCategory], Field(min_length=1)]


@dataclass(frozen=True)
class KeypointCategory:
    """Hold a COCO category, and how many keypoints an instance has of each semantic type, in order."""

    category: CocoCategory
    counts: Mapping[str, int]


def keypoint_names(counts: Mapping[str, int]) -> list[str]:
    """Return the keypoints of semantic types: `neck` for one of a type, `shoulder1`, `shoulder2` for two."""
    names: list[str] = []
    for semantic_type, count in counts.items():
        numbered = [f"{semantic_type}{number}" for number in range(1, count + 1)]
        names += [semantic_type] if count == 1 else numbered
    return names


def label_splitter(header: XmlHeader, configured: list[KeypointCategory] | None) -> LabelSplitter:
    """Return the function that splits the labels of a task, which knows the configured ones.

    Any other label is split at its first dot; one without belongs to the category named after the task.
    """
    entries = [(entry.category.name, name) for entry in configured or () for name in entry.counts]
    known = {".".join(pair): pair for pair in entries}
    return lambda label: known.get(label) or _split(label, header)


def _split(label: str, header: XmlHeader) -> tuple[str, str]:
    category, dot, semantic_type = label.partition(".")
    if dot and category and semantic_type:
        return category, semantic_type
    return " ".join(header.texts.get("name", "").split()) or "object", label


def read_configuration(path: Path) -> list[KeypointCategory]:
    """Read a category configuration: categories with name, supercategory, id and semantic types.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no configuration, or two categories, types or keypoints have the same name.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a category configuration (JSON) at {path}, found no file")
    try:
        configuration = CategoryConfiguration.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = " ".join(".".join(str(part) for part in first["loc"]).split())[:200] or "the file"
        reason = " ".join(first["msg"].split())
        raise ValueError(
            f"{path}: expected a category configuration {{'categories': [{{'name', 'id', 'supercategory', "
            f"'semantic_types': [{{'name', 'n_keypoints'}}]}}]}}; {place}: {reason}"
        ) from None
    _refuse_repeated(path, "category names", [category.name for category in configuration.categories])
    _refuse_repeated(path, "category ids", [category.id for category in configuration.categories])
    entries = [_configured(path, category) for category in configuration.categories]
    labels = [f"{entry.category.name}.{name}" for entry in entries for name in entry.counts]
    _refuse_repeated(path, "labels category.type", labels)
    return entries


def categories_of_labels(
    header: XmlHeader, found: Mapping[tuple[str, str], int], where: Path
) -> list[KeypointCategory]:
    """Return the categories that the labels of a task make up, numbered from 1.

    Args:
        header: Labels that the task defines; they give the order, and those of the form `category.type` and
            the points of skeletons count even where nobody has drawn one yet.
        found: The most points that one instance has, by category and semantic type, in order of appearance.
        where: File to name in an error.
    """
    counts = _defined(header)
    for key, count in found.items():
        counts[key] = max(count, counts.get(key, 0))
    by_category: dict[str, dict[str, int]] = {}
    for (category, semantic_type), count in counts.items():
        if count:
            by_category.setdefault(category, {})[semantic_type] = count
    categories: list[KeypointCategory] = []
    for name, types in by_category.items():
        names = keypoint_names(types)
        _refuse_repeated(where, f"keypoint names in category {name!r}", names)
        category = CocoCategory(id=len(categories) + 1, name=name, supercategory="", keypoints=names)
        categories.append(KeypointCategory(category, types))
    return categories


def add_skeleton_edges(categories: Iterable[KeypointCategory], header: XmlHeader) -> list[str]:
    """Give every category without a skeleton the edges that CVAT draws; return notes on unreadable ones."""
    drawings = {label.name: label.svg for label in header.labels if label.type == "skeleton" and label.svg}
    notes: list[str] = []
    for entry in categories:
        category = entry.category
        if category.skeleton is not None or category.name not in drawings:
            continue
        edges = _svg_edges(drawings[category.name])
        if edges is None:
            notes.append(f"the drawing of skeleton {category.name!r} is no SVG; it has no edges")
            continue
        number = {name: index for index, name in enumerate(category.keypoints, start=1)}
        pairs = [[number[start], number[end]] for start, end in edges if start in number and end in number]
        if pairs:
            category.skeleton = pairs
    return notes


def _defined(header: XmlHeader) -> dict[tuple[str, str], int]:
    """Return the keypoints that a task defines, 0 where only a drawn point can tell that it is a keypoint."""
    counts: dict[tuple[str, str], int] = {}
    for label in header.labels:
        if label.parent:
            counts[label.parent, label.name] = 1
        elif label.type in ("any", "points"):
            key = _split(label.name, header)
            counts[key] = int(key[1] != label.name)
    return counts


def _configured(path: Path, entry: ConfiguredCategory) -> KeypointCategory:
    _refuse_repeated(path, f"semantic types in {entry.name!r}", [part.name for part in entry.semantic_types])
    counts = {part.name: part.n_keypoints for part in entry.semantic_types}
    names = keypoint_names(counts)
    _refuse_repeated(path, f"keypoint names in {entry.name!r}", names)
    extra: dict[str, Any] = dict(entry.model_extra or {})
    if "keypoints" in extra:
        raise ValueError(
            f"{path}: expected 'semantic_types' in category {entry.name!r}, got 'keypoints' too; remove them"
        )
    if entry.skeleton is not None:
        extra["skeleton"] = entry.skeleton
    fields = {"id": entry.id, "name": entry.name, "supercategory": entry.supercategory, "keypoints": names}
    return KeypointCategory(CocoCategory.model_validate(fields | extra), counts)


def _refuse_repeated(path: Path, what: str, names: list[Any]) -> None:
    if len(set(names)) < len(names):
        repeated = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"{path}: expected {what} that occur once, got {repeated!r} twice; rename one")


def _svg_edges(svg: str) -> list[tuple[str, str]] | None:
    """Return the edges of a skeleton as pairs of its points' names; None when the drawing is not readable.

    Args:
        svg: What CVAT draws a skeleton with: circles (`data-node-id`, `data-label-name`), and lines between
            them (`data-node-from`, `data-node-to`). Lines to circles without a name are left out.
    """
    names: dict[str, str] = {}
    lines: list[tuple[str, str]] = []

    def start(_: str, attributes: Mapping[str, str]) -> None:
        if "data-node-id" in attributes and "data-label-name" in attributes:
            names[attributes["data-node-id"]] = attributes["data-label-name"]
        elif "data-node-from" in attributes and "data-node-to" in attributes:
            lines.append((attributes["data-node-from"], attributes["data-node-to"]))

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    try:
        # wrapped in an element of its own: a document type is not well-formed there
        parser.Parse(f"<svg>{svg}</svg>", True)
    except expat.ExpatError:
        return None
    return [(names[start], names[end]) for start, end in lines if start in names and end in names]
