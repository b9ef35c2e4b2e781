"""Random changes of a training image: one combined warp, one colour map, and now and then blur and noise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from statistics import NormalDist

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from keypoint_detection.data.image_warp import warp_colors
from keypoint_detection.geometry import (
    Affine,
    compose,
    horizontal_flip_affine,
    letterbox_affine,
    similarity_affine,
    transform_points,
    vertical_flip_affine,
)

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_MIDDLE_GREY = 127.5
_LARGEST_MARGIN = 0.1
# Noise through a table of the normal quantiles of 256 bytes costs a sixth of drawing normal numbers.
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)])


@dataclass(frozen=True)
class AugmentationConfig:
    """Hold every strength; a probability or strength of 0 is off.

    Attributes:
        scale: Largest zoom, in or out, as a factor; drawn uniformly in its logarithm from [1 / scale, scale].
        rotation_degrees: Rotation by up to this angle either way; 180 where images have no upright direction.
        translation: Shift by up to this share of the frame's width and height either way.
        keep_keypoints: Probability of moving a sample back by as little as brings all its keypoints into the
            frame, where they fit: a rotation about the centre would otherwise turn many of them out of it.
        horizontal_flip: Probability of mirroring left and right (names such as left_eye change places).
        vertical_flip: Probability of mirroring top and bottom (names change places as well).
        color: One factor in [0, 1] on everything below: 0 leaves the values of the pixels alone.
        brightness: Up to this share of the full range is added or taken away.
        contrast: Contrast changes by up to this share either way.
        saturation: Saturation changes by up to this share either way (RGB only).
        hue_degrees: Hue turns by up to this angle either way (RGB only).
        color_probability: Share of the images that the four changes above apply to.
        blur_sigma_px: Smallest and largest sigma of a Gaussian blur, in frame pixels.
        blur_probability: Share of the images that are blurred.
        noise_std: Smallest and largest standard deviation of white noise, in grey levels of 255.
        noise_probability: Share of the images that get noise.
    """

    scale: float = 1.25
    rotation_degrees: float = 30.0
    translation: float = 0.1
    keep_keypoints: float = 0.9
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    color: float = 1.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue_degrees: float = 10.0
    color_probability: float = 0.8
    blur_sigma_px: tuple[float, float] = (0.3, 1.5)
    blur_probability: float = 0.1
    noise_std: tuple[float, float] = (1.0, 8.0)
    noise_probability: float = 0.2

    def __post_init__(self) -> None:
        limits = {"scale": (1.0, math.inf), "rotation_degrees": (0.0, 180.0), "hue_degrees": (0.0, 180.0)}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high = limits.get(field.name, (0.0, 1.0))
            if isinstance(value, tuple | list):
                if len(value) != 2 or not 0 < value[0] <= value[1] < math.inf:
                    raise ValueError(
                        f"{field.name}: expected two numbers, 0 < low <= high, got {list(value)}"
                    )
            elif not low <= value <= high or math.isinf(value):
                raise ValueError(f"{field.name}: expected a number from {low:g} to {high:g}, got {value}")


@dataclass(frozen=True)
class ValueChange:
    """Hold how the values of an image change; the defaults change nothing.

    Attributes:
        is_colored: False leaves out the next four.
        gain: Factor on every value.
        offset: Added to every value, grey levels of 255.
        saturation: As in `color_matrix`, RGB only.
        hue_degrees: As in `color_matrix`, RGB only.
        blur_sigma_px: Sigma of a Gaussian blur, 0 for none.
        noise_std: Standard deviation of white noise in grey levels, 0 for none.
    """

    is_colored: bool = False
    gain: float = 1.0
    offset: float = 0.0
    saturation: float = 1.0
    hue_degrees: float = 0.0
    blur_sigma_px: float = 0.0
    noise_std: float = 0.0

    def matrix(self, n_channels: int) -> NDArray[np.float64]:
        """Return what happens to the colours as `[c, c + 1]`, a matrix and an offset."""
        linear = self.gain * np.eye(n_channels)
        if n_channels == 3:
            linear = self.gain * color_matrix(self.saturation, self.hue_degrees)
        return np.column_stack([linear, np.full(n_channels, self.offset)])


class Augmenter:
    """Change images at random, and say by which affine, so that keypoints can follow."""

    def __init__(self, config: AugmentationConfig, swap: Mapping[str, str] | None = None) -> None:
        """Store the settings.

        Args:
            config: All strengths.
            swap: Keypoint name to its name in a mirrored image (identity where absent). Whoever calls the
                augmenter exchanges the names when the affine mirrors.
        """
        self.config = config
        self.swap = dict(swap or {})

    def __call__(
        self,
        image: NDArray[np.uint8],
        to_hw: tuple[int, int],
        generator: Generator,
        points: NDArray[np.floating] | None = None,
        *,
        base: Affine | None = None,
    ) -> tuple[NDArray[np.uint8], Affine]:
        """Fit an image, or the part of it that a map shows, into a frame and change it at random.

        Args:
            image: `[h, w, c]`, uint8; colours change as RGB where c is 3.
            to_hw: Height and width of the frame.
            generator: Source of all randomness: the same state gives the same result.
            points: `[p, 2]`, keypoints in pixels of `image` that should stay in the frame.
            base: As in `random_affine`.

        Returns:
            The new image `[to_h, to_w, c]`, uint8, and the affine from pixels of `image` to pixels of the
            frame.
        """
        image_hw = (image.shape[0], image.shape[1])
        affine = self.draw_affine(image_hw, to_hw, generator, points, base=base)
        return self.change_values(warp_colors(image, affine, to_hw), generator), affine

    def draw_affine(
        self,
        from_hw: tuple[int, int],
        to_hw: tuple[int, int],
        generator: Generator,
        points: NDArray[np.floating] | None = None,
        *,
        base: Affine | None = None,
    ) -> Affine:
        """Draw the whole map of a call, with the points kept in the frame."""
        affine = self.random_affine(from_hw, to_hw, generator, base=base)
        margin_xy = generator.uniform(0.0, _LARGEST_MARGIN) * np.array(to_hw[::-1])
        if generator.random() < self.config.keep_keypoints and points is not None and len(points):
            affine = shift_into_frame(affine, points, to_hw, margin_xy)
        return affine

    def random_affine(
        self,
        from_hw: tuple[int, int],
        to_hw: tuple[int, int],
        generator: Generator,
        *,
        base: Affine | None = None,
    ) -> Affine:
        """Draw the map from an image into a frame: a fixed one, then scale, rotation, shift and flips.

        Args:
            from_hw: Height and width of the image in pixels.
            to_hw: Height and width of the frame in pixels.
            generator: Source of all randomness.
            base: `[2, 3]`, the map from image to frame without any change, such as that of a box; None is
                the letterbox. What is random happens about the centre of the frame after it.
        """
        config = self.config
        fit = letterbox_affine(from_hw, to_hw) if base is None else base
        zoom = config.scale ** generator.uniform(-1.0, 1.0)
        degrees = _around_zero(generator, config.rotation_degrees)
        shift_x = _around_zero(generator, config.translation) * to_hw[1]
        shift_y = _around_zero(generator, config.translation) * to_hw[0]
        affine = compose(fit, similarity_affine(to_hw, to_hw, zoom, degrees, (shift_x, shift_y)))
        if generator.random() < config.horizontal_flip:
            affine = compose(affine, horizontal_flip_affine(to_hw[1]))
        if generator.random() < config.vertical_flip:
            affine = compose(affine, vertical_flip_affine(to_hw[0]))
        return affine

    def change_values(self, image: NDArray[np.uint8], generator: Generator) -> NDArray[np.uint8]:
        """Change colours, blur and add noise, each with its probability; `[h, w, c]` uint8 in and out."""
        change = self.draw_values(generator)
        if change.is_colored:
            if image.shape[2] == 3:
                matrix = change.gain * color_matrix(change.saturation, change.hue_degrees)
                image = map_colors(image, matrix, change.offset)
            else:
                image = map_values(image, change.gain, change.offset)
        if change.blur_sigma_px > 0:
            image = blur(image, change.blur_sigma_px)
        if change.noise_std > 0:
            image = add_noise(image, change.noise_std, generator)
        return image

    def draw_values(self, generator: Generator) -> ValueChange:
        """Draw how colours change, and whether blur and noise come on top."""
        config, change = self.config, ValueChange()
        if generator.random() < config.color_probability:
            brightness, contrast, saturation, hue_degrees = (
                _around_zero(generator, strength * config.color)
                for strength in (config.brightness, config.contrast, config.saturation, config.hue_degrees)
            )
            # contrast leaves the middle grey where it is
            offset = 255 * brightness - _MIDDLE_GREY * contrast
            change = ValueChange(True, 1 + contrast, offset, 1 + saturation, hue_degrees)
        if generator.random() < config.blur_probability * config.color:
            change = replace(change, blur_sigma_px=generator.uniform(*config.blur_sigma_px))
        if generator.random() < config.noise_probability * config.color:
            change = replace(change, noise_std=generator.uniform(*config.noise_std))
        return change


def shift_into_frame(
    affine: Affine, points: NDArray[np.floating], to_hw: tuple[int, int], margin_xy: NDArray[np.floating]
) -> Affine:
    """Move what an affine maps by as little as brings all points into the frame.

    Args:
        affine: `[2, 3]`, into the frame.
        points: `[p, 2]`, at least one, in the pixels that the affine maps from.
        to_hw: Height and width of the frame.
        margin_xy: `[2]`, least distance of the points to the border, in pixels.

    Returns:
        `[2, 3]`. Along an axis on which the points do not fit, nothing moves.
    """
    mapped = transform_points(affine, points)
    low, high = mapped.min(axis=0) - margin_xy, mapped.max(axis=0) + margin_xy
    last = np.array(to_hw[::-1]) - 1.0
    shift = np.maximum(-low, 0.0) - np.maximum(high - last, 0.0)
    shifted = affine.copy()
    shifted[:, 2] += np.where(high - low <= last, shift, 0.0)
    return shifted


def color_matrix(saturation: float, hue_degrees: float) -> NDArray[np.float64]:
    """Return the matrix `[3, 3]` for RGB that turns the hue about the grey axis, then scales saturation.

    Greys stay as they are. Saturation 0 gives the luma of ITU-R BT.601, 1 changes nothing.
    """
    angle = math.radians(hue_degrees)
    cross = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = math.cos(angle) * np.eye(3) + (1 - math.cos(angle)) / 3 + math.sin(angle) * cross
    return (saturation * np.eye(3) + (1 - saturation) * _LUMA) @ turn


def map_colors(image: NDArray[np.uint8], matrix: NDArray[np.float64], offset: float) -> NDArray[np.uint8]:
    """Multiply every RGB value of `[h, w, 3]` by a matrix `[3, 3]`, add an offset, clip to uint8."""
    linear = np.column_stack([matrix, np.full(3, offset)])
    return cv2.transform(image, linear).astype(np.uint8, copy=False)


def map_values(image: NDArray[np.uint8], gain: float, offset: float) -> NDArray[np.uint8]:
    """Multiply every value of `[h, w, c]` by a gain, add an offset, clip to uint8."""
    table = np.clip(np.rint(np.arange(256) * gain + offset), 0, 255).astype(np.uint8)
    return cv2.LUT(image, table).reshape(image.shape).astype(np.uint8, copy=False)


def blur(image: NDArray[np.uint8], sigma_px: float) -> NDArray[np.uint8]:
    """Blur `[h, w, c]` by a Gaussian."""
    return cv2.GaussianBlur(image, (0, 0), sigma_px).reshape(image.shape).astype(np.uint8, copy=False)


def add_noise(image: NDArray[np.uint8], std: float, generator: Generator) -> NDArray[np.uint8]:
    """Add white normal noise of `std` grey levels, independent for every value of `[h, w, c]`; clip."""
    noise_by_byte = np.rint(_NORMAL_QUANTILES * std).astype(np.int16)
    # eight bytes to a number cost less than half of a byte each
    numbers = generator.integers(0, 2**64, (image.size + 7) // 8, dtype=np.uint64)
    noise = cv2.LUT(numbers.view(np.uint8)[: image.size].reshape(image.shape), noise_by_byte)
    noisy = cv2.add(image, noise.reshape(image.shape), dtype=cv2.CV_8U)
    return noisy.reshape(image.shape).astype(np.uint8, copy=False)


def _around_zero(generator: Generator, strength: float) -> float:
    return generator.uniform(-strength, strength)
