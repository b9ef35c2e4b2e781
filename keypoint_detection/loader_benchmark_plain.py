"""The plain way to load images: decode, change one thing after the other, and make floats."""

import importlib
import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.geometry import PAD_VALUE, similarity_affine, transform_points

Change = Callable[[NDArray[np.uint8], NDArray[np.float64]], tuple[NDArray[np.uint8], NDArray[np.float64]]]

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


class PlainImages(Dataset[tuple[Tensor, Tensor]]):
    """Give normalised float images with their points, augmented with the strengths of a configuration.

    Attributes:
        tools: What decodes and what augments, in words.
    """

    def __init__(self, table: KeypointTable, config: AugmentationConfig) -> None:
        self._table = table
        self._decode, decoder = _decoder()
        self._change, changer = _albumentations(config) or (
            _step_by_step(config),
            "one OpenCV call per change",
        )
        self.tools = f"{decoder}, {changer}"

    def __len__(self) -> int:
        return len(self._table.image_ids)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the image `[3, h, w]` and its points `[p, 2]`."""
        image = np.ascontiguousarray(self._decode(str(self._table.image_path(index)))[..., :3])
        first, last = self._table.first_point[index : index + 2]
        image, points = self._change(image, self._table.xy[first:last].astype(np.float64))
        values = (image.astype(np.float32) / 255 - MEAN) / STD
        return torch.from_numpy(values.transpose(2, 0, 1).copy()), torch.from_numpy(points)


def _decoder() -> tuple[Callable[[str], NDArray[np.uint8]], str]:
    """Return scikit-image's reader, imageio's or Pillow's: the first that is installed, and its name."""
    for module, name in (("skimage.io", "scikit-image"), ("imageio.v3", "imageio")):
        try:
            return importlib.import_module(module).imread, name
        except ModuleNotFoundError:
            continue
    from PIL import Image

    return lambda path: np.asarray(Image.open(path).convert("RGB")), "Pillow (no scikit-image here)"


def _albumentations(config: AugmentationConfig) -> tuple[Change, str] | None:
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations as A  # pyright: ignore[reportMissingImports] - optional
    except ModuleNotFoundError:
        return None
    degrees, shift, hue = config.rotation_degrees, config.translation, config.hue_degrees / 360
    pipeline = A.Compose(
        [
            A.Affine(
                scale=(1 / config.scale, config.scale),
                rotate=(-degrees, degrees),
                translate_percent=(-shift, shift),
                fill=PAD_VALUE,
                p=1.0,
            ),
            A.HorizontalFlip(p=config.horizontal_flip),
            A.ColorJitter(
                brightness=config.brightness,
                contrast=config.contrast,
                saturation=config.saturation,
                hue=(-hue, hue),
                p=config.color_probability,
            ),
            A.GaussianBlur(blur_limit=0, sigma_limit=config.blur_sigma_px, p=config.blur_probability),
            A.GaussNoise(
                std_range=(config.noise_std[0] / 255, config.noise_std[1] / 255), p=config.noise_probability
            ),
        ],
        keypoint_params=A.KeypointParams(format="xy", remove_invisible=False),
    )

    def change(
        image: NDArray[np.uint8], points: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        changed = pipeline(image=image, keypoints=points)
        return changed["image"], np.asarray(changed["keypoints"], np.float64).reshape(-1, 2)

    return change, f"albumentations {A.__version__}"


def _step_by_step(config: AugmentationConfig) -> Change:
    rng = np.random.default_rng(0)

    def change(
        image: NDArray[np.uint8], points: NDArray[np.float64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        image, points = _moved(image, points, config, rng)
        if rng.random() < config.color_probability:
            image = _recolored(image, config, rng)
        if rng.random() < config.blur_probability:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(*config.blur_sigma_px)).astype(np.uint8)
        if rng.random() < config.noise_probability:
            noise = rng.normal(0.0, rng.uniform(*config.noise_std), image.shape)
            image = np.clip(image + noise, 0, 255).astype(np.uint8)
        return image, points

    return change


def _moved(image: NDArray, points: NDArray, config: AugmentationConfig, rng: np.random.Generator) -> Any:
    height, width = image.shape[:2]
    zoom, degrees = config.scale ** rng.uniform(-1, 1), config.rotation_degrees * rng.uniform(-1, 1)
    shift = config.translation * rng.uniform(-1, 1, 2) * [width, height]
    affine = similarity_affine((height, width), (height, width), zoom, degrees, (shift[0], shift[1]))
    image = cv2.warpAffine(image, affine, (width, height), borderValue=(PAD_VALUE,) * 3)
    points = transform_points(affine, points)
    if rng.random() < config.horizontal_flip:
        image, points = np.ascontiguousarray(image[:, ::-1]), points * [-1, 1] + [width - 1, 0]
    return image, points


def _recolored(image: NDArray, config: AugmentationConfig, rng: np.random.Generator) -> Any:
    """Change brightness, contrast, saturation and hue, one after the other as image libraries do."""
    levels = np.arange(256)
    image = cv2.LUT(
        image, np.clip(levels + 255 * config.brightness * rng.uniform(-1, 1), 0, 255).astype(np.uint8)
    )
    gain = 1 + config.contrast * rng.uniform(-1, 1)
    image = cv2.LUT(image, np.clip((levels - 127.5) * gain + 127.5, 0, 255).astype(np.uint8))
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    share = 1 + config.saturation * rng.uniform(-1, 1)
    image = cv2.addWeighted(image, share, grey, 1 - share, 0)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    turned = (levels + round(config.hue_degrees * rng.uniform(-1, 1) / 2)) % 180
    hsv[..., 0] = cv2.LUT(hsv[..., 0], turned.astype(np.uint8))
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
