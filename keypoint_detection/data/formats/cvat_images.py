"""Find the images that a CVAT export names, and the images of the frames of a video."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from keypoint_detection.data.formats.cvat_xml import XmlHeader, XmlImage
from keypoint_detection.data.formats.image_files import image_size_hw

IMAGES_FOLDER = "images"
_SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"))
_FRAME = re.compile(r"frame_([0-9]{1,9})", re.ASCII)
_STEP = re.compile(r"step\s*=\s*([0-9]{1,9})")


def image_file_name(name: str, where: str) -> str:
    """Return `images/<name>` with forward slashes, where an image is to lie in the new data set.

    Raises:
        ValueError: The name leads out of the folder.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(
            f"{where}: expected an image name below the folder of the images, got {name[:200]!r}"
        )
    return f"{IMAGES_FOLDER}/{path.as_posix()}"


def find_images(
    folders: Iterable[Path], images: Mapping[str, str], has_folder: bool
) -> tuple[list[Path | None], list[str]]:
    """Return where every image lies, or None for each where there is none at all, and notes.

    Args:
        folders: Where to look, the best place first.
        images: File name `images/...` and place in the label file (for an error) of each image.
        has_folder: Whether there is a folder of images, so that a missing one is a mistake.

    Raises:
        FileNotFoundError: Some images are there and others are not.
    """
    folders = list(folders)
    paths = [_find(folders, file_name) for file_name in images]
    missing = [index for index, path in enumerate(paths) if path is None]
    if not missing:
        return paths, []
    if len(missing) < len(paths) or has_folder:
        file_name, where = list(images.items())[missing[0]]
        raise FileNotFoundError(
            f"{where}: expected the image {file_name!r} in {folders[0]}, found nothing ({len(missing)} of "
            f"{len(paths)} images are missing); export the task from CVAT with its images"
        )
    return paths, [f"no image was found in {folders[0]}; the labels are read without images"]


def find_frames(
    root: Path, labelled: Iterable[int], header: XmlHeader, where: Path
) -> list[tuple[XmlImage, int]]:
    """Return one image per frame of a video, with its frame number, in the order of the frames.

    Frames are every file in `images`, by the number in a name such as `frame_000012.PNG`, or else by their
    order where there are as many as the task has frames. Without files they are the labelled frames, under
    the names that CVAT gives them.

    Args:
        root: Folder that holds `images`.
        labelled: Numbers of the frames with labels.
        header: What the XML says of the task.
        where: The XML file, for an error.
    """
    labelled = set(labelled)
    names = _frame_names(root / IMAGES_FOLDER, header, where)
    if names and not labelled <= names.keys():
        number = min(labelled - names.keys())
        raise FileNotFoundError(
            f"{where}: expected an image of frame {number} in {root / IMAGES_FOLDER}, found none "
            f"({len(labelled - names.keys())} of {len(labelled)} labelled frames have none); export the task "
            "from CVAT with its images"
        )
    names = names or {number: f"frame_{number:06d}.PNG" for number in labelled}
    size_wh = _original_size(header, where)
    frames: list[tuple[XmlImage, int]] = []
    for number, name in sorted(names.items()):
        width, height = size_wh or _size_of_file(root / IMAGES_FOLDER / name, where)
        frames.append((XmlImage(name, width, height, line=0), number))
    return frames


def _find(folders: Iterable[Path], file_name: str) -> Path | None:
    name = file_name.removeprefix(f"{IMAGES_FOLDER}/")
    candidates = [folder / name for folder in folders]
    # os.path, because a Path raises on a name that is too long for the file system
    return next((path for path in candidates if os.path.isfile(path)), None)


def _frame_names(folder: Path, header: XmlHeader, where: Path) -> dict[int, str]:
    """Return the names of the images in a folder by frame number; none without the folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    names = [path.relative_to(folder).as_posix() for path in files]
    matches = [_FRAME.fullmatch(path.stem) for path in files]
    numbers = [int(match[1]) for match in matches if match]
    if len(numbers) < len(names):
        numbers = _numbers_in_order(len(names), header, where)
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"{where}: expected one image per frame in {folder}, got several of the same number")
    return dict(zip(numbers, names, strict=True))


def _numbers_in_order(count: int, header: XmlHeader, where: Path) -> list[int]:
    size, start = (header.texts.get(name, "") for name in ("size", "start_frame"))
    if size != str(count):
        raise ValueError(
            f"{where}: expected images named frame_000000.PNG, or as many as the task has frames "
            f"({size[:20]!r}), got {count} of other names in {IMAGES_FOLDER}"
        )
    step = _STEP.search(header.texts.get("frame_filter", ""))
    first, stride = int(start) if re.fullmatch("[0-9]{1,9}", start) else 0, int(step[1]) if step else 1
    return [first + stride * index for index in range(count)]


def _original_size(header: XmlHeader, where: Path) -> tuple[int, int] | None:
    """Return width and height of a video's frames, or None where the XML does not say."""
    widths, heights = header.sizes["width"], header.sizes["height"]
    if not widths and not heights:
        return None
    texts = [*widths, *heights]
    is_one_size = len(widths) == len(heights) == 1
    if not is_one_size or not all(re.fullmatch("[1-9][0-9]{0,8}", text) for text in texts):
        raise ValueError(
            f"{where}: expected one <original_size> with width and height in pixels, got "
            f"{', '.join(repr(text[:20]) for text in texts)}; export every task by itself"
        )
    return int(texts[0]), int(texts[1])


def _size_of_file(path: Path, where: Path) -> tuple[int, int]:
    size_hw = image_size_hw(path) if path.is_file() else None
    if size_hw is None:
        raise ValueError(
            f"{where}: expected <original_size> or an image that tells the size, found neither: {path}"
        )
    return size_hw[1], size_hw[0]
