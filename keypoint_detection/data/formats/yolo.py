"""Read a YOLO pose data set as COCO keypoints: `data.yaml`, `images/...` and `labels/...`.

A line of a label file is `class cx cy w h x y [v] ...`, fractions of the image that count from its top-left
**corner**: `x_px = x * width - 0.5`. A box becomes COCO's, which counts from the corner as well.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePath

import numpy as np

from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    check_coco,
)
from keypoint_detection.data.formats.assembly import FileNames, Point, make_annotation
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.image_files import image_sizes_hw
from keypoint_detection.data.formats.json_fields import shorten
from keypoint_detection.data.formats.tally import Tally
from keypoint_detection.data.formats.yolo_settings import YoloSettings, read_yolo_settings

IMAGES, LABELS = "images", "labels"
SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
"""Image files that both YOLO and this library read."""
_OTHER_SUFFIXES = frozenset((".avif", ".dng", ".gif", ".heic", ".heif", ".mpo", ".pfm"))
_VISIBILITIES = (0, 1, 2)


@dataclass(frozen=True)
class _Frame:
    """The label file of an image, and what is needed to read it."""

    path: Path
    image: CocoImage
    settings: YoloSettings
    categories: list[CocoCategory]


def read_yolo(source: str | Path, *, categories: Path | None = None) -> Conversion:
    """Read a YOLO pose data set.

    Every class is a category, with the keypoint names of `kpt_names` or else `keypoint0`, `keypoint1`, ...;
    `flip_idx` becomes the category's `symmetric_keypoints`. An image carries its `split`, unless several
    splits name it. An image without a label file shows none of the classes. The area is the box's.

    Args:
        source: The folder of the data set or its `data.yaml`.
        categories: Must be None: `data.yaml` names the classes.

    Raises:
        FileNotFoundError: There is no data.yaml, or a folder or an image that it names is missing.
        ValueError: A file has another form; one line with the file and the line.
    """
    if categories is not None:
        raise ValueError(f"yolo needs no category configuration, got {categories}; leave it out")
    settings, tally = read_yolo_settings(Path(source)), Tally()
    for name in settings.unknown:
        tally.add("fields of data.yaml that are not known and left out", repr(name))
    splits = _split_by_path(settings, tally)
    records = _categories(settings)
    images = _images(splits, settings)
    paths = dict(zip((image.id for image in images), splits, strict=True))
    annotations: list[CocoAnnotation] = []
    for image in images:
        frame = _Frame(label_path(paths[image.id]), image, settings, records)
        annotations += _read_labels(frame, len(annotations) + 1, tally)
    _note_orphans(paths.values(), tally)
    coco = CocoKeypoints(images=images, categories=records, annotations=annotations)
    check_coco(coco, settings.path)
    return Conversion(coco, paths, tally.notes())


def label_path(image: Path) -> Path:
    """Return where the labels of an image lie: the last folder `images` of its path becomes `labels`."""
    parts = list(image.with_suffix(".txt").parts)
    folders = parts[:-1]
    if IMAGES in folders:
        parts[len(folders) - 1 - folders[::-1].index(IMAGES)] = LABELS
    return Path(*parts)


def _split_by_path(settings: YoloSettings, tally: Tally) -> dict[Path, str | None]:
    """Return every image once with its split, or None when it is in several."""
    found: dict[Path, str | None] = {}
    for split, entries in settings.splits.items():
        here = dict.fromkeys(chain.from_iterable(_listed(entry, split, settings, tally) for entry in entries))
        for path in here:
            if path in found:
                tally.add("images in several splits, which get no split", str(path))
            found[path] = split if path not in found else None
    if not found:
        raise FileNotFoundError(f"{settings.path}: expected images in the folders it names, found none")
    return found


def _listed(entry: str, split: str, settings: YoloSettings, tally: Tally) -> Iterator[Path]:
    """Yield the images of one entry of a split: those below a folder, or those that a text file lists."""
    where = f"{settings.path}, field {split!r}"
    spellings = (entry, entry[3:]) if entry.startswith("../") else (entry,)  # exports count from images/
    candidates = [os.path.abspath(root / text) for text in spellings for root in settings.roots]
    place = next((Path(path) for path in candidates if os.path.exists(path)), None)
    if place is None:
        if split != "test":
            raise FileNotFoundError(f"{where}: expected images at {candidates[0]}, found nothing")
        tally.add("test images that are named but not there", shorten(entry))
    elif place.is_dir():
        yield from _below(place, where, tally)
    elif place.suffix == ".txt" and place.is_file():
        yield from _in_list(place, settings)
    else:
        raise ValueError(f"{where}: expected a folder of images or a .txt that lists them, got {place}")


def _below(folder: Path, where: str, tally: Tally) -> Iterator[Path]:
    if folder == folder.parent:
        raise ValueError(f"{where}: expected a folder of images, got the root of the disk")
    for parent, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(name for name in files if not name.startswith(".")):
            suffix = PurePath(name).suffix.lower()
            if suffix in SUFFIXES:
                yield Path(parent, name)
            elif suffix in _OTHER_SUFFIXES:
                tally.add("images of a kind that is not read", str(Path(parent, name)))


def _in_list(path: Path, settings: YoloSettings) -> Iterator[Path]:
    for number, line in _lines(path):
        candidates = [os.path.abspath(root / line.strip()) for root in (path.parent, *settings.roots)]
        image = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
        if image is None:
            raise FileNotFoundError(
                f"{path} line {number}: expected an image at {candidates[0]}, found nothing"
            )
        yield Path(image)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank with their numbers, from 1."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8; {error}") from None
    yield from ((number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip())


def _categories(settings: YoloSettings) -> list[CocoCategory]:
    categories: list[CocoCategory] = []
    for index, (name, keypoints) in enumerate(
        zip(settings.class_names, settings.keypoint_names, strict=True), start=1
    ):
        fields = {"id": index, "name": name, "supercategory": "", "keypoints": keypoints}
        if settings.flip_idx is not None:
            pairs = [(here, other) for here, other in enumerate(settings.flip_idx) if here < other]
            fields["symmetric_keypoints"] = [[keypoints[here], keypoints[other]] for here, other in pairs]
        categories.append(CocoCategory.model_validate(fields))
    return categories


def _images(splits: dict[Path, str | None], settings: YoloSettings) -> list[CocoImage]:
    names, images = FileNames(), []
    sizes = image_sizes_hw(list(splits))
    for number, ((path, split), size_hw) in enumerate(zip(splits.items(), sizes, strict=True), start=1):
        if size_hw is None:
            raise ValueError(f"expected an image, got a file that cannot be decoded: {path}")
        name = names.add(_name_in_data_set(path, settings))
        fields = {"id": number, "file_name": name, "width": size_hw[1], "height": size_hw[0]}
        images.append(CocoImage.model_validate(fields if split is None else {**fields, "split": split}))
    return images


def _name_in_data_set(path: Path, settings: YoloSettings) -> str:
    """Return the path below the data set without its folder `images`: `train/a.png` either way round."""
    root = next((root for root in settings.roots if path.is_relative_to(root)), None)
    parts = list(path.parts[-2:] if root is None else path.relative_to(root).parts)
    folders = parts[:-1]
    if IMAGES in folders:
        del parts[len(folders) - 1 - folders[::-1].index(IMAGES)]
    return "/".join((IMAGES, *parts))


def _read_labels(frame: _Frame, first_id: int, tally: Tally) -> list[CocoAnnotation]:
    if not os.path.isfile(frame.path):
        return []
    annotations: list[CocoAnnotation] = []
    n_expected = 5 + len(frame.categories[0].keypoints) * frame.settings.n_values
    for number, line in _lines(frame.path):
        where = f"{frame.path} line {number}"
        values = _numbers(line.split(), n_expected, where)
        if values[0] not in range(len(frame.categories)):
            last = len(frame.categories) - 1
            raise ValueError(f"{where}: expected a class from 0 to {last}, got {values[0]:g}")
        category = frame.categories[int(values[0])]
        box = _box_xywh(values[1:5], frame.image, where, tally)
        points = _points(values[5:], category, frame, (where, tally))
        identity = first_id + len(annotations)
        annotations.append(make_annotation(identity, frame.image.id, category, points, box))
    return annotations


def _numbers(fields: list[str], n_expected: int, where: str) -> list[float]:
    if len(fields) != n_expected:
        raise ValueError(
            f"{where}: expected {n_expected} numbers (class, box, keypoints as kpt_shape says), "
            f"got {len(fields)}"
        )
    try:
        values = [float(field) for field in fields]
    except ValueError:
        values = [np.inf]
    if not np.isfinite(values).all():
        raise ValueError(f"{where}: expected finite numbers, got {shorten(' '.join(fields))}")
    return values


def _box_xywh(
    fractions: list[float], image: CocoImage, where: str, tally: Tally
) -> tuple[float, float, float, float] | None:
    x, y, width, height = fractions
    if not all(0 <= value <= 1 for value in fractions):
        tally.add(
            "boxes outside [0, 1], replaced by the box around the points",
            f"{where}: {x:g} {y:g} {width:g} {height:g}",
        )
        return None
    if not width * height:
        tally.add("boxes without an area, replaced by the box around the points", where)
        return None
    left, top = (x - width / 2) * image.width, (y - height / 2) * image.height
    return left, top, width * image.width, height * image.height


def _points(
    values: list[float], category: CocoCategory, frame: _Frame, place: tuple[str, Tally]
) -> dict[str, Point]:
    """Return the labelled points by name in pixels; one outside the image is absent, with a note."""
    where, tally = place
    n_values, points = frame.settings.n_values, {}
    for index, name in enumerate(category.keypoints):
        x, y, *flag = values[index * n_values : (index + 1) * n_values]
        visibility = flag[0] if flag else 2 * ((x, y) != (0, 0))
        if visibility not in _VISIBILITIES:
            raise ValueError(f"{where}: expected visibility 0, 1 or 2 for {name!r}, got {visibility:g}")
        if visibility and not (0 <= x <= 1 and 0 <= y <= 1):
            tally.add("points outside [0, 1], which are absent", f"{where}: {name!r} at {x:g} {y:g}")
        elif visibility:
            points[name] = x * frame.image.width - 0.5, y * frame.image.height - 0.5, int(visibility)
    return points


def _note_orphans(images: Iterable[Path], tally: Tally) -> None:
    """Note label files that belong to no image, in the folders where labels lie."""
    known = {label_path(path) for path in images}
    for folder in sorted({path.parent for path in known}):
        if folder.is_dir() and LABELS in folder.parts:
            for path in sorted(folder.glob("*.txt")):
                if path not in known and path.name != "classes.txt":
                    tally.add("label files without an image, which are left out", str(path))
