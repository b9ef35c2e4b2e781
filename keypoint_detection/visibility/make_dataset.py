"""Make a data set of points out of scenes: a table of sampled points, and the images at several scales."""

import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from keypoint_detection.files import write_json
from keypoint_detection.visibility.points import PointTable, check_points_path, write_points
from keypoint_detection.visibility.pyramid import FACTORS, build_pyramid
from keypoint_detection.visibility.sampling import sample_points
from keypoint_detection.visibility.scenes import Scene, find_scenes, load_depth, load_labels

POINTS_STEM = "points"
PYRAMID_FOLDER = "pyramid"
SOURCE_FILE = "source.json"
"""Beside the points: the folder that the names of the images are relative to, itself relative to this one."""


class _Drawn(NamedTuple):
    """Hold the points of one image: its height and width, and what `sample_points` returns."""

    image_hw: tuple[int, int]
    xy: NDArray[np.float64]
    label: NDArray[np.uint8]
    depth_m: NDArray[np.float64]


def make_dataset(
    scenes_folder: str | Path,
    output_folder: str | Path,
    *,
    points_per_image: int = 500,
    border_px: int = 64,
    factors: Sequence[int] = FACTORS,
    seed: int,
    points_format: Literal["csv", "parquet"] = "csv",
    depth_channel: bool = True,
) -> tuple[Path, Path]:
    """Sample points of every scene and write them as a table, beside a pyramid of the images.

    Points are drawn as `sample_points` does; those of an image depend on the seed and the image's name only.
    An older data set of the folder stays as it is until all images have been read. Its table is removed right
    before its pyramid is replaced, and the new one is written last: a folder without it holds no data set,
    and running again goes on with the pyramid.

    Args:
        scenes_folder: In a layout of `scenes`.
        output_folder: Made if need be; a data set in it is replaced.
        points_per_image: At most, at least 1.
        border_px: Pixels along the borders of the images without points.
        factors: Demagnifications of the pyramid.
        seed: Whole number >= 0.
        points_format: Kind of the table.
        depth_channel: Keep log depth as a channel of the pyramid, for the network to look at.

    Returns:
        The path of the table, and the folder of the pyramid.

    Raises:
        FileNotFoundError: A folder or a file is missing.
        ValueError: A scene has no labels or depth, or they do not fit together, or a number is out of range.
    """
    output = Path(output_folder)
    points_path, pyramid_folder = output / f"{POINTS_STEM}.{points_format}", output / PYRAMID_FOLDER
    check_points_path(points_path)
    _check_options(points_per_image, seed)
    scenes = find_scenes(scenes_folder)
    _check_complete(scenes)
    drawn = _draw_points(scenes, points_per_image, border_px, seed)
    table = _table(scenes, drawn)
    if output.exists() and not output.is_dir():
        raise ValueError(f"expected a folder for the data set, got the file {output}")
    older = [output / f"{POINTS_STEM}.{kind}" for kind in ("csv", "parquet")]
    with tqdm(desc="images", leave=False) as bar:
        build_pyramid(
            pyramid_folder,
            [scene.image_path for scene in scenes],
            table.image_hw,
            [scene.depth_path for scene in scenes] if depth_channel else None,
            factors,
            image_names=table.image_names,
            on_image=lambda done, total: _show(bar, done, total),
            before_replacing=lambda: _remove(older),  # a table must not describe another pyramid
            size_advice="give the image, its depth map and its masks one size",
        )
    _remove(path for path in older if path != points_path)
    write_source(output, scenes_folder)
    write_points(points_path, table)
    return points_path, pyramid_folder


def write_source(folder: str | Path, images: str | Path) -> None:
    """Note in the folder of a data set where its images are: both may be moved together.

    The path is relative with "/" as separator on every system, and absolute only between two drives.
    """
    images, folder = Path(images).resolve(), Path(folder)
    with suppress(ValueError):  # they are on two drives
        images = Path(os.path.relpath(images, folder.resolve()))
    write_json(folder / SOURCE_FILE, {"images": images.as_posix()})


def _check_options(points_per_image: int, seed: int) -> None:
    if points_per_image < 1:
        raise ValueError(f"expected at least 1 point per image, got points_per_image={points_per_image}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got seed={seed}")


def _check_complete(scenes: Sequence[Scene]) -> None:
    """Raise one line for the first scene without depth or labels, and count the others."""
    for what, how, lacking in (
        ("a depth map", "a .npy file of metres", [s for s in scenes if s.depth_path is None]),
        (
            "labels",
            "masks of visible and not visible ground",
            [s for s in scenes if s.visible_path is None and s.nonvisible_path is None],
        ),
    ):
        if lacking:
            more = f" (and {len(lacking) - 1} more of {len(scenes)})" if len(lacking) > 1 else ""
            raise ValueError(
                f"{lacking[0].image_path}: expected {what}, found none{more}; add {how}, "
                "or leave the image out"
            )


def _draw_points(scenes: Sequence[Scene], count: int, border_px: int, seed: int) -> list[_Drawn]:
    """Return the points of each scene; scenes of one depth map follow each other and read it once."""
    drawn, depth_path, depth_m = [], None, np.empty((0, 0), dtype=np.float32)
    for scene in tqdm(scenes, desc="points", leave=False):
        if scene.depth_path != depth_path:
            depth_path, depth_m = scene.depth_path, load_depth(scene)
        labels = load_labels(scene)
        if labels.shape != depth_m.shape:
            raise ValueError(
                f"{scene.image_path}: expected masks and depth map of one size, got "
                f"{labels.shape[0]}x{labels.shape[1]} and {depth_m.shape[0]}x{depth_m.shape[1]}; redo one"
            )
        rng = np.random.default_rng([seed, zlib.crc32(scene.name.encode())])
        points = sample_points(depth_m, labels, count, border_px, rng)
        if not len(points[0]):
            raise ValueError(
                f"{scene.image_path}: expected labelled pixels with depth that are {border_px} px or more "
                "from the border, found none; label some, lower border_px, or leave the image out"
            )
        drawn.append(_Drawn((labels.shape[0], labels.shape[1]), *points))
    return drawn


def _table(scenes: Sequence[Scene], drawn: Sequence[_Drawn]) -> PointTable:
    return PointTable(
        image_names=tuple(scene.name for scene in scenes),
        views=tuple(scene.view for scene in scenes),
        image_hw=np.array([points.image_hw for points in drawn], dtype=np.int64),
        image=np.repeat(np.arange(len(scenes)), [len(points.label) for points in drawn]),
        xy=np.concatenate([points.xy for points in drawn]),
        depth_m=np.concatenate([points.depth_m for points in drawn]),
        label=np.concatenate([points.label for points in drawn]),
    )


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _show(bar: "tqdm", done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)
