"""Drawn scenes of hazy terrain whose limit of visibility is known exactly."""

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.files import write_json
from keypoint_detection.visibility.synthetic_haze import draw_weather, photograph
from keypoint_detection.visibility.synthetic_terrain import draw_view

TRUTH_NAME = "truth.json"
"""File with `{image name: {"visibility_m": V}}`; the names are those of the scenes."""

MIN_SIDE = 64
"""Shortest side in pixels at which the terrain is still terrain."""


def make_terrain(
    folder: str | Path, *, n_views: int, images_per_view: int, image_hw: tuple[int, int], seed: int
) -> Path:
    """Draw a folder of scenes in the layout of `scenes`, with `truth.json`.

    Ground nearer than V is labelled visible, ground beyond it not visible, and the sky is unlabelled. A view
    depends only on the size, the seed and its own number, and an image on its number in its view as well. The
    folder appears when it is complete.

    Args:
        folder: A folder that does not exist yet or is empty.
        n_views: Camera views with terrain, colours and grain of their own, at least 1.
        images_per_view: Images with weather of their own, at least 1.
        image_hw: Height and width in pixels, at least `MIN_SIDE` each.
        seed: Whole number >= 0.

    Returns:
        The folder.

    Raises:
        ValueError: A number is out of its range, or the folder is not empty.
    """
    _check_numbers(n_views, images_per_view, image_hw, seed)
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"expected a new or empty folder for the drawn terrain, got {folder}; give another or delete it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as hidden:
        staged = Path(hidden) / "terrain"
        staged.mkdir()
        truth: dict[str, dict[str, float]] = {}
        for index in range(n_views):
            truth |= _draw_view(staged, index, images_per_view, image_hw, seed)
        write_json(staged / TRUTH_NAME, truth)
        if folder.exists():
            folder.rmdir()
        os.replace(staged, folder)
    return folder


def _check_numbers(n_views: int, images_per_view: int, image_hw: tuple[int, int], seed: int) -> None:
    if n_views < 1 or images_per_view < 1:
        raise ValueError(f"expected at least 1 view of 1 image, got {n_views} views of {images_per_view}")
    if min(image_hw) < MIN_SIDE:
        raise ValueError(
            f"expected drawn terrain of at least {MIN_SIDE}x{MIN_SIDE} pixels, got "
            f"{image_hw[0]}x{image_hw[1]}"
        )
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got seed={seed}")


def _draw_view(
    folder: Path, index: int, n_images: int, image_hw: tuple[int, int], seed: int
) -> dict[str, dict[str, float]]:
    """Draw one view and its images; return their part of the truth."""
    name, truth = f"view{index:02d}", {}
    view = draw_view(image_hw, np.random.default_rng([seed, index]))
    for kind in ("images", "masks"):
        (folder / kind / name).mkdir(parents=True)
    (folder / "depth").mkdir(exist_ok=True)
    np.save(folder / "depth" / f"{name}.npy", view.depth_m)
    for number in range(n_images):
        rng = np.random.default_rng([seed, index, number])
        weather = draw_weather(view.depth_m, rng)
        image_name = f"images/{name}/{number:03d}.png"
        _write_png(folder / image_name, np.ascontiguousarray(photograph(view, weather, rng)[..., ::-1]))
        mask = folder / "masks" / name / f"{number:03d}"
        _write_png(Path(f"{mask}_visible.png"), _mask(view.depth_m < weather.visibility_m))
        _write_png(Path(f"{mask}_nonvisible.png"), _mask(view.depth_m >= weather.visibility_m))
        truth[image_name] = {"visibility_m": weather.visibility_m}
    return truth


def _mask(is_member: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return is_member.astype(np.uint8) * np.uint8(255)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a grey or BGR picture; noise does not compress, so that little effort is spent on it."""
    if not cv2.imwrite(str(path), pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
        raise OSError(
            f"could not write the image {path}; check that the folder is writable and the disk not full"
        )
