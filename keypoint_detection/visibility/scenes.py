"""Scenes: an image with a depth map and masks of the ground that can and cannot be seen.

Two layouts are found.

Ours: `images/<view>/<name>.<png, jpg, ...>`, `depth/<view>/<name>.npy` or one `depth/<view>.npy` for all
images of a view, `masks/<view>/<name>_visible.png` and `masks/<view>/<name>_nonvisible.png`.

camvis2's raw files (Zenodo 10592111), at any depth below the folder, where the view is `<camera>_<angle>`:
`1159_1_2022-03-04_1300.jp2`, `1159_1_2022-03-04_1300_0001_nonvisible.png`,
`1159_1_2022-03-04_1300_0002_visible.png` and `1159_1.npy`.

A depth map is `[h, w]`, or `[h, w, n]` with metres first; NaN is sky. A pixel belongs to a mask where its
opacity is above 1 of 255 or, in a picture without opacity, where it is not black.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.visibility.sampling import UNLABELLED

IMAGE_ENDINGS = {".bmp", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_RAW_IMAGE = re.compile(r"(?P<view>[0-9A-Za-z]{4}_[0-9A-Za-z])_\d{4}-\d{2}-\d{2}_\d{4}")
_RAW_MASK = re.compile(rf"(?P<image>{_RAW_IMAGE.pattern})(?:_\d+)?_(?P<kind>visible|nonvisible)")
_RAW_DEPTH = re.compile(r"[0-9A-Za-z]{4}_[0-9A-Za-z]")


@dataclass(frozen=True)
class Scene:
    """Name the files of one image.

    Attributes:
        name: Path of the image relative to the folder of the scenes, with `/`.
        view: Camera view; its images show the same ground.
        image_path: The image.
        depth_path: The depth map, or None.
        visible_path: Mask of visible ground, or None.
        nonvisible_path: Mask of ground that is not visible, or None.
    """

    name: str
    view: str
    image_path: Path
    depth_path: Path | None
    visible_path: Path | None
    nonvisible_path: Path | None


def find_scenes(folder: str | Path) -> list[Scene]:
    """Find the scenes of a folder, sorted by view and name; files that are missing are None.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no scene, or two files for the same thing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"expected a folder of scenes, found none at {folder}; check the path")
    is_ours = (folder / "depth").is_dir() or (folder / "masks").is_dir()
    for find in (_our_scenes, _raw_scenes) if is_ours else (_raw_scenes, _our_scenes):
        scenes = find(folder)
        if scenes:
            return sorted(scenes, key=lambda scene: (scene.view, scene.name))
    raise ValueError(
        f"{folder}: expected images/<view>/<name>.png (or another image) with depth/ and masks/, or files "
        "such as 1159_1_2022-03-04_1300.jp2, found neither"
    )


def load_depth(scene: Scene) -> NDArray[np.float32]:
    """Return the depth map of a scene, metres `[h, w]`; NaN where there is none.

    Raises:
        FileNotFoundError: The file is gone.
        ValueError: The scene has no depth map, or the file holds none.
    """
    path = scene.depth_path
    if path is None:
        raise ValueError(
            f"{scene.image_path}: expected a depth map (.npy, metres), found none for view {scene.view}; add "
            "it, or leave the image out"
        )
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a depth map, found nothing at {path}; check the path") from None
    except (ValueError, OSError, EOFError) as error:
        reason = "Python objects, or no .npy file" if "pickle" in str(error) else _line(error)
        raise ValueError(f"{path}: expected an array of depths (.npy), got {reason}") from None
    if not isinstance(stored, np.ndarray) or stored.ndim not in (2, 3) or 0 in stored.shape:
        shape = getattr(stored, "shape", "an archive")
        raise ValueError(f"{path}: expected depths [h, w] or [h, w, n] with metres first, got {shape}")
    if stored.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected depths as numbers, got {stored.dtype}")
    with np.errstate(over="ignore"):  # infinite is no depth
        depth_m = np.array(stored if stored.ndim == 2 else stored[..., 0], dtype=np.float32)
    depth_m[~(np.isfinite(depth_m) & (depth_m > 0))] = np.nan
    return depth_m


