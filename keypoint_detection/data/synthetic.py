"""Procedural data sets, drawn from a seed with exact sub-pixel labels: cardboard boxes and flowers."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data import synthetic_boxes, synthetic_flowers
from keypoint_detection.data.coco_parser import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    CocoKeypoints,
    write_coco,
)
from keypoint_detection.files import atomic_write
from keypoint_detection.records import Instance
from keypoint_detection.registry import nearest_name

MIN_SIDE = 32
"""Shortest side in pixels at which the shapes can still be told apart."""


Draw = Callable[[str, tuple[int, int], np.random.Generator], tuple[NDArray[np.uint8], list[Instance]]]


class Kind(NamedTuple):
    """Describe one kind of picture: its category in the COCO file and how it is drawn."""

    category: str
    keypoints: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    channels: str
    draw: Callable[[tuple[int, int], bool, np.random.Generator], tuple[NDArray[np.uint8], list[Instance]]]


KINDS = {
    "boxes": Kind(
        synthetic_boxes.CATEGORY,
        synthetic_boxes.KEYPOINTS,
        synthetic_boxes.SKELETON,
        "corner0 = corner1 = corner2 = corner3; flap_left; flap_right",
        synthetic_boxes.draw_boxes,
    ),
    "flowers": Kind(
        synthetic_flowers.CATEGORY,
        synthetic_flowers.KEYPOINTS,
        synthetic_flowers.SKELETON,
        "stem; leaf0 = leaf1 = leaf2",
        synthetic_flowers.draw_flowers,
    ),
}
"""The kinds of picture by name; `channels` is the channel configuration that suits each."""


def draw_image(
    kind: str, image_hw: tuple[int, int], rng: np.random.Generator, *, clutter: bool = True
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draw one picture; the same generator state gives the same picture.

    Args:
        kind: A name in `KINDS`.
        image_hw: Height and width in pixels, at least `MIN_SIDE` each; the shapes grow with the shorter side.
        rng: Source of every choice.
        clutter: False leaves out texture, shadows, distractors, covers, uneven light and noise.

    Returns:
        The image, uint8 `[h, w, 3]` RGB, and its labelled instances in original pixels.

    Raises:
        ValueError: The kind is unknown or the image is too small.
    """
    if kind not in KINDS:
        raise ValueError(
            f"unknown kind of data set {kind!r}; known: {', '.join(KINDS)}.{nearest_name(kind, KINDS)}"
        )
    if min(image_hw) < MIN_SIDE:
        raise ValueError(
            f"expected drawn images of at least {MIN_SIDE}x{MIN_SIDE} pixels, got {image_hw[0]}x{image_hw[1]}"
        )
    return KINDS[kind].draw(image_hw, clutter, rng)


def make_dataset(
    kind: str,
    output: str | Path,
    n_images: int,
    image_hw: tuple[int, int] = (128, 128),
    seed: int = 0,
    *,
    prefix: str = "",
) -> Path:
    """Draw a data set: `<output>/images/*.png` and `<output>/annotations.json`.

    An image depends only on the kind, the size, the seed and its own number: a larger set begins with the
    smaller one.

    Args:
        kind: A name in `KINDS`.
        output: Folder, made if need be; files of the same names are replaced.
        n_images: Number of images, at least 1.
        image_hw: Height and width in pixels.
        seed: Whole number >= 0; sets of different seeds share no image.
        prefix: Start of every image's file name.

    Returns:
        The path of the COCO file.

    Raises:
        ValueError: The kind is unknown, the images are too small or fewer than one, or the seed is negative.
    """
    return write_dataset(output, kind, n_images, image_hw, seed, draw=draw_image, prefix=prefix)


def write_dataset(
    output: str | Path,
    kind: str,
    n_images: int,
    image_hw: tuple[int, int],
    seed: int,
    *,
    draw: Draw,
    prefix: str = "",
    addition: str = "",
) -> Path:
    """Write a data set as `make_dataset` does, of pictures that something else may draw.

    Args:
        output: As for `make_dataset`, like the next four.
        kind: Says what the category is.
        n_images: Number of images.
        image_hw: Height and width in pixels.
        seed: Whole number >= 0.
        draw: As `draw_image`, for the kind, the size and a source of choices.
        prefix: Start of every image's file name.
        addition: What the description of the file says after the kind.

    Returns:
        The path of the COCO file.

    Raises:
        ValueError: As for `make_dataset`.
    """
    if n_images < 1:
        raise ValueError(f"expected at least 1 image to draw, got n_images={n_images}")
    if seed < 0:
        raise ValueError(f"expected a seed of 0 or more, got seed={seed}")
    output, images, annotations = Path(output), [], []
    for index in range(n_images):
        image, instances = draw(kind, image_hw, np.random.default_rng([seed, index]))
        file_name = f"images/{prefix}{index:05d}.png"
        _write_png(output / file_name, image)
        images.append(CocoImage(id=index + 1, file_name=file_name, width=image_hw[1], height=image_hw[0]))
        for instance in instances:
            number = len(annotations) + 1
            annotations.append(_annotation(instance, KINDS[kind].keypoints, number, index + 1))
    category, names, skeleton, *_ = KINDS[kind]
    size = f"{image_hw[0]}x{image_hw[1]} pixels"
    coco = CocoKeypoints(
        info={"description": f"{n_images} drawn {kind}{addition}, {size}, seed {seed}"},
        images=images,
        categories=[
            CocoCategory(
                id=1, name=category, keypoints=list(names), skeleton=[list(pair) for pair in skeleton]
            )
        ],
        annotations=annotations,
    )
    path = output / "annotations.json"
    write_coco(coco, path)
    return path


def _annotation(instance: Instance, names: tuple[str, ...], number: int, image_id: int) -> CocoAnnotation:
    """Return the COCO form of an instance; a point that is absent is written as 0, 0, 0."""
    values: list[float] = []
    for name in names:
        point = instance.keypoints.get(name)
        values += [0.0, 0.0, 0.0] if point is None else [point.x, point.y, float(point.visibility)]
    return CocoAnnotation(
        id=number,
        image_id=image_id,
        category_id=1,
        keypoints=values,
        num_keypoints=len(instance.keypoints),
        area=instance.area,
        bbox=None if instance.box is None else list(instance.box),
        iscrowd=0,
    )


def _write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB image `[h, w, 3]` atomically."""
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR)):
            raise OSError(
                f"could not write the image {path}; check that the folder is writable and the disk not full"
            )
