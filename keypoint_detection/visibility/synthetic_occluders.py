"""Drawn objects with some keypoints covered by things of many shapes and textures: it is known which."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.synthetic import draw_image, write_dataset
from keypoint_detection.data.synthetic_drawing import Floats, Layer, disc, polygon_coverage, strip
from keypoint_detection.records import Instance, Keypoint

COVER_SHARE, MISS_SHARE = 0.37, 0.3
"""Shares of keypoints that something is laid over, and that something is laid beside."""

CLEAR_PX = 1.5
"""Least distance of every keypoint from the edge of every occluder: no label is a matter of taste."""

_TRIES = 16  # for a place where an occluder covers what it should and comes near no other keypoint


class Occluder(NamedTuple):
    """Hold something that lies over the picture: its outline `[n, 2]` in pixels, and its radius."""

    outline: Floats
    radius: float


def draw_occluded(
    kind: str, image_hw: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draw one picture with occluders; the same generator state gives the same picture.

    About two in five keypoints have visibility 1. Many of the others have an occluder right beside them, so
    that an occluder in sight tells nothing by itself.

    Args:
        kind: A name in `data.synthetic.KINDS`.
        image_hw: Height and width in pixels.
        rng: Source of every choice.

    Returns:
        The image, uint8 `[h, w, 3]` RGB, and its instances: visibility 1 exactly where a keypoint lies under
        an occluder, or under what the picture had in front of it before.
    """
    image, instances = draw_image(kind, image_hw, rng)
    occluders = _place(instances, image_hw, rng)
    canvas = Layer(image_hw)
    canvas.pixels[..., :3], canvas.pixels[..., 3] = image / np.float32(255), 1.0
    for occluder in occluders:
        _draw(canvas, occluder, rng)
    pixels = np.clip(np.rint(canvas.pixels[..., :3] * 255), 0, 255).astype(np.uint8)
    return pixels, [_covered(instance, occluders) for instance in instances]


def make_occluded(
    folder: str | Path,
    n_images: int,
    image_hw: tuple[int, int] = (128, 128),
    seed: int = 0,
    *,
    kind: str = "flowers",
) -> Path:
    """Draw a data set: `<folder>/images/*.png` and, at last, `<folder>/annotations.json`.

    An image depends only on the kind, the size, the seed and its own number.

    Args:
        folder: Made if need be; files of the same names are replaced.
        n_images: Number of images, at least 1.
        image_hw: Height and width in pixels.
        seed: Whole number >= 0; sets of different seeds share no image.
        kind: A name in `data.synthetic.KINDS`.

    Returns:
        The path of the COCO file.

    Raises:
        ValueError: The kind is unknown, the images are too small or fewer than one, or the seed is negative.
    """
    return write_dataset(
        folder, kind, n_images, image_hw, seed, draw=draw_occluded, addition=" with occluders"
    )


def _place(instances: list[Instance], image_hw: tuple[int, int], rng: np.random.Generator) -> list[Occluder]:
    """Return occluders over some keypoints and beside others; none has an edge close to any keypoint."""
    points = np.array(
        [(point.x, point.y) for instance in instances for point in instance.keypoints.values()]
    ).reshape(-1, 2)
    sizes = [max(instance.box[2:]) for instance in instances for _ in instance.keypoints if instance.box]
    least_px = 0.03 * min(image_hw)
    occluders = []
    for target, size in enumerate(sizes):
        choice = float(rng.random())
        if choice < COVER_SHARE + MISS_SHARE:
            radii_px = max(0.09 * size, least_px), max(0.18 * size, least_px)
            found = _try(points, target, radii_px, choice < COVER_SHARE, rng)
            occluders += [] if found is None else [found]
    return occluders


def _try(
    points: Floats, target: int, radii_px: tuple[float, float], is_cover: bool, rng: np.random.Generator
) -> Occluder | None:
    """Return an occluder over a keypoint, or one beside it that covers no keypoint at all."""
    for _ in range(_TRIES):
        radius = float(rng.uniform(*radii_px))
        angle = rng.uniform(0, 2 * np.pi)
        away = radius * (rng.uniform(0, 0.5) if is_cover else rng.uniform(1.1, 1.9))
        centre = points[target] + away * np.array([np.cos(angle), np.sin(angle)])
        shape = SHAPES[rng.integers(len(SHAPES))]
        occluder = Occluder(centre + radius * shape(rng), radius)
        depth_px = np.array([_depth_px(occluder, point) for point in points])
        is_right = depth_px[target] > 0 if is_cover else bool((depth_px < 0).all())
        if is_right and (np.abs(depth_px) >= CLEAR_PX).all():
            return occluder
    return None


def _depth_px(occluder: Occluder, point: Floats) -> float:
    """Return how far inside the outline a point lies, negative outside."""
    place = (float(point[0]), float(point[1]))
    return cv2.pointPolygonTest(occluder.outline.astype(np.float32), place, True)


