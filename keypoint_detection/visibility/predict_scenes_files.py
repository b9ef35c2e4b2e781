"""The files of an image to predict on, read and checked before anything is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.predict_source import check_name
from keypoint_detection.visibility.scenes import Scene, load_depth, load_labels


@dataclass(frozen=True)
class SceneFiles:
    """Hold what the files of one image say.

    Attributes:
        image: uint8 RGB, `[h, w, 3]`.
        depth_m: Metres, `[h, w]`, see `load_depth`; None without a depth map.
        labels: Of `load_labels`, `[h, w]`; None without masks.
    """

    image: NDArray[np.uint8]
    depth_m: NDArray[np.float32] | None
    labels: NDArray[np.uint8] | None


def read_scene(scene: Scene) -> SceneFiles:
    """Read the files of an image.

    Raises:
        FileNotFoundError: One is missing.
        ValueError: One is damaged, they differ in size, or the name is not UTF-8; one line.
    """
    check_name(scene.image_path)
    image = load_image(scene.image_path)
    depth_m = None if scene.depth_path is None else load_depth(scene)
    if depth_m is not None:
        _check_hw(scene, scene.depth_path, depth_m, image.shape)
    if scene.visible_path is None and scene.nonvisible_path is None:
        return SceneFiles(image, depth_m, None)
    labels = load_labels(scene)
    _check_hw(scene, scene.visible_path or scene.nonvisible_path, labels, image.shape)
    return SceneFiles(image, depth_m, labels)


def _check_hw(scene: Scene, path: Path | None, found: NDArray[Any], hw: Sequence[int]) -> None:
    if found.shape != tuple(hw[:2]):
        raise ValueError(
            f"{path}: expected {hw[0]}x{hw[1]} pixels as the image {scene.image_path}, got "
            f"{found.shape[0]}x{found.shape[1]}"
        )
