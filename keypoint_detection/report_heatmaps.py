"""Heatmaps of a few images as transparent pictures that lie over them."""

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.data.coco_dataset import channels_first
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.geometry import (
    Affine,
    box_affine,
    compose,
    invert,
    letterbox_affine,
    resize_affine,
    warp_image,
)
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.report_images import PICTURE_PX
from keypoint_detection.report_samples import Evaluated

MOST_OPAQUE = 0.85
"""Opacity where the probability is 1: the image stays visible below."""


@torch.inference_mode()
def heatmap_picture(detector: KeypointDetector, evaluated: Evaluated, row: int) -> bytes | None:
    """Return a PNG of the greatest magnitude of any channel and crop, in the frame of the image's picture.

    Args:
        detector: In eval mode.
        evaluated: Says how the detector was run.
        row: The image, as a row of the table.

    Returns:
        The file's bytes; None where the head makes no heatmaps or the image cannot be read.
    """
    try:
        image = load_image(evaluated.table.image_path(row), detector.backbone.in_channels)
    except (OSError, ValueError):
        return None
    image_hw = (image.shape[0], image.shape[1])
    picture_hw = picture_size(image_hw)
    largest = np.zeros(picture_hw, np.float32)
    for to_input, input_hw in _frames(evaluated, row, image_hw):
        frame = warp_image(image, to_input, input_hw)
        output = detector(torch.from_numpy(channels_first(frame))[None].to(detector.device))
        if output.ndim != 4:
            return None
        probability = detector.head.maps(output)[0].abs().amax(0).cpu().numpy()
        to_picture = compose(
            _from_heatmap(detector.backbone.stride), invert(to_input), resize_affine(image_hw, picture_hw)
        )
        np.maximum(largest, _warped(probability, to_picture, picture_hw), out=largest)
    return coloured_png(largest)


def picture_size(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the large copy of an image."""
    scale = min(1.0, PICTURE_PX / max(image_hw))
    return max(round(image_hw[0] * scale), 1), max(round(image_hw[1] * scale), 1)


def coloured_png(probability: NDArray[np.float32]) -> bytes:
    """Return probabilities `[h, w]` as a PNG in viridis, the more opaque the higher."""
    bounded = np.clip(probability, 0.0, 1.0)
    colours = cv2.applyColorMap((bounded * 255).round().astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    # The root lets low probabilities be seen at all.
    alpha = (np.sqrt(bounded) * (255 * MOST_OPAQUE)).round().astype(np.uint8)
    done, png = cv2.imencode(".png", np.dstack([colours, alpha]))
    if not done:
        raise ValueError(f"expected a picture of {probability.shape} to become a PNG; OpenCV refused")
    return png.tobytes()


def _frames(
    evaluated: Evaluated, row: int, image_hw: tuple[int, int]
) -> list[tuple[Affine, tuple[int, int]]]:
    """Return the affine into the network's frame and the size of the frame for each sample of an image."""
    inference: dict[str, Any] = evaluated.files.report["inference"]
    size = inference.get("image_size")
    input_hw = (int(size[0]), int(size[1])) if size else image_hw
    boxes = [evaluated.files.found[sample].box for sample in np.flatnonzero(evaluated.row == row)]
    if evaluated.files.is_whole_image:
        return [(letterbox_affine(image_hw, input_hw), input_hw)]
    padding = inference.get("box_padding") or 1.0
    return [(box_affine(box, input_hw, padding), input_hw) for box in boxes if box is not None]


def _from_heatmap(stride: int) -> Affine:
    """Return the map from heatmap pixels to pixels of the network's frame."""
    return resize_affine((1, 1), (stride, stride))


def _warped(probability: NDArray[np.float32], affine: Affine, to_hw: tuple[int, int]) -> NDArray[np.float32]:
    """Warp a map into the picture; where it is made smaller, peaks are widened first, lest they are lost."""
    shrink = 1.0 / max(math.sqrt(abs(float(np.linalg.det(affine[:, :2])))), 1e-6)
    if shrink > 2:
        box = round(shrink) // 2 * 2 + 1
        probability = np.asarray(cv2.dilate(probability, np.ones((box, box), np.uint8)), np.float32)
    warped = cv2.warpAffine(probability, affine, to_hw[::-1], flags=cv2.INTER_LINEAR, borderValue=0.0)
    return warped.astype(np.float32, copy=False)
