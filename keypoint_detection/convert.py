"""Convert labels of any known tool to a COCO data set, and a COCO data set to the labels of a tool."""

import filecmp
import importlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from keypoint_detection.data.coco_parser import CocoImage, CocoKeypoints, check_coco, read_coco, write_coco
from keypoint_detection.data.formats.catalogue import FORMATS, Format
from keypoint_detection.data.formats.conversion import Conversion
from keypoint_detection.data.formats.image_files import copy_files
from keypoint_detection.registry import nearest_name

COCO_FILE = "annotations.json"


@dataclass(frozen=True)
class ConvertResult:
    """Hold what a conversion wrote.

    Attributes:
        path: The COCO file.
        n_images: Number of images.
        n_annotations: Number of instances.
        n_keypoints: Number of labelled keypoints, visible or occluded.
        notes: One line for everything that was not understood, left out or corrected.
    """

    path: Path
    n_images: int
    n_annotations: int
    n_keypoints: int
    notes: tuple[str, ...]


def convert_to_coco(
    format: str,
    source: str | Path,
    output: str | Path,
    *,
    link: bool = False,
    categories: str | Path | None = None,
) -> ConvertResult:
    """Write labels of another tool as a COCO data set: `annotations.json`, and the images in `images/`.

    Images that are frames of a video, or inside the source, are written as PNG files where the format can.
    Everything is read and checked before the first file is written, and the COCO file is written last. An
    earlier conversion of the same source is replaced; a folder with another data set is refused.

    Args:
        format: A name in `FORMATS`.
        source: File or folder of the labels, as the format has it.
        output: Folder of the data set; made if need be.
        link: Write no image: the COCO file points to the originals by relative paths.
        categories: Category configuration, for the formats that need one.

    Raises:
        FileNotFoundError: The source, or an image that it must have, is missing.
        ValueError: The format is unknown, the source has another form, or the output cannot be used.
    """
    entry = _format(format)
    source, output = Path(source), Path(output)
    _refuse_file(output)
    conversion = _read(entry, source, None if categories is None else Path(categories))
    if link:
        _check_output(source, conversion, output, {})
        coco, notes = _linked(conversion, output), _not_extracted(entry, conversion)
        output.mkdir(parents=True, exist_ok=True)
    else:
        coco, notes = conversion.coco, ()
        check_coco(coco, source)  # before the long work on images
        with _extracted(entry, source, conversion, output) as conversion:
            copies = _copies(conversion, output)
            _check_output(source, conversion, output, copies)
            output.mkdir(parents=True, exist_ok=True)
            copy_files((original, target) for target, original in copies.items())
    write_coco(coco, output / COCO_FILE)
    flags = (flag for annotation in coco.annotations for flag in annotation.keypoints[2::3])
    return ConvertResult(
        path=output / COCO_FILE,
        n_images=len(coco.images),
        n_annotations=len(coco.annotations),
        n_keypoints=sum(flag > 0 for flag in flags),
        notes=(*conversion.notes, *notes, *_missing_images(conversion)),
    )


def convert_from_coco(format: str, json_path: str | Path, output: str | Path) -> tuple[str, ...]:
    """Write a COCO data set as the labels of another tool.

    Args:
        format: A name in `FORMATS` that has a writer.
        json_path: The COCO file; its file names are relative to it.
        output: Folder for the labels; made if need be.

    Returns:
        One note for every kind of thing that the format cannot hold.

    Raises:
        FileNotFoundError: The COCO file, or an image that the format needs, is missing.
        ValueError: The format is unknown or has no writer, or it cannot hold the labels at all.
    """
    writer = _format(format).writer
    if writer is None:
        known = ", ".join(name for name, entry in FORMATS.items() if entry.writer)
        raise ValueError(f"expected a format that can be written ({known}), got {format!r}")
    json_path, output = Path(json_path), Path(output)
    coco = read_coco(json_path)
    _refuse_file(output)
    if format == "coco":  # the others write no file of this name: theirs may lie beside the COCO file
        _refuse_same_file(json_path, output / COCO_FILE)
    write: Callable[[CocoKeypoints, Path, Path], tuple[str, ...]] = _load(writer)
    return write(coco, json_path.parent, output)


def _format(name: str) -> Format:
    if name not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(f"unknown format {name!r}; known: {known}.{nearest_name(name, FORMATS)}")
    return FORMATS[name]


def _read(entry: Format, source: Path, categories: Path | None) -> Conversion:
    read: Callable[..., Conversion] = _load(entry.reader)
    try:
        return read(source, categories=categories)
    except FileNotFoundError:
        raise
    except OSError as error:
        place, reason = error.filename or source, error.strerror or error
        raise ValueError(f"{place}: expected a file or folder that can be read, got: {reason}") from None


