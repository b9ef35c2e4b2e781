"""What a network of gaze following is given of one person: the same in training and in prediction."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.augmentation import GazeChange, change_colors, grow_box
from keypoint_detection.gaze.samples_images import (
    box_mask,
    channels_first,
    mirrored,
    stretch_affine,
    warp_part,
)
from keypoint_detection.geometry import (
    Affine,
    compose,
    horizontal_flip_affine,
    invert,
    resize_affine,
    transform_points,
)

HEAD_GROWTH = 0.1
"""The head crop shows the box of the head, larger by this share of width and height: half on each side."""

_Pixels = NDArray[np.uint8]


class PersonInputs(NamedTuple):
    """Hold the inputs of one person.

    Attributes:
        values: `scene`, `head`, `head_mask`, `eye`, `head_box`, `to_image`, and `depth` where there is one,
            as in `samples.GazeBatch` without its first axis.
        to_scene: From original pixels to those of the scene, `[2, 3]`.
    """

    values: dict[str, Any]
    to_scene: Affine


def person_inputs(
    pixels: _Pixels,
    eye: NDArray[np.float64],
    change: GazeChange,
    *,
    scene_hw: tuple[int, int],
    head_hw: tuple[int, int],
    depth: _Pixels | None = None,
) -> PersonInputs:
    """Make the inputs of one person.

    Args:
        pixels: The whole image, RGB uint8 `[h, w, 3]`.
        eye: `[2]`, original pixels; see `eye_of`.
        change: What is done to the sample; `augmentation.no_change` for a prediction.
        scene_hw: Height and width of the scene.
        head_hw: Height and width of the head crop.
        depth: The whole depth map, uint8 `[h, w, 1]` of any size; None is none.
    """
    to_frame = stretch_affine(change.shown_box, scene_hw)
    to_scene = to_frame
    if change.is_mirrored:
        to_scene = compose(to_frame, horizontal_flip_affine(scene_hw[1]))
    box = _mapped_box(to_scene, change.head_box)
    values: dict[str, Any] = {}
    crop = stretch_affine(grow_box(change.head_box, HEAD_GROWTH), head_hw)
    for name, affine, to_hw in (("scene", to_frame, scene_hw), ("head", crop, head_hw)):
        shown = mirrored(warp_part(pixels, affine, to_hw), change.is_mirrored)
        values[name] = channels_first(change_colors(shown, change.color))
    if depth is not None:
        image_hw, depth_hw = (part.shape[:2] for part in (pixels, depth))
        affine = compose(resize_affine((depth_hw[0], depth_hw[1]), (image_hw[0], image_hw[1])), to_frame)
        shown = mirrored(warp_part(depth, affine, scene_hw), change.is_mirrored)
        values["depth"] = channels_first(shown)
    values["head_mask"] = box_mask(box, scene_hw)[None]
    values["eye"] = transform_points(to_scene, eye).astype(np.float32)
    values["head_box"] = box.astype(np.float32)
    values["to_image"] = invert(to_scene).astype(np.float32)
    return PersonInputs(values, to_scene)


def eye_of(eye: NDArray[np.float64], head_box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the eye `[2]`, or the centre of the head box `[4]` where it is not finite."""
    return eye if np.isfinite(eye).all() else head_box.reshape(2, 2).mean(axis=0)


def _mapped_box(affine: Affine, box: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = transform_points(affine, box.reshape(2, 2))
    return np.concatenate([corners.min(axis=0), corners.max(axis=0)])