def load_labels(scene: Scene) -> NDArray[np.uint8]:
    """Return 1 visible, 0 not visible, 2 unlabelled, `[h, w]`; what both masks claim is not visible.

    A scene may have one mask only: all that was labelled is visible then, or nothing is.

    Raises:
        FileNotFoundError: A mask is gone.
        ValueError: The scene has no mask, a file is no picture, or the two differ in size.
    """
    visible, nonvisible = (
        None if path is None else _load_mask(path) for path in (scene.visible_path, scene.nonvisible_path)
    )
    one = visible if visible is not None else nonvisible
    if one is None:
        raise ValueError(
            f"{scene.image_path}: expected masks of visible and not visible ground (.png), found none; add "
            "one or leave the image out"
        )
    if visible is not None and nonvisible is not None and visible.shape != nonvisible.shape:
        raise ValueError(
            f"{scene.nonvisible_path}: expected a mask of the size of {scene.visible_path}, "
            f"{visible.shape[0]}x{visible.shape[1]}, got {nonvisible.shape[0]}x{nonvisible.shape[1]}"
        )
    labels = np.full(one.shape, UNLABELLED, dtype=np.uint8)
    if visible is not None:
        labels[visible] = 1
    if nonvisible is not None:
        labels[nonvisible] = 0
    return labels


def _our_scenes(folder: Path) -> list[Scene]:
    scenes = []
    for image in images_of((folder / "images").glob("*/*")):
        view, stem = image.parent.name, image.stem
        masks = folder / "masks" / view
        scenes.append(
            Scene(
                name=image.relative_to(folder).as_posix(),
                view=view,
                image_path=image,
                depth_path=_first_file(
                    folder / "depth" / view / f"{stem}.npy", folder / "depth" / f"{view}.npy"
                ),
                visible_path=_first_file(masks / f"{stem}_visible.png"),
                nonvisible_path=_first_file(masks / f"{stem}_nonvisible.png"),
            )
        )
    return scenes


def _raw_scenes(folder: Path) -> list[Scene]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    images = {path: match for path in images_of(files) if (match := _RAW_IMAGE.fullmatch(path.stem))}
    _by_key((path.stem, path) for path in images)  # one image of a name
    depths = _by_key(
        (p.stem, p) for p in files if p.suffix.lower() == ".npy" and _RAW_DEPTH.fullmatch(p.stem)
    )
    masks = _by_key(
        ((match["image"], match["kind"]), path)
        for path in files
        if path.suffix.lower() == ".png" and (match := _RAW_MASK.fullmatch(path.stem))
    )
    return [
        Scene(
            name=path.relative_to(folder).as_posix(),
            view=match["view"],
            image_path=path,
            depth_path=depths.get(match["view"]),
            visible_path=masks.get((path.stem, "visible")),
            nonvisible_path=masks.get((path.stem, "nonvisible")),
        )
        for path, match in images.items()
    ]


def images_of(paths: Iterable[Path]) -> list[Path]:
    """Return the images among paths, sorted; hidden files are none."""
    return [
        path
        for path in sorted(paths)
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()
    ]


def _by_key(files: Iterable[tuple[Any, Path]]) -> dict[Any, Path]:
    """Return the file of each key; two files with one are a ValueError."""
    found: dict[Any, Path] = {}
    for key, path in files:
        if key in found:
            raise ValueError(f"expected one file of its kind, got {found[key]} and {path}; leave one out")
        found[key] = path
    return found


def _first_file(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _load_mask(path: Path) -> NDArray[np.bool_]:
    """Return where a picture is opaque or, without opacity, not black, `[h, w]`."""
    try:
        content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    except FileNotFoundError:
        raise FileNotFoundError(f"expected a mask, found nothing at {path}; check the path") from None
    try:
        picture = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if len(content) else None
    except cv2.error:
        picture = None
    if picture is None or picture.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"expected a mask, got a file that is no 8- or 16-bit picture: {path}; replace it")
    if picture.ndim == 3 and picture.shape[2] == 4:
        return picture[..., 3] > (1 if picture.dtype == np.uint8 else 257)
    return (picture.reshape(*picture.shape[:2], -1) > 0).max(axis=2)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
