"""The schema of a COCO keypoint file: read, check and write it; every error is one line that says where."""

import gc
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictInt,
    ValidationError,
    WrapValidator,
    field_serializer,
    field_validator,
)
from pydantic_core import from_json

from keypoint_detection.data.coco_parser_errors import ENTRY_KINDS, first_schema_problem
from keypoint_detection.files import write_text
from keypoint_detection.records import Instance, Keypoint

VISIBILITIES = frozenset((0.0, 1.0, 2.0))
"""COCO's flags: 0 absent, 1 occluded, 2 visible."""

# Strict, because a number in quotes is a sign of a broken export; an integer is a number too.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_PLAIN_NUMBERS = frozenset((int, float))


def _accept_plain_numbers(values: Any, check_each: Callable[[Any], list[float]]) -> list[float]:
    """Accept a list of finite numbers at once; whatever else there is is left to the check of each number."""
    if type(values) is not list or not _PLAIN_NUMBERS.issuperset(map(type, values)):
        return check_each(values)
    try:
        numbers = list(map(float, values))
    except OverflowError:
        return check_each(values)
    # One NaN or infinity spoils the sum; a sum that overflows by itself only costs the slow check.
    return numbers if math.isfinite(sum(numbers)) else check_each(values)


Numbers = Annotated[list[Number], WrapValidator(_accept_plain_numbers)]


class CocoError(ValueError):
    """Say in one line which file, which entry and which field of a COCO file is wrong."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="allow")  # fields of other tools survive reading and writing


class CocoImage(_Entry):
    """Hold one image: its id, its path relative to the COCO file, and its size in pixels."""

    id: StrictInt
    file_name: Annotated[str, Field(min_length=1)]
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


class CocoCategory(_Entry):
    """Hold one category; `skeleton` lists pairs of keypoint numbers, from 1 as COCO counts."""

    id: StrictInt
    name: str
    supercategory: str | None = ""
    keypoints: list[str] = Field(default_factory=list)
    skeleton: list[list[int]] | None = None

    @field_validator("keypoints", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value is None else value


class CocoAnnotation(_Entry):
    """Hold one instance: `keypoints` is x, y, visibility per keypoint of its category, in image pixels."""

    id: StrictInt
    image_id: StrictInt
    category_id: StrictInt
    keypoints: Numbers
    num_keypoints: int | None = None
    area: Number | None = None
    bbox: Annotated[list[Number], Field(min_length=4, max_length=4)] | None = None
    iscrowd: int | None = 0

    @field_serializer("keypoints", "bbox")
    def _write_whole_numbers_short(self, values: list[float] | None) -> list[float] | None:
        return values and [int(v) if float(v).is_integer() else v for v in values]


class CocoKeypoints(_Entry):
    """Hold a whole file; `read_coco` has checked that its entries belong together."""

    info: Any = None
    licenses: Any = None
    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]

    def keypoint_names(self) -> list[str]:
        """Return each keypoint name once, in the order of the file over all its categories."""
        return list(dict.fromkeys(name for category in self.categories for name in category.keypoints))


def read_coco(path: str | Path) -> CocoKeypoints:
    """Read and check a COCO keypoint file.

    Ids are integers. A category without keypoints is accepted only where nothing uses it and another category
    has keypoints: several tools write such a parent category beside the real one.

    Raises:
        FileNotFoundError: There is no such file.
        CocoError: The file is no JSON, lacks a field, or its entries contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"expected a COCO keypoint file (JSON) at {path}, found {found}")
    try:
        with collector_paused():
            coco = CocoKeypoints.model_validate(from_json(read_json_bytes(path)))
    except ValueError:
        coco = _parse_slowly(path)
    check_coco(coco, path)
    return coco


def read_json_bytes(path: Path) -> bytes:
    """Return the bytes of a JSON file without the byte-order mark that some Windows tools write."""
    return path.read_bytes().removeprefix(b"\xef\xbb\xbf")


def check_coco(coco: CocoKeypoints, path: str | Path) -> None:
    """Check that the entries of a file belong together; `path` is what the message calls it.

    Raises:
        CocoError: The entries contradict each other.
    """
    problems = _problems(coco)
    first = next(problems, None)
    if first is not None:
        raise CocoError(_one_line(Path(path), first, sum(1 for _ in problems)))


def write_coco(coco: CocoKeypoints, path: str | Path) -> None:
    """Check and write a COCO keypoint file atomically, one entry per line; fields never set are left out.

    Raises:
        CocoError: The entries contradict each other; nothing is written.
    """
    check_coco(coco, path)
    fields = coco.model_dump(exclude_unset=True)
    lines = ",\n".join(f"{json.dumps(name)}: {_dump(value)}" for name, value in fields.items())
    write_text(path, f"{{\n{lines}\n}}\n")


