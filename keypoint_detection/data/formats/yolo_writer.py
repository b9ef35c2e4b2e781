"""Write COCO keypoints as a YOLO pose data set: images, labels and, last, `data.yaml`."""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    check_coco,
)
from keypoint_detection.data.formats.assembly import FileNames
from keypoint_detection.data.formats.image_files import copy_files, image_sizes_hw
from keypoint_detection.data.formats.tally import Tally
from keypoint_detection.data.formats.yolo import IMAGES, LABELS, SUFFIXES, label_path
from keypoint_detection.data.formats.yolo_settings import SPLITS
from keypoint_detection.data.symmetry import read_symmetry
from keypoint_detection.files import write_text

_SPLIT_NAMES = {**{split: split for split in SPLITS}, "valid": "val", "validation": "val"}
_HELD = frozenset(("split", "symmetric_keypoints"))
_DECIMALS = 12  # a fraction of 10,000 px is then exact to 1e-8 px


def write_yolo(coco: CocoKeypoints, image_folder: Path, output: Path) -> tuple[str, ...]:
    """Write a YOLO pose data set; everything is checked before the first file is written.

    An image goes into the `split` that it carries (train, val or test). Where no image carries one, train and
    val both name all images. `flip_idx` comes from the category's declared symmetry or else from the names of
    its keypoints. An instance without a box gets the tight box of its points.

    Args:
        coco: The labels; every category with keypoints has the same number of them.
        image_folder: Folder that the file names are relative to.
        output: Folder of the data set; may hold an earlier version of it, but no other images or labels.

    Returns:
        One note for every kind of thing that the format cannot hold.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: The categories differ in the number of keypoints, an image has another size than the
            labels say, or the folder holds another data set.
    """
    check_coco(coco, "the labels for YOLO")
    tally = Tally()
    categories = [category for category in coco.categories if category.keypoints]
    _refuse_other_lengths(categories)
    originals = [Path(os.path.abspath(image_folder / image.file_name)) for image in coco.images]
    _check_images(coco.images, originals)
    splits = _splits(coco.images, tally)
    names = _new_names(coco.images, splits, tally)
    labels = _label_texts(coco, categories, tally)
    settings = _settings(categories, splits, tally)
    _note_lost_fields(coco, categories, tally)
    texts = {output / label_path(Path(name)): text for name, text in zip(names, labels, strict=True)}
    targets = [output / name for name in names]
    _refuse_other_files(output, {*targets, *texts})
    copy_files(zip(originals, targets, strict=True))
    for path, text in texts.items():
        write_text(path, text)
    write_text(output / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    return tally.notes()


def _refuse_other_lengths(categories: list[CocoCategory]) -> None:
    lengths = {category.name: len(category.keypoints) for category in categories}
    if len({len(category.keypoints) for category in categories}) > 1:
        listed = ", ".join(f"{length} for {name!r}" for name, length in lengths.items())
        raise ValueError(
            f"YOLO: expected categories with equally many keypoints, got {listed}; write one at a time"
        )


def _check_images(images: list[CocoImage], originals: list[Path]) -> None:
    for path in originals:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"expected an image at {path}, found nothing")
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(
                f"YOLO: expected images of {', '.join(sorted(SUFFIXES))}, got {path}; convert it"
            )
    for image, path, size_hw in zip(images, originals, image_sizes_hw(originals), strict=True):
        if size_hw != (image.height, image.width):
            got = "no image that can be decoded" if size_hw is None else f"{size_hw[1]}x{size_hw[0]}"
            raise ValueError(
                f"image {image.id}: expected {image.width}x{image.height} pixels as the labels say, "
                f"got {got}: {path}; YOLO's labels are fractions of the image"
            )


def _splits(images: list[CocoImage], tally: Tally) -> list[str | None]:
    """Return the split of every image; all are None where none carries a split."""
    given = [(image.model_extra or {}).get("split") for image in images]
    if not any(given):
        tally.add("data sets without splits, train and val name the same images", "split the data set first")
        return [None] * len(images)
    splits: list[str | None] = []
    for image, name in zip(images, given, strict=True):
        if not name:
            tally.add("images without a split, which are put into train", image.file_name)
        elif not isinstance(name, str) or name not in _SPLIT_NAMES:
            raise ValueError(f"image {image.id}: expected a split out of {', '.join(SPLITS)}, got {name!r}")
        splits.append(_SPLIT_NAMES[name] if name else "train")
    return splits


