"""Read the labels of a DeepLabCut project (CSV) as COCO keypoints, and convert a project to a COCO data set.

One animal is category 1, named after the project's task; several animals are several instances of it, and the
unique points of a multi-animal project (individual `single`) are a category of their own. A blank or NaN is
absent (visibility 0), any other label visible (2); an animal without labels in a frame gets no annotation.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import yaml

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    write_coco,
)
from keypoint_detection.data.formats.deeplabcut_csv import UNIQUE, LabelRow, LabelTable, read_label_table
from keypoint_detection.files import atomic_write

LABELS_FOLDER = "labeled-data"
_LAYOUTS = "a project folder, its labeled-data folder, a video's folder in it, or the CSV itself"


@dataclass(frozen=True)
class _Project:
    root: Path  # file names are relative to it: it holds labeled-data, or else it holds the CSV
    tables: list[Path]


def read_deeplabcut(source: str | Path) -> CocoKeypoints:
    """Read the labels of a DeepLabCut project, of one of its folders, or of one CSV.

    DeepLabCut's labelling tool counts from the centre of a pixel as this library does, so coordinates stay as
    they are. A box is the tight box of the labelled points, and the area is that box's; both are left out
    where it has no area (fewer than two points, or points in a row).

    Args:
        source: The project, its `labeled-data` folder, a video's folder or a `CollectedData_*.csv`.

    Returns:
        The records. File names are relative to the folder that holds `labeled-data`, or else the CSV.

    Raises:
        FileNotFoundError: There are no labels, or an image that a CSV names is missing.
        ValueError: A CSV, an image or config.yaml cannot be read, or it is not clear which CSV is meant.
    """
    return _read(_locate(Path(source)))


def convert_deeplabcut(source: str | Path, output: str | Path, link: bool = False) -> Path:
    """Write a DeepLabCut project as a COCO data set: `annotations.json`, and its images in `images/<video>/`.

    Everything is read and checked before the first file is written, and the COCO file is written last.

    Args:
        source: As for `read_deeplabcut`.
        output: Folder of the data set; made if need be.
        link: Copy no image: the COCO file points to the originals by relative paths.

    Returns:
        The path of the COCO file.
    """
    project, output = _locate(Path(source)), Path(output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for the data set, got the file {output}")
    coco = _read(project)
    for image in coco.images:
        original = project.root / image.file_name
        if link:
            image.file_name = Path(os.path.relpath(original, output)).as_posix()
        else:
            image.file_name = _copied_name(project.root, image.file_name)
            with atomic_write(output / image.file_name) as temporary:
                shutil.copyfile(original, temporary)
    write_coco(coco, output / "annotations.json")
    return output / "annotations.json"


def _locate(source: Path) -> _Project:
    source = Path(os.path.abspath(source))
    if not source.exists():
        raise FileNotFoundError(f"expected DeepLabCut labels at {source}, found nothing; give {_LAYOUTS}")
    if source.is_file():
        if source.suffix.lower() != ".csv":
            raise ValueError(f"expected {_LAYOUTS}, got {source}; DeepLabCut writes the CSV beside its .h5")
        return _Project(_root_of(source.parent), [source])
    if _table_in(source):
        return _Project(_root_of(source), _table_in(source))
    labels = source / LABELS_FOLDER if (source / LABELS_FOLDER).is_dir() else source
    tables = [table for folder in sorted(labels.iterdir()) for table in _table_in(folder)]
    if not tables:
        raise FileNotFoundError(f"no CollectedData_*.csv in {source} or its video folders; give {_LAYOUTS}")
    return _Project(labels.parent if labels.name == LABELS_FOLDER else labels, tables)


def _table_in(folder: Path) -> list[Path]:
    """Return the CSV of a video's folder; several are a ValueError, and there may be none."""
    tables = sorted(folder.glob("CollectedData*.csv"))
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables)
        raise ValueError(f"expected one CollectedData_*.csv in {folder}, got {names}; give the CSV itself")
    return tables


def _root_of(folder: Path) -> Path:
    return folder.parent.parent if folder.parent.name == LABELS_FOLDER else folder