def _load(place: str) -> Callable[..., Any]:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _copies(conversion: Conversion, output: Path) -> dict[Path, Path]:
    """Return the original of every image by the file that it is to become."""
    targets: dict[Path, Path] = {}
    for image in conversion.coco.images:
        name = PurePosixPath(image.file_name)
        if name.is_absolute() or ".." in name.parts or "\\" in image.file_name:
            raise ValueError(f"expected a file name inside the data set, got {image.file_name!r}")
        original = conversion.image_paths.get(image.id)
        if original is None:
            continue
        if output / name in targets:
            raise ValueError(f"expected file names that occur once, got {image.file_name!r} twice")
        targets[output / name] = Path(original)
    return targets


@contextmanager
def _extracted(entry: Format, source: Path, conversion: Conversion, output: Path) -> Iterator[Conversion]:
    """Yield the conversion with the images that the source itself holds, in a folder that is then removed.

    The folder is on the disk of the output: the images of videos can be many.
    """
    missing = _without_file(conversion)
    if entry.extract is None or not missing:
        yield conversion
        return
    output = output.absolute()
    disk = next(folder for folder in (output, *output.parents) if folder.is_dir())
    with TemporaryDirectory(dir=disk, prefix=".extracted-") as folder:
        wanted = conversion.coco.model_copy(update={"images": missing})
        count = _load(entry.extract)(source, Path(folder), wanted)
        files = {image.id: Path(folder, image.file_name) for image in missing}
        found = {identity: path for identity, path in files.items() if path.is_file()}
        notes = (f"images written out of the source or its videos: {count}",) if count else ()
        yield replace(
            conversion,
            image_paths={**conversion.image_paths, **found},
            notes=(*conversion.notes, *notes),
        )


def _not_extracted(entry: Format, conversion: Conversion) -> tuple[str, ...]:
    if entry.extract is None or not _without_file(conversion):
        return ()
    return ("no image is written out of the source or its videos: convert without link to get them",)


def _without_file(conversion: Conversion) -> list[CocoImage]:
    return [image for image in conversion.coco.images if image.id not in conversion.image_paths]


def _missing_images(conversion: Conversion) -> tuple[str, ...]:
    missing = _without_file(conversion)
    if not missing:
        return ()
    first = missing[0].file_name
    return (f"images without a file, whose labels are kept: {len(missing)} (the first one: {first})",)


def _linked(conversion: Conversion, output: Path) -> CocoKeypoints:
    """Return the labels with file names that lead from the output to the originals."""
    images = []
    for image in conversion.coco.images:
        original = conversion.image_paths.get(image.id)
        name = image.file_name if original is None else Path(os.path.relpath(original, output)).as_posix()
        images.append(image.model_copy(update={"file_name": name}))
    return conversion.coco.model_copy(update={"images": images})


def _check_output(source: Path, conversion: Conversion, output: Path, copies: dict[Path, Path]) -> None:
    """Raise a ValueError where the labels contradict each other or the output would destroy something."""
    check_coco(conversion.coco, source)
    _refuse_same_file(source, output / COCO_FILE)
    if source.is_dir():
        _refuse_output_among_images(copies, output)
    _refuse_other_data_set(conversion.coco, output / COCO_FILE)
    _refuse_other_images(copies)


def _refuse_file(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for the output, got the file {output}")


def _refuse_same_file(source: Path, path: Path) -> None:
    if source.exists() and path.exists() and source.samefile(path):
        raise ValueError(f"expected another folder for the output: it would replace the source {source}")


def _refuse_output_among_images(copies: dict[Path, Path], output: Path) -> None:
    """Refuse a folder below the source's own images: the next reading would find every image twice."""
    folder = Path(os.path.abspath(output))
    for original in copies.values():
        parent = Path(os.path.abspath(original)).parent
        if parent in folder.parents:
            raise ValueError(f"expected an output outside of the source's images in {parent}, got {output}")


def _refuse_other_data_set(coco: CocoKeypoints, path: Path) -> None:
    """Refuse to replace a COCO file that shares no image with the new one: it is not an earlier version."""
    if not path.exists():
        return
    try:
        old = {image.file_name for image in read_coco(path).images}
    except ValueError:
        old = set()
    same = {PurePosixPath(name).name for name in old} & {
        PurePosixPath(image.file_name).name for image in coco.images
    }
    if not same:
        kind = "another data set" if old else "what this library cannot read"
        raise ValueError(f"expected an empty folder or an earlier conversion, got {kind} in {path}")


def _refuse_other_images(copies: dict[Path, Path]) -> None:
    """Refuse to replace an image by another one of the same name."""
    present = [(original, target) for target, original in copies.items() if target.exists()]
    with ThreadPoolExecutor(4) as pool:
        same = pool.map(lambda pair: filecmp.cmp(*pair, shallow=False), present)
    for (original, target), is_same in zip(present, same, strict=True):
        if not is_same:
            raise ValueError(f"expected no other image at {target}, where {original} is to be copied to")