def _new_names(images: list[CocoImage], splits: list[str | None], tally: Tally) -> list[str]:
    """Return `images/<split>/...` for every image; a name is taken once, whatever its suffix is."""
    taken, names = FileNames(), []
    for image, split in zip(images, splits, strict=True):
        suffix = Path(image.file_name).suffix
        stem = image.file_name.replace("\\", "/").removesuffix(suffix)
        parts = [part for part in stem.split("/") if part not in ("", ".", "..")]
        parts = parts[1:] if parts[0] == IMAGES and len(parts) > 1 else parts
        parts = parts[1:] if parts[0] == split and len(parts) > 1 else parts
        names.append(taken.add("/".join([split, *parts] if split else parts)) + suffix)
        if names[-1] != image.file_name:
            tally.add("images with another file name", f"{image.file_name} is {names[-1]}")
    return names


def _label_texts(coco: CocoKeypoints, categories: list[CocoCategory], tally: Tally) -> list[str]:
    classes = {category.id: index for index, category in enumerate(categories)}
    images = {image.id: image for image in coco.images}
    lines: dict[int, list[str]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        category = categories[classes[annotation.category_id]]
        fractions = _fractions(annotation, images[annotation.image_id], category, tally)
        if fractions:
            numbers = map(_decimal, fractions)
            lines[annotation.image_id].append(" ".join((str(classes[category.id]), *numbers)) + "\n")
    return ["".join(lines[image.id]) for image in coco.images]


def _decimal(value: float) -> str:
    text = f"{value:.{_DECIMALS}f}".rstrip("0").rstrip(".")
    return text or "0"


def _fractions(
    annotation: CocoAnnotation, image: CocoImage, category: CocoCategory, tally: Tally
) -> list[float]:
    """Return box and keypoints of an instance as fractions; nothing for one that YOLO cannot hold."""
    where = f"annotation {annotation.id}"
    if annotation.iscrowd:
        tally.add("crowd regions, which are left out", where)
        return []
    numbers: list[float] = []
    inside: list[tuple[float, float]] = []
    values = annotation.keypoints
    for name, x, y, flag in zip(category.keypoints, values[::3], values[1::3], values[2::3], strict=True):
        corner = (x + 0.5, y + 0.5)
        if _is_held((x, y, flag), image, f"{where}, {name!r}", tally):
            numbers += [corner[0] / image.width, corner[1] / image.height, flag]
            inside.append(corner)
        else:
            numbers += [0.0, 0.0, 0.0]
    box = _box(annotation, image, inside, tally)
    if not box:
        tally.add("instances without a box and without points, which are left out", where)
    return [*box, *numbers] if box else []


def _is_held(point: tuple[float, float, float], image: CocoImage, where: str, tally: Tally) -> bool:
    x, y, flag = point
    if not flag:
        if x or y:
            tally.add("coordinates of absent points, which are left out", where)
        return False
    if not (-0.5 <= x <= image.width - 0.5 and -0.5 <= y <= image.height - 0.5):
        tally.add("points outside of their image, which become absent", f"{where} at {x:g}, {y:g}")
        return False
    if (x, y) == (-0.5, -0.5):
        tally.add("labelled points at (0, 0), which other readers take for absent", where)
    return True


def _box(
    annotation: CocoAnnotation, image: CocoImage, corners: list[tuple[float, float]], tally: Tally
) -> list[float]:
    """Return centre, width and height as fractions of the image; nothing where there is nothing to frame."""
    where = f"annotation {annotation.id}"
    x, y, width, height = annotation.bbox or (0.0, 0.0, 0.0, 0.0)
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, image.width), min(y + height, image.height)
    if right > left and bottom > top:
        if (left, top, right, bottom) != (x, y, x + width, y + height):
            tally.add("boxes that reach out of their image, which are cut", where)
        if annotation.area is not None and not math.isclose(annotation.area, width * height, rel_tol=1e-6):
            tally.add("areas that are not their box's, which are left out", where)
    elif corners:
        tally.add("instances without a box, which get the box around their points", where)
        columns, rows = zip(*corners, strict=True)
        left, top, right, bottom = min(columns), min(rows), max(columns), max(rows)
    else:
        return []
    centre = [(left + right) / 2 / image.width, (top + bottom) / 2 / image.height]
    return [*centre, (right - left) / image.width, (bottom - top) / image.height]


