"""Write a corrected copy of a COCO keypoint file: all that can be mended without a look at the images."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.coco_parser import CocoError, CocoKeypoints, write_coco
from keypoint_detection.doctor_entries import (
    AnnotationEntry,
    CategoryEntry,
    ImageEntry,
    is_id,
    read_annotation,
    read_category,
    read_image,
)
from keypoint_detection.doctor_files import LabelFile, load_json
from keypoint_detection.doctor_images import image_path, read_pictures, stored_hw
from keypoint_detection.doctor_labels import InstanceTable, instance_tables, repeated_instances
from keypoint_detection.doctor_symmetry import proposed_pairs
from keypoint_detection.geometry import is_inside

_Entry = dict[str, Any]


def fix_dataset(json_path: str | Path, output: str | Path, *, workers: int | None = None) -> tuple[str, ...]:
    """Write a corrected copy of a COCO file; the images stay where they are, and the copy points to them.

    Mended are sizes (from the image files), points outside (absent from now on), visibilities,
    `num_keypoints`, areas of 0 or none (from the box, else the labelled points) and ids that occur twice
    (renumbered). Left out are images without a readable file, second entries of one file, and annotations
    that are broken, repeated, of the wrong length or without their image or category. Pairs of a left and a
    right name are declared as `symmetric_keypoints` where a category declares none.

    Args:
        json_path: The file; it is never changed.
        output: The new file, or a folder, where it gets the same name.
        workers: Threads that read images.

    Returns:
        One note per kind of change, with its count; none when there was nothing to mend.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no JSON, the output is the file itself, or what is left is no data set.
    """
    source, target = Path(json_path), Path(output)
    if target.suffix.lower() != ".json":
        target = target / source.name
    if target.resolve() == source.resolve() or (target.exists() and target.samefile(source)):
        raise ValueError(
            f"expected another place for the corrected copy than {source}, got the same; "
            "give another folder or name"
        )
    content = load_json(source)
    if isinstance(content, str):
        raise ValueError(f"{source}: {content}")
    notes: Counter[str] = Counter()
    content = {**content, **_fixed_sections(source, content, notes, workers)}
    for image in content["images"]:
        absolute = os.path.abspath(source.parent / image["file_name"])
        image["file_name"] = Path(os.path.relpath(absolute, os.path.abspath(target.parent))).as_posix()
    try:
        coco = CocoKeypoints.model_validate(content)
        write_coco(coco, target)
    except CocoError:
        raise
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:150]
        raise ValueError(
            f"{source}: expected what --fix can mend, got more: {reason}; mend it by hand"
        ) from None
    return tuple(f"{count} {text}" for text, count in notes.items())


def _fixed_sections(source: Path, content: _Entry, notes: Counter[str], workers: int | None) -> _Entry:
    entries = {
        name: _objects(content.get(name), name, notes) for name in ("images", "categories", "annotations")
    }
    labels = LabelFile(source)
    categories = _fixed_categories(entries["categories"], labels, notes)
    images, stands_for = _fixed_images(entries["images"], labels, notes, workers)
    annotations = _usable_annotations(entries["annotations"], labels, stands_for, notes)
    sizes = {image["id"]: (image["height"], image["width"]) for image in images}
    annotations = _fixed_annotations(annotations, labels, sizes, notes)
    return {"images": images, "categories": categories, "annotations": annotations}


def _objects(value: Any, section: str, notes: Counter[str]) -> list[_Entry]:
    items = value if isinstance(value, list) else []
    objects = [dict(item) for item in items if isinstance(item, dict)]
    _count(notes, f"entries of {section} that are no objects left out", len(items) - len(objects))
    return objects


def _count(notes: Counter[str], text: str, number: int = 1) -> None:
    if number:
        notes[text] += number


def _renumber(entries: list[_Entry], kind: str, notes: Counter[str]) -> None:
    """Give every entry but the first of an id a new one above all others."""
    free = 1 + max((entry["id"] for entry in entries), default=0)
    seen: set[int] = set()
    for entry in entries:
        if entry["id"] in seen:
            entry["id"], free = free, free + 1
            _count(notes, f"{kind} ids that occurred before renumbered")
        seen.add(entry["id"])


def _fixed_categories(entries: list[_Entry], labels: LabelFile, notes: Counter[str]) -> list[_Entry]:
    kept = [entry for entry in entries if isinstance(read_category(entry), CategoryEntry)]
    _count(notes, "broken categories left out", len(entries) - len(kept))
    _renumber(kept, "category", notes)
    for entry in kept:
        category = read_category(entry)
        assert isinstance(category, CategoryEntry)
        labels.categories[category.id] = category
        pairs = proposed_pairs(category)
        if pairs:
            entry["symmetric_keypoints"] = [list(pair) for pair in pairs]
            _count(notes, "pairs of a left and a right name declared as symmetric_keypoints", len(pairs))
    return kept


def _fixed_images(
    entries: list[_Entry], labels: LabelFile, notes: Counter[str], workers: int | None
) -> tuple[list[_Entry], dict[int, int]]:
    """Return the images with a readable file and their true sizes, and the id that stands for each old id."""
    usable = [entry for entry in entries if isinstance(read_image(entry), ImageEntry)]
    _count(notes, "broken image entries left out", len(entries) - len(usable))
    _renumber(usable, "image", notes)
    for entry in usable:
        image = read_image(entry)
        assert isinstance(image, ImageEntry)
        labels.images[image.id] = image
    pictures = read_pictures([labels], workers)
    kept: list[_Entry] = []
    stands_for: dict[int, int] = {}
    first_of: dict[Path, int] = {}
    for entry in usable:
        path = image_path(labels, labels.images[entry["id"]])
        picture = pictures[path]
        if picture.hw is None or picture.problem is not None:
            _count(notes, "images without a readable file left out")
        elif path in first_of:
            stands_for[entry["id"]] = first_of[path]
            _count(notes, "second entries of an image file merged into the first")
        else:
            first_of[path] = stands_for[entry["id"]] = entry["id"]
            kept.append(_with_size(entry, path, picture.hw, notes))
    labels.images = {identity: labels.images[identity] for identity in first_of.values()}
    return kept, stands_for


def _with_size(entry: _Entry, path: Path, hw: tuple[int, int], notes: Counter[str]) -> _Entry:
    given = (entry.get("height"), entry.get("width"))
    if given == hw:
        return entry
    if given == hw[::-1] and stored_hw(path) == given:  # the size alone would hide that the labels lie wrong
        _count(
            notes, "images with an EXIF rotation that their labels lack left as they are: mend them by hand"
        )
        return entry
    _count(notes, "image sizes taken from the files")
    return {**entry, "width": hw[1], "height": hw[0]}


def _usable_annotations(
    entries: list[_Entry], labels: LabelFile, stands_for: dict[int, int], notes: Counter[str]
) -> list[_Entry]:
    """Return the annotations that can be read, with ids of their own; `labels` gets them too."""
    kept = []
    for entry in entries:
        if is_id(entry.get("image_id")):
            entry["image_id"] = stands_for.get(entry["image_id"], entry["image_id"])
        read = read_annotation(entry, labels.images, labels.categories)
        if isinstance(read, AnnotationEntry):
            kept.append(entry)
        else:
            _count(notes, f"annotations left out ({read.code})")
    _renumber(kept, "annotation", notes)
    for entry in kept:
        read = read_annotation(entry, labels.images, labels.categories)
        assert isinstance(read, AnnotationEntry)
        labels.annotations.append(read)
    return kept


def _fixed_annotations(
    entries: list[_Entry], labels: LabelFile, sizes: dict[int, tuple[int, int]], notes: Counter[str]
) -> list[_Entry]:
    by_id = {entry["id"]: entry for entry in entries}
    repeated: set[int] = set()
    for table in instance_tables(labels, sizes):
        for row, identity in enumerate(table.annotation_id.tolist()):
            _fix_points(by_id[identity], table, row, notes)
            _fix_area(by_id[identity], table, row, notes)
        # points outside are gone by now, and what they hid may be the same
        if table.xy.shape[1]:
            repeated.update(table.annotation_id[[later for later, _ in repeated_instances(table)]].tolist())
    _count(notes, "repeated instances left out", len(repeated))
    return [entry for entry in entries if entry["id"] not in repeated]


def _fix_points(entry: _Entry, table: InstanceTable, row: int, notes: Counter[str]) -> None:
    """Correct the visibilities of an annotation, its points outside and their number; the table follows."""
    flags = table.visibility[row]
    wrong = ~np.isin(flags, (0.0, 1.0, 2.0))
    flags[wrong] = np.where(flags[wrong] > 0, 2.0, 0.0)
    height, width = table.image_hw[row]
    outside = (flags > 0) & ~is_inside(table.xy[row], (height, width))
    flags[outside] = 0.0
    table.xy[row, outside] = np.nan
    _count(notes, "visibilities other than 0, 1 and 2 corrected", int(wrong.sum()))
    _count(notes, "points outside their image made absent", int(outside.sum()))
    for column in np.flatnonzero(wrong | outside):
        entry["keypoints"][3 * column + 2] = int(flags[column])
        if outside[column]:
            entry["keypoints"][3 * column : 3 * column + 2] = [0, 0]
    labelled = int((flags > 0).sum())
    if entry.get("num_keypoints") is not None and entry["num_keypoints"] != labelled:
        _count(notes, "num_keypoints recounted")
        entry["num_keypoints"] = labelled


def _fix_area(entry: _Entry, table: InstanceTable, row: int, notes: Counter[str]) -> None:
    """Give an annotation with points an area above 0, and remove fields that no reader accepts."""
    for name, values in (("bbox", table.box[row]), ("area", table.area[row])):
        if entry.get(name) is not None and not np.isfinite(values).all():
            del entry[name]
            _count(notes, f"values of the field {name!r} that are no numbers left out")
    if table.area[row] > 0 or not np.isfinite(table.xy[row]).any():
        return
    area, origin = _box_area(table, row), "the box"
    if not area > 0:
        points = table.xy[row][np.isfinite(table.xy[row, :, 0])]
        area, origin = float(np.prod(np.ptp(points, axis=0))), "the points"
    if area > 0:
        entry["area"] = area
        _count(notes, f"areas of 0 or none taken from {origin}")
    else:
        entry.pop("area", None)
        _count(notes, "areas left without a value: no box, and the points span none")


def _box_area(table: InstanceTable, row: int) -> float:
    width, height = table.box[row, 2:]
    return float(width * height) if width > 0 and height > 0 else 0.0
