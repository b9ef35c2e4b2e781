"""Join COCO files into one: categories by name, new ids, the images stay where they are."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    read_coco,
)
from keypoint_detection.data.keypoint_choice import choose_keypoints, choose_labels
from keypoint_detection.dataset_files import check_free, relocated, write_together

logger = logging.getLogger("keypoint_detection")


def merge_datasets(
    json_paths: Sequence[str | Path], output: str | Path, *, union: bool = False, overwrite: bool = False
) -> Path:
    """Write one COCO file with the images and labels of several; notes are logged.

    Categories of one name become one, with the keypoints in the order of the first file. Images and
    annotations are numbered anew, from 1 in the order of the files, and lead to the same images by relative
    paths. A field of the whole file (such as `licenses`) is kept where the files agree on it.

    Args:
        json_paths: COCO files, two or more.
        output: The COCO file to write.
        union: Let categories of one name have different keypoints: those that a file does not have are absent
            in its labels.
        overwrite: Replace a file that is there already; a source is never replaced.

    Returns:
        `output`.

    Raises:
        FileNotFoundError: One of the COCO files is missing.
        ValueError: A file is wrong, categories of one name have different keypoints, or two files hold the
            same image; nothing is written.
    """
    paths, output = [Path(path) for path in json_paths], Path(output)
    if len(paths) < 2:
        raise ValueError(f"expected two or more COCO files to merge, got {len(paths)}")
    files = [read_coco(path) for path in paths]
    _check_different_images(paths, files)
    categories = _Categories(union)
    for path, coco in zip(paths, files, strict=True):
        for category in coco.categories:
            categories.add(category, path)
    images, annotations = _numbered(paths, files, categories, output.parent)
    fields, notes = _file_fields(files)
    merged = CocoKeypoints(
        **fields, images=images, categories=list(categories.by_name.values()), annotations=annotations
    )
    check_free([output], paths, overwrite)
    write_together({output: merged})
    for note in (*categories.notes, *notes):
        logger.warning("%s", note)
    return output


@dataclass
class _Categories:
    """Gather categories by name, in the order in which they come."""

    union: bool
    by_name: dict[str, CocoCategory] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, category: CocoCategory, path: Path) -> None:
        """Join a category with the one of its name, or take it as a new one."""
        known = self.by_name.get(category.name)
        if known is None:
            taken = {other.id for other in self.by_name.values()}
            identity = category.id if category.id not in taken else max(taken) + 1
            self.by_name[category.name] = category.model_copy(update={"id": identity}, deep=True)
            return
        where = f"{path}: category {category.name!r}"
        self._check_names(known, category, where)
        shared = [name for name in known.keypoints if name in category.keypoints]
        own = [name for name in category.keypoints if name not in known.keypoints]
        lengths = {len(known.keypoints)}
        if own:
            stale = [name for name, value in _extra(known).items() if _is_list_of(value, lengths)]
            self.notes += [f"{where}: field {name!r} has no entry for {', '.join(own)}" for name in stale]
        known.keypoints = [*known.keypoints, *own]
        reordered, _ = choose_keypoints(category, [*shared, *own])
        self._join_bones(known, reordered)
        self._join_fields(known, reordered, where)

    def _check_names(self, known: CocoCategory, category: CocoCategory, where: str) -> None:
        lacking = [name for name in known.keypoints if name not in category.keypoints]
        added = [name for name in category.keypoints if name not in known.keypoints]
        if (lacking or added) and not self.union:
            parts = [f"without {', '.join(lacking)}"] * bool(lacking) + [f"with {', '.join(added)}"] * bool(
                added
            )
            raise ValueError(
                f"{where}: expected the keypoints of the first file with it, got one {' and '.join(parts)}; "
                "rename them, leave them out with subset, or merge with --union"
            )
        if lacking or added:
            self.notes.append(
                f"{where}: keypoints of other files: {', '.join(lacking) or 'none'}; of its own: "
                f"{', '.join(added) or 'none'}"
            )

    def _join_bones(self, known: CocoCategory, other: CocoCategory) -> None:
        """Add the bones of the other category, by the names of their ends."""
        number = {name: index for index, name in enumerate(known.keypoints, start=1)}
        bones = [[number[other.keypoints[end - 1]] for end in bone] for bone in other.skeleton or []]
        present = {frozenset(bone) for bone in known.skeleton or []}
        added = [bone for bone in bones if frozenset(bone) not in present]
        if added:
            known.skeleton = [*(known.skeleton or []), *added]

    def _join_fields(self, known: CocoCategory, other: CocoCategory, where: str) -> None:
        """Keep the fields of the first file, take those that it lacks, and note where they differ."""
        mine = {"supercategory": known.supercategory, **_extra(known)}
        for name, value in {"supercategory": other.supercategory, **_extra(other)}.items():
            if name not in mine and not (self.union and _is_list_of(value, {len(other.keypoints)})):
                setattr(known, name, value)
            elif mine.get(name) != value:
                self.notes.append(f"{where}: field {name!r} differs; that of the first file is kept")


def _numbered(
    paths: Sequence[Path], files: Sequence[CocoKeypoints], categories: _Categories, folder: Path
) -> tuple[list[CocoImage], list[CocoAnnotation]]:
    """Return the images and annotations of all files with new ids, file names relative to the folder."""
    images: list[CocoImage] = []
    annotations: list[CocoAnnotation] = []
    image_ids, annotation_ids = count(1), count(1)
    for path, coco in zip(paths, files, strict=True):
        new_id = {image.id: next(image_ids) for image in coco.images}
        images += [
            image.model_copy(update={"id": new_id[image.id]})
            for image in relocated(coco.images, path.parent, folder)
        ]
        old = {category.id: category for category in coco.categories}
        for annotation in coco.annotations:
            category = old[annotation.category_id]
            target = categories.by_name[category.name]
            labels = choose_labels(annotation, category.keypoints, target.keypoints)
            ids = {
                "id": next(annotation_ids),
                "image_id": new_id[annotation.image_id],
                "category_id": target.id,
            }
            annotations.append(labels.model_copy(update=ids))
    return images, annotations


def _check_different_images(paths: Sequence[Path], files: Sequence[CocoKeypoints]) -> None:
    """Raise a ValueError when two files hold the same image, by whatever path they name it."""
    holder: dict[str, Path] = {}
    real_folder: dict[str, str] = {}
    for path, coco in zip(paths, files, strict=True):
        own: dict[str, Path] = {}
        for image in coco.images:
            folder, name = os.path.split(path.parent / image.file_name)
            if folder not in real_folder:
                real_folder[folder] = os.path.realpath(folder)
            own[os.path.join(real_folder[folder], name)] = path
        for place in own:
            if place in holder:
                raise ValueError(
                    f"expected every image in one of the files, got {place} in {holder[place]} and in "
                    f"{path}; leave it out of one of them with subset"
                )
        holder |= own


def _file_fields(files: Sequence[CocoKeypoints]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of the whole file that the files agree on, and a note on each of the others."""
    listed = {"images", "categories", "annotations"}
    given = [file.model_dump(exclude_unset=True, exclude=listed) for file in files]
    names = dict.fromkeys(name for fields in given for name in fields)
    kept: dict[str, Any] = {}
    notes: list[str] = []
    for name in names:
        values = [fields[name] for fields in given if name in fields]
        if all(value == values[0] for value in values):
            kept[name] = values[0]
        else:
            notes.append(f"field {name!r} differs between the files and is left out")
    return kept, notes


def _extra(category: CocoCategory) -> dict[str, Any]:
    return category.model_extra or {}


def _is_list_of(value: Any, lengths: set[int]) -> bool:
    return isinstance(value, list) and len(value) in lengths
