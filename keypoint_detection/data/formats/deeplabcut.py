"""Read the labels of a DeepLabCut project (CSV or HDF5) as COCO keypoints.

One animal is category 1, named after the project's task; several animals are several instances of it, and the
unique points of a multi-animal project (individual `single`) are a category of their own. A blank or NaN is
absent (visibility 0), any other label visible (2); an animal without labels in a frame gets no annotation.
"""

import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
)
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.deeplabcut_config import ProjectConfig, skeleton_pairs, symmetric_pairs
from keypoint_detection.data.formats.deeplabcut_project import Project, read_project
from keypoint_detection.data.formats.deeplabcut_records import tight_box
from keypoint_detection.data.formats.deeplabcut_table import (
    LABELS_FOLDER,
    UNIQUE,
    LabelRow,
    LabelTable,
    Point,
)
from keypoint_detection.data.formats.image_files import image_size_hw


def read_deeplabcut(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read the labels of a DeepLabCut project, of one of its folders, or of one table.

    DeepLabCut's labelling tool counts from the centre of a pixel as this library does, so coordinates stay as
    they are. A box is the tight box of the labelled points, and the area is that box's; both are left out
    where it has no area (fewer than two points, or points in a row). Where a folder has both a CSV and an
    HDF5, the CSV counts, and a note names what the HDF5 has otherwise. Of several scorers the one of
    config.yaml is taken.

    Args:
        source: The project, its `labeled-data` folder, a video's folder, or a `CollectedData_*.csv` or `.h5`.
        categories: Refused: body parts, skeleton and left/right pairs come from the project.

    Returns:
        The records, with file names `images/<video>/<frame>`, where the images lie, and the notes.

    Raises:
        FileNotFoundError: There are no labels, or an image that a table names is missing.
        ValueError: A table, an image or config.yaml cannot be read, or it is not clear which table is meant.
    """
    if categories is not None:
        raise ValueError(f"DeepLabCut projects name their body parts themselves; leave out {categories}")
    project = read_project(Path(source))
    groups, notes = _categories(project.tables, project.config)
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    image_paths: dict[int, Path] = {}
    for path, where, row in _frames(project):
        height, width = _image_hw(path, where)
        image = CocoImage(
            id=len(images) + 1, file_name=_file_name(project.root, path), width=width, height=height
        )
        images.append(image)
        image_paths[image.id] = path
        for individual, points in row.points.items():
            if points:
                category = groups[individual == UNIQUE]
                annotations.append(_annotation(len(annotations) + 1, image.id, category, points))
    _make_unique(images)
    used = [category for category in groups.values() if category.keypoints]
    coco = CocoKeypoints(images=images, categories=used, annotations=annotations)
    return Conversion(coco, image_paths, (*project.notes, *notes))


def _frames(project: Project) -> list[tuple[Path, str, LabelRow]]:
    """Return the image, the place in its table, and the labels of every row; no image may come twice."""
    frames: list[tuple[Path, str, LabelRow]] = []
    seen: dict[Path, str] = {}
    for table in project.tables:
        for row in table.rows:
            where = f"{table.path} {row.place}"
            path = _find_image(project.root, table.path.parent, row, where)
            if path in seen:
                raise ValueError(f"{where}: expected one row per image, got {path} again after {seen[path]}")
            seen[path] = where
            frames.append((path, where, row))
    return frames


def _categories(
    tables: list[LabelTable], config: ProjectConfig
) -> tuple[dict[bool, CocoCategory], list[str]]:
    """Return the category of the animals (False) and of the unique points (True), and notes."""
    names: dict[bool, dict[str, None]] = {False: {}, True: {}}
    for table in tables:
        for individual, body_part in table.columns:
            names[individual == UNIQUE][body_part] = None
    listed = {is_unique: list(parts) for is_unique, parts in names.items()}
    bones, notes = skeleton_pairs(config, listed)
    symmetries, more_notes = symmetric_pairs(config, listed)
    categories: dict[bool, CocoCategory] = {}
    for identity, (is_unique, parts) in enumerate(listed.items(), start=1):
        number = {name: index for index, name in enumerate(parts, start=1)}
        fields = {
            "id": identity,
            "name": UNIQUE if is_unique else config.task or "animal",
            "supercategory": "",
            "keypoints": parts,
            "skeleton": [[number[start], number[end]] for start, end in bones[is_unique]],
        }
        if symmetries[is_unique]:
            fields["symmetric_keypoints"] = [list(pair) for pair in symmetries[is_unique]]
        categories[is_unique] = CocoCategory.model_validate(fields)
    return categories, [*notes, *more_notes]


def _find_image(root: Path, folder: Path, row: LabelRow, where: str) -> Path:
    """Return the image of a row: under the root as the row says, or beside a table that was moved."""
    named = PurePosixPath(row.image())
    beside = folder / named.name
    stays_inside = not named.is_absolute() and ".." not in named.parts
    candidates = [root / named, beside] if stays_inside else [beside]
    for path in candidates:
        if os.path.isfile(path):  # False too for what can be no path
            return path
    place = " ".join(str(candidates[0]).split())
    raise FileNotFoundError(
        f"{where}: expected the image {' '.join(str(named).split())} at {place}, found nothing"
    )


def _image_hw(path: Path, where: str) -> tuple[int, int]:
    size_hw = image_size_hw(path)
    if size_hw is None:
        raise ValueError(f"{where}: expected an image, got a file that cannot be decoded: {path}")
    return size_hw


def _annotation(
    identity: int, image_id: int, category: CocoCategory, points: Mapping[str, Point]
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
    box = tight_box(points.values())
    if box is not None:  # scores that are relative to the area need one above zero
        annotation.bbox, annotation.area = list(box), box[2] * box[3]
    return annotation


def _triple(point: Point | None) -> tuple[float, float, float]:
    return (0.0, 0.0, 0.0) if point is None else (*point, 2.0)


def _file_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).parts
    if parts[0] == LABELS_FOLDER:
        parts = parts[1:]
    return PurePosixPath("images", *(parts if len(parts) > 1 else (root.name, *parts))).as_posix()


def _make_unique(images: list[CocoImage]) -> None:
    """Number the folders of images that came to the same name from different folders."""
    taken: set[str] = set()
    for image in images:
        path, number = PurePosixPath(image.file_name), 2
        while image.file_name in taken:
            image.file_name = (path.parent / str(number) / path.name).as_posix()
            number += 1
        taken.add(image.file_name)