def _settings(categories: list[CocoCategory], splits: Iterable[str | None], tally: Tally) -> dict[str, Any]:
    present = set(splits)
    folders = {split: f"{IMAGES}/{split}" for split in SPLITS if split in present}
    if present and None not in present and "val" not in present:
        tally.add("splits without images that YOLO needs for a training", "val")
    flip_idx = _flip_idx(categories, tally)
    return {
        **(folders if folders else dict.fromkeys(("train", "val"), IMAGES)),
        "kpt_shape": [len(categories[0].keypoints), 3],
        **({} if flip_idx is None else {"flip_idx": flip_idx}),
        "names": {index: category.name for index, category in enumerate(categories)},
        "kpt_names": {index: category.keypoints for index, category in enumerate(categories)},
    }


def _flip_idx(categories: list[CocoCategory], tally: Tally) -> list[int] | None:
    """Return the mirror of the keypoint numbers, if it is known and the same for all categories."""
    mirrors: list[list[int]] = []
    for category in categories:
        alone = CocoKeypoints(images=[], categories=[category], annotations=[])
        mirror = read_symmetry(alone).mirror(category.keypoints)
        if mirror.unpaired:
            tally.add("keypoints with a side but no partner, so flip_idx is left out", mirror.unpaired[0])
            return None
        mirrors.append([category.keypoints.index(mirror.swap[name]) for name in category.keypoints])
    if any(mirror != mirrors[0] for mirror in mirrors):
        tally.add("categories whose mirrors differ, so flip_idx is left out", categories[0].name)
        return None
    return mirrors[0]


def _note_lost_fields(coco: CocoKeypoints, categories: list[CocoCategory], tally: Tally) -> None:
    for name in _filled(coco, ("info", "licenses")):
        tally.add("fields of the file, which are left out", name)
    for category in coco.categories:
        if not category.keypoints:
            tally.add("categories without keypoints, which are left out", category.name)
        for name in _filled(category, ("skeleton", "supercategory")):
            tally.add(f"categories with {name!r}, which is left out", category.name)
    labelled = [(f"annotation {annotation.id}", annotation) for annotation in coco.annotations]
    for place, entry in [*((image.file_name, image) for image in coco.images), *labelled]:
        kind = "images" if isinstance(entry, CocoImage) else "annotations"
        for name in _filled(entry):
            tally.add(f"{kind} with {name!r}, which is left out", place)
    _note_new_ids({"images": coco.images, "categories": categories, "annotations": coco.annotations}, tally)


def _note_new_ids(lists: Mapping[str, Sequence[Any]], tally: Tally) -> None:
    for kind, listed in lists.items():
        if [entry.id for entry in listed] != list(range(1, len(listed) + 1)):
            tally.add("ids that are numbered anew", f"those of the {kind}")


def _filled(entry: Any, declared: Iterable[str] = ()) -> list[str]:
    """Return the fields of an entry that say something that YOLO has no place for."""
    extra: Mapping[str, Any] = entry.model_extra or {}
    return [name for name in (*declared, *extra) if name not in _HELD and getattr(entry, name)]


def _refuse_other_files(output: Path, own: set[Path]) -> None:
    """Refuse a folder with other images or labels: all that lies there belongs to the data set."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for the data set, got the file {output}")
    for folder in (output / IMAGES, output / LABELS):
        for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
            if path.is_file() and path not in own and path.suffix.lower() in (*SUFFIXES, ".txt"):
                raise ValueError(f"expected an empty folder for the data set, found {path}; give another one")