def instances_by_image(coco: CocoKeypoints) -> dict[int, list[Instance]]:
    """Return the instances of every image by image id, in file order; an image without annotations has none.

    Keypoints of visibility 0 are left out, so a person without labels is an instance without keypoints.
    """
    categories = {category.id: category for category in coco.categories}
    instances: dict[int, list[Instance]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        category = categories[annotation.category_id]
        instances[annotation.image_id].append(_instance(annotation, category))
    return instances


def _parse_slowly(path: Path) -> CocoKeypoints:
    """Parse with the check of each number, whose errors say where in the file they are."""
    content = read_json_bytes(path)
    try:
        return CocoKeypoints.model_validate_json(content)
    except ValidationError as error:
        first, others = first_schema_problem(error, content)
        raise CocoError(_one_line(path, first, others)) from None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python from searching for cycles among millions of new objects: that takes half of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _instance(annotation: CocoAnnotation, category: CocoCategory) -> Instance:
    values = annotation.keypoints
    triples = zip(category.keypoints, values[::3], values[1::3], values[2::3], strict=True)
    box = annotation.bbox
    return Instance(
        keypoints={name: Keypoint(x, y, visibility=int(flag)) for name, x, y, flag in triples if flag > 0},
        category=category.name,
        box=None if box is None else (box[0], box[1], box[2], box[3]),
        area=annotation.area,
        is_crowd=bool(annotation.iscrowd),
    )


def _dump(value: Any) -> str:
    """Return strict JSON, a list with one item per line: as small as it can be and still easy to compare."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, allow_nan=False)
    return "[\n" + ",\n".join(json.dumps(item, allow_nan=False) for item in value) + "\n]"


def _one_line(path: Path, problem: str, others: int) -> str:
    more = f" (and {others} more such problem{'s' if others > 1 else ''})" if others else ""
    return f"{path}: {problem}{more}"


def _problems(coco: CocoKeypoints) -> Iterator[str]:
    """Yield everything that contradicts itself in a file of the right form, in one pass."""
    for section, kind in ENTRY_KINDS.items():
        yield from _duplicate_ids(kind, getattr(coco, section))
    yield from _category_problems(coco)
    image_ids = {image.id for image in coco.images}
    categories = {category.id: category for category in coco.categories}
    for annotation in coco.annotations:
        problem = _annotation_problem(annotation, image_ids, categories)
        if problem is not None:
            yield f"annotation {annotation.id}, {problem}"


def _duplicate_ids(kind: str, entries: Iterable[Any]) -> Iterator[str]:
    seen: set[int] = set()
    for entry in entries:
        if entry.id in seen:
            yield f"{kind} {entry.id}, field 'id': expected ids that occur once, got this one twice"
        seen.add(entry.id)


def _category_problems(coco: CocoKeypoints) -> Iterator[str]:
    used = {annotation.category_id for annotation in coco.annotations}
    any_keypoints = any(category.keypoints for category in coco.categories)
    if not coco.categories:
        yield "field 'categories': expected at least one category with keypoints, got none"
    for category in coco.categories:
        names = category.keypoints
        label = f"category {category.id} ({category.name!r}), field 'keypoints'"
        if not names and (category.id in used or not any_keypoints):
            yield f"{label}: expected keypoint names, got none; only categories with keypoints can be learnt"
        if len(set(names)) < len(names):
            repeated = next(name for index, name in enumerate(names) if name in names[:index])
            yield f"{label}: expected names that occur once, got {repeated!r} twice"


def _annotation_problem(
    annotation: CocoAnnotation, image_ids: set[int], categories: dict[int, CocoCategory]
) -> str | None:
    if annotation.image_id not in image_ids:
        return f"field 'image_id': expected the id of an image of this file, got {annotation.image_id}"
    category = categories.get(annotation.category_id)
    if category is None:
        return (
            f"field 'category_id': expected the id of a category of this file, got {annotation.category_id}; "
            f"it has {', '.join(map(str, categories)) or 'none'}"
        )
    count, values = len(category.keypoints), annotation.keypoints
    if len(values) != 3 * count:
        return (
            f"field 'keypoints': expected {3 * count} numbers (x, y, visibility for the {count} keypoints of "
            f"category {category.name!r}), got {len(values)}"
        )
    if not VISIBILITIES.issuperset(values[2::3]):
        index = next(index for index in range(count) if values[3 * index + 2] not in VISIBILITIES)
        name, got = category.keypoints[index], values[3 * index + 2]
        return f"field 'keypoints[{3 * index + 2}]': expected visibility 0, 1 or 2 for {name!r}, got {got:g}"
    return None