def _read(project: _Project) -> CocoKeypoints:
    config = _read_config(project.root / "config.yaml")
    tables = [read_label_table(path) for path in project.tables]
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    categories = _categories(tables, config)
    seen: dict[Path, str] = {}
    for table in tables:
        for row in table.rows:
            where = f"{table.path} line {row.line}"
            path = _find_image(project.root, table.path.parent, row, where)
            if path in seen:
                raise ValueError(f"{where}: expected one row per image, got {path} again after {seen[path]}")
            seen[path] = where
            height, width = _image_hw(path, where)
            file_name = path.relative_to(project.root).as_posix()
            images.append(CocoImage(id=len(images) + 1, file_name=file_name, width=width, height=height))
            for individual, points in row.points.items():
                if points:
                    category = categories[individual == UNIQUE]
                    annotations.append(_annotation(len(annotations) + 1, len(images), category, points))
    used = [category for category in categories.values() if category.keypoints]
    return CocoKeypoints(images=images, categories=used, annotations=annotations)


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected DeepLabCut's settings as YAML; {reason}") from None
    return config if isinstance(config, dict) else {}


def _categories(tables: list[LabelTable], config: Mapping[str, Any]) -> dict[bool, CocoCategory]:
    """Return the category of the animals (False) and of the unique points (True), in the order of the CSV."""
    names: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for table in tables:
        for individual, body_part in table.columns:
            names[individual == UNIQUE][body_part] = None
    title = str(config.get("Task") or "animal")
    categories: dict[bool, CocoCategory] = {}
    for identity, (is_unique, parts) in enumerate(names.items(), start=1):
        categories[is_unique] = CocoCategory(
            id=identity,
            name=UNIQUE if is_unique else title,
            supercategory="",
            keypoints=list(parts),
            skeleton=_skeleton(config.get("skeleton"), list(parts)),
        )
    return categories


def _skeleton(bones: Any, names: list[str]) -> list[list[int]]:
    """Return the bones as pairs of COCO's keypoint numbers, from 1; what is no pair of names is left out."""
    number = {name: index for index, name in enumerate(names, start=1)}
    listed = bones if isinstance(bones, list) else []
    pairs = [bone for bone in listed if isinstance(bone, list) and len(bone) == 2]
    numbered = [[number.get(str(start)), number.get(str(end))] for start, end in pairs]
    return [[start, end] for start, end in numbered if start and end]


def _find_image(root: Path, folder: Path, row: LabelRow, where: str) -> Path:
    """Return the image of a row: under the project's root as the row says, or beside a CSV that was moved."""
    named = PurePosixPath(*row.image_parts)
    if LABELS_FOLDER in named.parts:  # older projects hold absolute paths of the labeller's machine
        named = PurePosixPath(*named.parts[named.parts.index(LABELS_FOLDER) :])
    beside = folder / named.name
    stays_inside = not named.is_absolute() and ".." not in named.parts
    candidates = [root / named, beside] if stays_inside else [beside]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{where}: expected the image {named} at {candidates[0]}, found nothing")


def _image_hw(path: Path, where: str) -> tuple[int, int]:
    """Return the height and width of an image, of a PNG (what DeepLabCut extracts) without decoding it."""
    with path.open("rb") as stream:
        header = stream.read(24)
    height, width = int.from_bytes(header[20:24], "big"), int.from_bytes(header[16:20], "big")
    if header.startswith(b"\x89PNG\r\n\x1a\n") and height * width > 0:
        return height, width
    content = np.fromfile(path, np.uint8)
    # grey, not unchanged: the EXIF orientation is applied, as it is when the image is loaded
    image = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) if content.size else None
    if image is None:
        raise ValueError(f"{where}: expected an image, got a file that cannot be decoded: {path}")
    return image.shape[0], image.shape[1]


def _annotation(
    identity: int, image_id: int, category: CocoCategory, points: Mapping[str, tuple[float, float]]
) -> CocoAnnotation:
    values = [number for name in category.keypoints for number in _triple(points.get(name))]
    annotation = CocoAnnotation(
        id=identity,
        image_id=image_id,
        category_id=category.id,
        keypoints=values,
        num_keypoints=len(points),
        iscrowd=0,
    )
    columns, rows = zip(*points.values(), strict=True)
    width, height = max(columns) - min(columns), max(rows) - min(rows)
    if width * height > 0:  # scores that are relative to the area need one above zero
        annotation.bbox, annotation.area = [min(columns), min(rows), width, height], width * height
    return annotation


def _triple(point: tuple[float, float] | None) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if point is None else (*point, 2.0)


def _copied_name(root: Path, file_name: str) -> str:
    parts = PurePosixPath(file_name).parts
    if parts[0] == LABELS_FOLDER:
        parts = parts[1:]
    return PurePosixPath("images", *(parts if len(parts) > 1 else (root.name, *parts))).as_posix()
