"""Read a COCO keypoint file as the doctor does: keep all that can be used, report every entry that cannot."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import CocoError, read_coco, read_json_bytes
from keypoint_detection.doctor_entries import (
    SECTIONS,
    AnnotationEntry,
    CategoryEntry,
    Fault,
    ImageEntry,
    image_fault,
    is_id,
    number_fault,
    one_line,
    read_annotation,
    read_category,
    read_image,
    show,
)
from keypoint_detection.doctor_findings import Finding


@dataclass
class LabelFile:
    """Hold the usable entries of one COCO file, images and categories by id.

    `num_annotations` counts all of them, the unusable too.
    """

    path: Path
    images: dict[int, ImageEntry] = field(default_factory=dict)
    categories: dict[int, CategoryEntry] = field(default_factory=dict)
    annotations: list[AnnotationEntry] = field(default_factory=list)
    num_annotations: int = 0


def load_json(path: Path) -> dict[str, Any] | str:
    """Return the content of a COCO file, or one line that says why it is none.

    Raises:
        FileNotFoundError: There is no such file.
    """
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise FileNotFoundError(f"expected a COCO keypoint file (JSON) at {path}, found {found}")
    try:
        raw = read_json_bytes(path)
        content = json.loads(raw)
        if b"\\ud" in raw.lower():  # half of a surrogate pair is no text, and cannot be written again
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        return "expected a COCO keypoint file, got JSON that is nested too deeply; export it again"
    except ValueError as error:  # also bytes that are no text
        reason = one_line(str(error))[:120]
        return f"expected JSON, got a broken or cut file ({reason}); export it again"
    if not isinstance(content, dict):
        kind = type(content).__name__
        return (
            f"expected a JSON object with images, categories and annotations, got a {kind}; export it as COCO"
        )
    return content


def read_label_file(path: Path) -> tuple[LabelFile, list[Finding]]:
    """Read what is usable of a COCO file, and find every entry whose form or reference is wrong.

    Args:
        path: A file of any content.

    Raises:
        FileNotFoundError: There is no such file.
    """
    labels, file = LabelFile(path), str(path)
    content = load_json(path)
    if isinstance(content, str):
        return labels, [Finding("file-broken", "error", content, file=file)]
    findings = []
    entries: dict[str, list[Any]] = {}
    for section in SECTIONS:
        value = content.get(section)
        entries[section] = value if isinstance(value, list) else []
        if not isinstance(value, list):
            got = "none" if section not in content else show(value)
            message = f"expected a list in the field {section!r}, got {got}; export the file as COCO"
            findings.append(Finding("field-missing", "error", message, file=file))
    labels.num_annotations = len(entries["annotations"])
    findings += _read_entries(entries["images"], "images", read_image, labels.images, file)
    findings += _read_entries(entries["categories"], "categories", read_category, labels.categories, file)
    findings += _read_annotations(entries["annotations"], labels, file)
    return labels, findings or _refusal(path)


def _refusal(path: Path) -> list[Finding]:
    """Return what a training would still refuse in a file of usable entries, such as a skeleton."""
    try:
        read_coco(path)
    except (CocoError, RecursionError) as error:
        message = one_line(str(error)).removeprefix(f"{path}: ")
        return [Finding("field-value", "error", message, file=str(path))]
    return []


def _read_entries(
    entries: list[Any], section: str, read: Callable[[dict[str, Any]], Any], known: dict[int, Any], file: str
) -> Iterator[Finding]:
    """Fill `known` with the usable entries by id, the first of each id, and yield what is wrong."""
    kind = SECTIONS[section]
    for index, raw in enumerate(entries):
        entry = raw if isinstance(raw, dict) else {}
        used = (
            read(entry)
            if isinstance(raw, dict)
            else Fault("field-value", f"expected an object, got {show(raw)}")
        )
        fault = used if isinstance(used, Fault) else image_fault(entry) if section == "images" else None
        identity = entry.get("id") if is_id(entry.get("id")) else None
        image_id = identity if section == "images" else None
        where = f"{kind} {identity}" if identity is not None else f"{section}[{index}]"
        if fault is not None:
            yield Finding(fault.code, "error", f"{where}: {fault.message}", image_id, file=file)
        if isinstance(used, Fault):
            continue
        if used.id in known:
            yield _duplicate_id(kind, used.id, file, image_id, None)
        known.setdefault(used.id, used)


def _read_annotations(entries: list[Any], labels: LabelFile, file: str) -> Iterator[Finding]:
    """Fill `labels.annotations`, and yield what is wrong with the others."""
    seen: set[int] = set()
    for index, raw in enumerate(entries):
        entry = raw if isinstance(raw, dict) else {}
        identity = entry.get("id") if is_id(entry.get("id")) else None
        image_id = entry.get("image_id") if is_id(entry.get("image_id")) else None
        used = read_annotation(entry, labels.images, labels.categories) if isinstance(raw, dict) else None
        if identity is not None and identity in seen:
            yield _duplicate_id("annotation", identity, file, image_id, identity)
        if identity is not None:
            seen.add(identity)
        if isinstance(used, AnnotationEntry):
            labels.annotations.append(used)
            fault = number_fault(entry, used)
            if fault is not None:
                yield Finding(fault.code, "error", fault.message, image_id, identity, file)
            continue
        where = "" if identity is not None else f"annotations[{index}]: "
        fault = used or Fault("field-value", f"expected an object, got {show(raw)}")
        yield Finding(fault.code, "error", where + fault.message, image_id, identity, file)


def _duplicate_id(
    kind: str, identity: int, file: str, image_id: int | None, annotation_id: int | None
) -> Finding:
    message = f"{kind} {identity}: expected ids that occur once, got this one again; --fix renumbers it"
    return Finding("id-duplicate", "error", message, image_id, annotation_id, file)
