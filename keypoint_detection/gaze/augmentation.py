"""Random changes of a sample of gaze following: head box, part of the image, mirror, colours."""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.augmentations import color_matrix

Floats = NDArray[np.float64]

_MIDDLE_GREY = 127.5
_STRETCH = 0.15  # of the logarithm of a crop's aspect ratio, either way


@dataclass(frozen=True)
class GazeAugmentation:
    """Hold every strength; a probability of 0 is off.

    Attributes:
        box_jitter: The head box grows by up to this share of its width and of its height; how much of it on
            which side is random.
        box_probability: Share of the samples whose box grows.
        crop_size: Smallest share of the image's width and height that a crop shows; it grows as far as the
            head and the points looked at need.
        crop_probability: Share of the samples that show a part of the image.
        flip_probability: Share of the samples that are mirrored left and right.
        brightness: Smallest and largest factor on all values.
        contrast: Smallest and largest factor on the distance to middle grey.
        saturation: Smallest and largest factor on the distance to grey; 0 is a grey image.
        color_probability: Share of the samples that each of the three changes above applies to.
    """

    box_jitter: float = 0.2
    box_probability: float = 0.5
    crop_size: float = 0.5
    crop_probability: float = 0.5
    flip_probability: float = 0.5
    brightness: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.0, 1.5)
    color_probability: float = 0.5

    def __post_init__(self) -> None:
        """Check every strength."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple | list):
                if len(value) != 2 or not 0 <= value[0] <= value[1] < math.inf:
                    raise ValueError(
                        f"{field.name}: expected two numbers, 0 <= low <= high, got {list(value)}"
                    )
            elif not 0 <= value <= 1:
                raise ValueError(f"{field.name}: expected a number from 0 to 1, got {value}")


class GazeChange(NamedTuple):
    """Hold what is done to a sample.

    Attributes:
        head_box: `[4]`, the box of the head from here on, original pixels.
        shown_box: `[4]`, the part of the image that is shown, original pixels.
        is_mirrored: Left and right change places, after all else.
        color: `[3, 4]`, matrix and offset for RGB values; None leaves them as they are.
    """

    head_box: Floats
    shown_box: Floats
    is_mirrored: bool
    color: Floats | None


def image_box(image_hw: tuple[int, int]) -> Floats:
    """Return the box of a whole image, `[4]`."""
    return np.array([-0.5, -0.5, image_hw[1] - 0.5, image_hw[0] - 0.5])


def no_change(head_box: Floats, image_hw: tuple[int, int]) -> GazeChange:
    """Return the change that changes nothing."""
    return GazeChange(head_box, image_box(image_hw), False, None)


def draw_change(
    config: GazeAugmentation,
    rng: np.random.Generator,
    head_box: Floats,
    points_xy: Floats,
    image_hw: tuple[int, int],
) -> GazeChange:
    """Draw a change of one sample; it takes as many random numbers whatever they are.

    Args:
        config: All strengths.
        rng: Source of all randomness.
        head_box: `[4]`, original pixels; it may reach beyond the image.
        points_xy: `[k, 2]`, what a crop keeps beside the head, such as eye and targets; NaN is none.
        image_hw: Height and width in pixels.
    """
    chances = rng.random(3)
    box = grow_box(head_box, config.box_jitter * rng.random(2), rng.random(2))
    box = box if chances[0] < config.box_probability else head_box
    shown = _crop(config, rng, _least_box(box, points_xy, image_hw), image_hw)
    shown = shown if chances[1] < config.crop_probability else image_box(image_hw)
    return GazeChange(box, shown, bool(chances[2] < config.flip_probability), _color(config, rng))


def grow_box(box: Floats, growth: Floats | float, share_before: Floats | float = 0.5) -> Floats:
    """Return a larger box `[4]`.

    Args:
        box: `[4]`.
        growth: What is added to width and height, as shares of them, `[2]` or one number.
        share_before: How much of that is added on the left and the top, in [0, 1]; 0.5 is symmetric.
    """
    added = (box[2:] - box[:2]) * growth
    return np.concatenate([box[:2] - added * share_before, box[2:] + added * (1 - share_before)])


def change_colors(image: NDArray[np.uint8], color: Floats | None) -> NDArray[np.uint8]:
    """Return an RGB image `[h, w, 3]` with its colours changed and clipped to 0 to 255."""
    return image if color is None else cv2.transform(image, color).astype(np.uint8, copy=False)


def _least_box(box: Floats, points_xy: Floats, image_hw: tuple[int, int]) -> Floats:
    """Return the smallest box around a box and points, as far as it lies in the image, `[4]`."""
    points = points_xy[np.isfinite(points_xy).all(axis=1)]
    # a point is kept with the pixel that it lies in
    corners = np.concatenate([box.reshape(2, 2), points - 0.5, points + 0.5])
    whole = image_box(image_hw)
    low, high = np.clip([corners.min(axis=0), corners.max(axis=0)], whole[:2], whole[2:])
    return np.concatenate([low, high])


def _crop(
    config: GazeAugmentation, rng: np.random.Generator, kept: Floats, image_hw: tuple[int, int]
) -> Floats:
    """Draw a part of the image around a box, `[4]`."""
    whole = image_box(image_hw)
    share = rng.uniform(config.crop_size, 1.0) * np.exp(rng.uniform(-_STRETCH, _STRETCH, 2))
    extent = np.clip(share, config.crop_size, 1.0) * (whole[2:] - whole[:2])
    extent = np.maximum(extent, kept[2:] - kept[:2])
    first = np.maximum(whole[:2], kept[2:] - extent)
    last = np.maximum(np.minimum(kept[:2], whole[2:] - extent), first)
    start = first + rng.random(2) * (last - first)
    return np.concatenate([start, start + extent])


def _color(config: GazeAugmentation, rng: np.random.Generator) -> Floats | None:
    """Draw the matrix `[3, 4]` of brightness, then contrast, then saturation."""
    is_drawn = rng.random(3) < config.color_probability
    drawn = [rng.uniform(*limits) for limits in (config.brightness, config.contrast, config.saturation)]
    if not is_drawn.any():
        return None
    brightness, contrast, saturation = np.where(is_drawn, drawn, 1.0).tolist()
    # the matrix of the saturation leaves greys, and so the offset, as they are
    matrix = contrast * brightness * color_matrix(saturation, 0.0)
    return np.column_stack([matrix, np.full(3, _MIDDLE_GREY * (1 - contrast))])
