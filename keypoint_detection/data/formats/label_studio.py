"""Label Studio's JSON export <-> COCO keypoints.

A keypoint's label is `category.keypoint` or plain; a plain one takes its category from the rectangle it is
joined to, or else `object`. A point is visible, or occluded where its note (`meta.text`) or a choice made for
the region says `occluded`. See `label_studio_regions` for coordinates and for what makes an instance.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from keypoint_detection.data.coco_parser import CocoAnnotation, CocoCategory, CocoImage, CocoKeypoints
from keypoint_detection.data.formats.assembly import (
    FileNames,
    find_beside,
    make_annotation,
)
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.image_files import image_size_hw
from keypoint_detection.data.formats.json_fields import as_dict, as_list, as_size, as_text, read_json, shorten
from keypoint_detection.data.formats.label_studio_categories import gather_categories, read_categories
from keypoint_detection.data.formats.label_studio_export import write_label_studio
from keypoint_detection.data.formats.label_studio_regions import (
    LabelledInstance,
    image_size_of,
    read_instances,
)
from keypoint_detection.data.formats.tally import count_notes

__all__ = ["read_label_studio", "write_label_studio"]

_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")  # Label Studio puts it before the name of an upload
_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass
class _Task:
    """Hold one task of the export and where it stands, for messages."""

    where: str
    identity: Any
    image: str
    sides: tuple[Any, Any]
    annotations: list[dict[str, Any]]


def read_label_studio(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read a Label Studio JSON export as COCO keypoints.

    Where a task has several annotations, all are kept, each instance with its `annotator`. Cancelled
    annotations and predictions are left out with a note.

    Args:
        source: The JSON file. Images are looked for beside it and in its folder `images`, by their name
            with and without the prefix of an upload.
        categories: A JSON file with `categories` as COCO has them, such as `write_label_studio` writes, for
            the order of the keypoints and the skeleton; without it they stand in the order they occur in.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no such export, or points cannot be told to one instance.
    """
    path = Path(source)
    known = None if categories is None else read_categories(Path(categories))
    counts: Counter[str] = Counter()
    tasks = list(_read_tasks(path, counts))
    identities = [task.identity for task in tasks]
    has_ids = all(type(i) is int and 0 <= i < 2**53 for i in identities) and len(set(identities)) == len(
        tasks
    )
    images: list[CocoImage] = []
    paths: dict[int, Path] = {}
    found: list[tuple[int, int | str | None, LabelledInstance]] = []
    names = FileNames()
    for number, task in enumerate(tasks, start=1):
        candidates = _image_names(task.image)
        file = find_beside(path.parent, candidates)
        size = _size(task, file)
        if size is None:
            counts["{n} tasks are left out: no region, field or file tells the size of the image"] += 1
            continue
        identity = task.identity if has_ids else number
        file_name = names.add(candidates[-1])
        images.append(CocoImage(id=identity, file_name=file_name, width=size[0], height=size[1]))
        if file is not None:
            paths[identity] = file
        found.extend((identity, *labels) for labels in _instances(task, size, counts))
    counts[f"{{n}} of {len(images)} images are not beside the file"] = len(images) - len(paths)
    all_categories = gather_categories(path, [instance for _, _, instance in found], known)
    annotations = _annotations(found, all_categories, counts)
    coco = CocoKeypoints(images=images, categories=list(all_categories.values()), annotations=annotations)
    return Conversion(coco, paths, tuple(f"{path}: {note}" for note in count_notes(counts)))


def _annotations(
    found: list[tuple[int, int | str | None, LabelledInstance]],
    categories: Mapping[str, CocoCategory],
    counts: Counter[str],
) -> list[CocoAnnotation]:
    annotations: list[CocoAnnotation] = []
    for image_id, annotator, instance in found:
        category = categories.get(instance.category)
        if category is None:
            counts[f"{{n}} rectangles of {shorten(instance.category)}, without keypoints, are left out"] += 1
            continue
        annotation = make_annotation(
            len(annotations) + 1, image_id, category, instance.points, instance.box_xywh
        )
        if annotator is not None:
            annotation.__pydantic_extra__ = {"annotator": annotator}
        annotations.append(annotation)
    return annotations


