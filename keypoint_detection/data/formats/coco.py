"""Read any COCO keypoint file, put right what is no more than form, and say what that was."""

import json
import os
import re
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keypoint_detection.data.coco_parser import CocoKeypoints, check_coco, collector_paused, write_coco
from keypoint_detection.data.coco_parser_errors import first_schema_problem
from keypoint_detection.data.formats.assembly import FileNames
from keypoint_detection.data.formats.coco_entries import Categories, clean_annotation, clean_category
from keypoint_detection.data.formats.coco_identities import Identities
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.image_files import copy_files, image_sizes_hw
from keypoint_detection.data.formats.json_fields import as_dict, as_list, as_size, as_text
from keypoint_detection.data.formats.tally import Tally

COCO_FILE = "annotations.json"
_HUGE_EXPONENT = re.compile(r"[eE]\+?\d{3}")


def read_coco_labels(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read a COCO file and normalise it.

    Ids are kept where they are whole numbers that occur once. File names become `images/...`, the number of
    labelled points is counted, a missing area is the box's, and annotations that hold no keypoints or belong
    to nothing are left out; a note says how often each was done. What contradicts itself is an error.

    Args:
        source: The JSON file. Images are looked for beside it and in its folder `images`.
        categories: Must be None: the file holds its categories.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no COCO keypoint file; one line that names the entry and the field.
    """
    if categories is not None:
        raise ValueError(f"coco needs no category configuration, got {categories}; leave it out")
    with collector_paused():
        return _read(Path(source), Tally())


def _read(path: Path, tally: Tally) -> Conversion:
    content = _load(path, tally)
    raw = {name: _entries(content, name, path) for name in ("images", "categories", "annotations")}
    images = Identities(raw["images"], "image", tally)
    classes = Identities(raw["categories"], "category", tally)
    records, paths = _images(path, raw["images"], images, tally)
    kinds = [
        clean_category(entry, classes.own[index], f"{path}, categories[{index}]", tally)
        for index, entry in enumerate(raw["categories"])
    ]
    context = Categories(images, classes, {kind["id"]: kind for kind in kinds})
    own = Identities(raw["annotations"], "annotation", tally, unique=True).own
    cleaned = (
        clean_annotation(entry, identity, context, f"{path}, annotation {identity}", tally)
        for entry, identity in zip(raw["annotations"], own, strict=True)
    )
    fields = {**content, "images": records, "categories": kinds, "annotations": [a for a in cleaned if a]}
    coco = _checked(fields, path)
    return Conversion(coco, paths, tally.notes())


def write_coco_labels(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write `annotations.json` and copies of the images in `images/`, the COCO file last.

    Args:
        coco: The labels; they stay as they are, but for the file names of the copies.
        image_folder: Folder that the file names are relative to.
        output: Folder of the data set; files of the same names are replaced.

    Returns:
        A note on images that are missing, and one on file names that changed.
    """
    check_coco(coco, output / COCO_FILE)
    tally, names, pairs, images = Tally(), FileNames(), [], []
    for image in coco.images:
        original = image_folder / image.file_name
        name = names.add(image.file_name)
        if os.path.isfile(original):
            pairs.append((original, output / name))
        else:
            tally.add("images that are missing, so that only their labels are written", image.file_name)
        if name != image.file_name:
            tally.add("images with another file name", f"{image.file_name} is {name}")
        images.append(image.model_copy(update={"file_name": name}))
    copy_files(pairs)
    write_coco(coco.model_copy(update={"images": images}), output / COCO_FILE)
    return tally.notes()


def _load(path: Path, tally: Tally) -> dict[str, Any]:
    """Return the content of the file; NaN and infinity, which many tools write, become null."""
    if not os.path.isfile(path):
        found = "a folder; give the JSON file itself" if os.path.isdir(path) else "nothing"
        raise FileNotFoundError(f"expected a COCO keypoint file (JSON) at {path}, found {found}")

    def note_null(constant: str) -> None:
        tally.add("numbers that are not finite, which become null", constant)

    try:
        text = path.read_bytes().decode("utf-8-sig")
        content = json.loads(text, parse_constant=note_null)
        if _HUGE_EXPONENT.search(text):
            json.dumps(content, allow_nan=False)  # 1e999 is read as infinity, which could not be written
    except RecursionError:
        raise ValueError(
            f"{path}: expected a COCO keypoint file, got JSON that is nested too deeply"
        ) from None
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a COCO keypoint file as JSON in UTF-8; {reason}") from None
    return as_dict(content, str(path))


def _entries(content: dict[str, Any], name: str, path: Path) -> list[dict[str, Any]]:
    """Return a list of objects; a file without annotations holds images that are not labelled yet."""
    where = f"{path}, field {name!r}"
    values = [] if name == "annotations" and content.get(name) is None else as_list(content.get(name), where)
    return [as_dict(value, f"{path}, {name}[{index}]") for index, value in enumerate(values)]


def _images(
    path: Path, raw: list[dict[str, Any]], identities: Identities, tally: Tally
) -> tuple[list[dict[str, Any]], dict[int, Path]]:
    """Return the images with file names below `images/` and their sizes, and where they lie now, by id."""
    names, records = FileNames(), []
    paths: dict[int, Path] = {}
    for index, (entry, identity) in enumerate(zip(raw, identities.own, strict=True)):
        name = as_text(entry.get("file_name"), f"{path}, images[{index}], field 'file_name'")
        found = _find(path.parent, name)
        if found is not None:
            paths[identity] = found
        new = names.add(_below_folder(name, path.parent))
        if new != name:
            tally.add("images with another file name", f"{name} is {new}")
        records.append({**entry, "id": identity, "file_name": new})
    _fill_sizes(path, records, paths, tally)
    return records, paths


def _fill_sizes(path: Path, records: list[dict[str, Any]], paths: dict[int, Path], tally: Tally) -> None:
    """Put whole numbers into width and height, from the file of an image where the labels do not say."""
    lacking = [record for record in records if not (record.get("width") and record.get("height"))]
    known = [record for record in lacking if record["id"] in paths]
    sizes = image_sizes_hw([paths[record["id"]] for record in known])
    for record, size_hw in zip(known, sizes, strict=True):
        if size_hw is not None:
            record["height"], record["width"] = size_hw
            tally.add("images without a size, which is read from the file", record["file_name"])
    for record in records:
        for field in ("width", "height"):
            where = f"{path}, image {record['id']}, field {field!r}"
            record[field] = as_size(record.get(field), where)


def _find(folder: Path, name: str) -> Path | None:
    """Return where an image lies: as its name says, beside the labels, or in `images` there."""
    plain = name.replace("\\", "/")
    last = plain.rsplit("/", 1)[-1]
    spellings = (name, plain, f"images/{plain.lstrip('/')}", last, f"images/{last}")
    candidates = (os.path.abspath(folder / spelling) for spelling in spellings)
    return next((Path(path) for path in candidates if os.path.isfile(path)), None)


def _below_folder(name: str, folder: Path) -> str:
    """Return a relative name: an absolute one outside the folder of the labels keeps its last part only."""
    plain = name.replace("\\", "/")
    absolute = plain.startswith("/") or plain[1:3] == ":/"
    if not absolute:
        return plain
    root = Path(os.path.abspath(folder)).as_posix()
    return plain.removeprefix(f"{root}/") if plain.startswith(f"{root}/") else plain.rsplit("/", 1)[-1]


def _checked(fields: dict[str, Any], path: Path) -> CocoKeypoints:
    try:
        coco = CocoKeypoints.model_validate(fields)
    except ValidationError as error:
        problem, _ = first_schema_problem(error, json.dumps(fields).encode())
        raise ValueError(f"{path}: {problem}") from None
    check_coco(coco, path)
    return coco