def _covered(instance: Instance, occluders: list[Occluder]) -> Instance:
    """Return the instance with visibility 1 for what lies under an occluder."""
    keypoints = {}
    for name, point in instance.keypoints.items():
        is_covered = any(_depth_px(occluder, np.array([point.x, point.y])) > 0 for occluder in occluders)
        keypoints[name] = Keypoint(point.x, point.y, visibility=1 if is_covered else point.visibility)
    return Instance(keypoints, instance.category, instance.box, instance.area)


def _turned(outline: Floats, rng: np.random.Generator) -> Floats:
    angle = rng.uniform(0, 2 * np.pi)
    cosine, sine = np.cos(angle), np.sin(angle)
    return outline @ np.array([[cosine, sine], [-sine, cosine]])


def _ellipse(rng: np.random.Generator) -> Floats:
    return _turned(disc((0, 0), 1.0) * (1.0, rng.uniform(0.5, 1.0)), rng)


def _rectangle(rng: np.random.Generator) -> Floats:
    return _turned(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (0.9, rng.uniform(0.5, 0.9)), rng)


def _bar(rng: np.random.Generator) -> Floats:
    return _turned(strip((-2.0, 0.0), (2.0, 0.0), float(rng.uniform(0.7, 1.1))), rng)


def _polygon(rng: np.random.Generator) -> Floats:
    n_corners = int(rng.integers(3, 8))
    angle = (np.arange(n_corners) + rng.uniform(-0.25, 0.25, n_corners)) * (2 * np.pi / n_corners)
    return _turned(rng.uniform(0.9, 1.2) * np.stack([np.cos(angle), np.sin(angle)], axis=1), rng)


def _star(rng: np.random.Generator) -> Floats:
    n_corners = 2 * int(rng.integers(4, 8))
    reach = np.where(np.arange(n_corners) % 2, rng.uniform(0.55, 0.8), 1.25)
    return _turned(disc((0, 0), 1.0, n_corners) * reach[:, None], rng)


def _blob(rng: np.random.Generator) -> Floats:
    angle = np.arange(40) * (2 * np.pi / 40)
    reach = 1.0 + sum(
        rng.uniform(-0.15, 0.15) * np.cos(wave * angle + rng.uniform(0, 7)) for wave in (2, 3, 5)
    )
    return disc((0, 0), 1.0, 40) * np.asarray(reach)[:, None]


SHAPES: tuple[Callable[[np.random.Generator], Floats], ...] = (
    _ellipse,
    _rectangle,
    _bar,
    _polygon,
    _star,
    _blob,
)
"""Outlines `[n, 2]` of about radius 1 around (0, 0)."""


def _draw(canvas: Layer, occluder: Occluder, rng: np.random.Generator) -> None:
    """Draw an occluder with its shadow, its texture in uneven light, and the noise of the camera."""
    outline, radius = occluder
    canvas.shadow(outline + rng.uniform(0.05, 0.25) * radius, 0.2 * radius, float(rng.uniform(0.1, 0.4)))
    coverage, rows, columns = polygon_coverage(outline, canvas.image_hw)
    if coverage.size == 0:
        return
    y, x = np.mgrid[rows, columns].astype(np.float64)
    along, across = np.moveaxis(_turned(np.stack([x, y], axis=-1) - outline.mean(0), rng) / radius, -1, 0)
    light = 1.0 + rng.uniform(0.0, 0.2) * np.clip(along, -2, 2)
    first, second = rng.uniform(0.05, 0.97, (2, 3))
    share = PATTERNS[rng.integers(len(PATTERNS))](along, across, rng)[..., None]
    texture = np.clip((first + share * (second - first)) * light[..., None], 0, 1)
    texture += rng.uniform(1.5, 5.0) / 255 * rng.standard_normal(texture.shape)
    window = canvas.pixels[rows, columns, :3]
    window += (coverage[..., None] * (texture - window)).astype(np.float32)


def _plain(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    return np.zeros_like(along)


def _gradient(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    return np.clip(0.5 + 0.5 * across, 0, 1)


def _stripes(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    return np.clip(0.5 + 2 * np.sin(across * rng.uniform(4, 9)), 0, 1)


def _checks(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    pitch = rng.uniform(3, 7)
    return np.clip(0.5 + 4 * np.sin(along * pitch) * np.sin(across * pitch), 0, 1)


def _dots(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    pitch = rng.uniform(4, 9)
    return np.clip(3 * (np.cos(along * pitch) + np.cos(across * pitch)) - 2, 0, 1)


def _clouds(along: Floats, across: Floats, rng: np.random.Generator) -> Floats:
    coarse = rng.random((6, 6))
    return np.asarray(cv2.resize(coarse, along.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float64)


PATTERNS: tuple[Callable[[Floats, Floats, np.random.Generator], Floats], ...] = (
    _plain,
    _gradient,
    _stripes,
    _checks,
    _dots,
    _clouds,
)
"""Shares in [0, 1] of the second colour, from places across an occluder in units of its radius."""