def _read_tasks(path: Path, counts: Counter[str]) -> Iterator[_Task]:
    """Yield the tasks, each with its annotations that were not cancelled."""
    content = read_json(path, "a Label Studio export")
    for number, value in enumerate(as_list(content, f"{path}, a Label Studio export of tasks")):
        task = as_dict(value, f"{path}, task at position {number}")
        where = f"{path}, task {shorten(task.get('id', number))}"
        if "data" not in task:
            raise ValueError(
                f"{where}: expected the fields 'data' and 'annotations', got others; is it the JSON-MIN "
                "export? That has no relations: export as JSON"
            )
        fields = as_dict(task["data"], f"{where}, field 'data'")
        entries = task.get("annotations", task.get("completions"))  # their name before version 1.0
        annotations = [as_dict(entry, where) for entry in as_list(entries, f"{where}, field 'annotations'")]
        kept = [entry for entry in annotations if not entry.get("was_cancelled")]
        counts["{n} cancelled annotations are left out"] += len(annotations) - len(kept)
        counts["{n} tasks have several annotations: all are kept"] += len(kept) > 1
        counts["predictions of {n} tasks are left out"] += bool(task.get("predictions"))
        counts["drafts of {n} tasks are left out"] += bool(task.get("drafts"))
        if annotations and not kept:
            # without a label the image would pass for one without an instance
            counts["{n} tasks are left out: every annotation was cancelled"] += 1
        elif not annotations:
            counts["{n} tasks are left out: they have not been annotated"] += 1
        else:
            sides = fields.get("width"), fields.get("height")
            yield _Task(where, task.get("id"), _image_of(fields, where), sides, kept)


def _image_of(fields: Mapping[str, Any], where: str) -> str:
    """Return the field `image`, or the one field whose text ends like the name of an image."""
    if "image" in fields:
        return as_text(fields["image"], f"{where}, field 'data.image'")
    texts = [value for value in fields.values() if isinstance(value, str)]
    images = [text for text in texts if text.lower().endswith(_IMAGE_SUFFIXES)]
    if len(images) != 1:
        raise ValueError(f"{where}: expected one image in 'data', got {len(images)}; name its field 'image'")
    return images[0]


def _image_names(image: str) -> list[str]:
    """Return the paths that an image may have beside the export, the last being the one for its new name.

    An upload, `/data/upload/1/0123abcd-name.jpg`, gives its name with and without prefix; a local file,
    `/data/local-files/?d=folder/name.jpg`, its path; an address its last part.
    """
    try:
        parts = urlsplit(image)
        local = parse_qs(parts.query).get("d") if parts.path.rstrip("/").endswith("local-files") else None
    except ValueError:  # what only looks like an address
        return [image]
    if local:
        return [local[0]]
    if "/upload/" in parts.path or parts.scheme:
        name = unquote(parts.path.rstrip("/").rsplit("/", 1)[-1]) or image
        return [name, _UPLOAD_PREFIX.sub("", name)]
    return [image]


def _size(task: _Task, file: Path | None) -> tuple[int, int] | None:
    """Return width and height: what the regions say, else the fields of the task, else the file."""
    results = [_result(entry, task.where) for entry in task.annotations]
    size = image_size_of([item for result in results for item in result], task.where)
    if size is None and None not in task.sides:
        width, height = task.sides
        return as_size(width, f"{task.where}, field 'data.width'"), as_size(
            height, f"{task.where}, field 'data.height'"
        )
    if size is None and file is not None and (size_hw := image_size_hw(file)) is not None:
        return size_hw[1], size_hw[0]
    return size


def _instances(
    task: _Task, size: tuple[int, int], counts: Counter[str]
) -> Iterator[tuple[int | str | None, LabelledInstance]]:
    for entry in task.annotations:
        for instance in read_instances(_result(entry, task.where), task.where, size, counts):
            yield _annotator(entry.get("completed_by")), instance


def _result(entry: Mapping[str, Any], where: str) -> list[Any]:
    return as_list(entry.get("result"), f"{where}, field 'result'")


def _annotator(value: Any) -> int | str | None:
    """Return who made an annotation: a number or a text, or the e-mail address of a whole profile."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return value if isinstance(value, str) or type(value) is int else None
