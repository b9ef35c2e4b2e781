"""What the drawn data sets share: floors, distractors, light and noise, and the labels of what was drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.synthetic_drawing import (
    Color,
    Floats,
    Layer,
    clip_convex,
    covers,
    disc,
    signed_area,
    strip,
)
from keypoint_detection.geometry import is_inside
from keypoint_detection.records import Instance, Keypoint

TOYS: tuple[Color, ...] = (
    (0.86, 0.33, 0.28),
    (0.95, 0.72, 0.25),
    (0.27, 0.58, 0.76),
    (0.36, 0.66, 0.47),
    (0.55, 0.42, 0.67),
    (0.93, 0.92, 0.88),
    (0.20, 0.24, 0.30),
)
"""Colours of distractors and of what covers a keypoint."""


@dataclass(frozen=True)
class Subject:
    """Hold one labelled object as drawn.

    Attributes:
        category: Category name.
        points: `[2]` in pixels by keypoint name, inside or outside the image.
        outline: Convex outline `[n, 2]` that gives box and area.
        solids: Polygons that hide whatever was drawn earlier.
    """

    category: str
    points: Mapping[str, Floats]
    outline: Floats
    solids: Sequence[Floats]


def label(subject: Subject, in_front: Sequence[Floats], image_hw: tuple[int, int]) -> Instance:
    """Return the labels of an object: points outside the image left out, covered ones with visibility 1.

    Args:
        subject: The object as drawn.
        in_front: Polygons drawn after it.
        image_hw: Height and width in pixels.

    Returns:
        The instance; its box and area are those of the part of its outline that lies inside the image.
    """
    keypoints = {}
    for name, point in subject.points.items():
        if is_inside(point, image_hw):
            hidden = any(covers(solid, point) for solid in in_front)
            keypoints[name] = Keypoint(float(point[0]), float(point[1]), visibility=1 if hidden else 2)
    frame = frame_outline(image_hw)
    shown = clip_convex(subject.outline, frame)
    low, high = np.maximum(shown.min(0), frame[0]), np.minimum(shown.max(0), frame[2])  # the cut rounds
    box = (float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1]))
    return Instance(keypoints, subject.category, box=box, area=abs(signed_area(shown)))


def frame_outline(image_hw: tuple[int, int]) -> Floats:
    """Return the four corners of an image, `[4, 2]`."""
    x, y = image_hw[1] - 0.5, image_hw[0] - 0.5
    return np.array([[-0.5, -0.5], [x, -0.5], [x, y], [-0.5, y]])


def plain_floor(image_hw: tuple[int, int], color: Color, shadows: bool = False) -> Layer:
    """Return a floor of one colour, as a rule without shadows."""
    layer = Layer(image_hw, shadows)
    layer.pixels[...] = (*color, 1.0)
    return layer


def textured_floor(image_hw: tuple[int, int], color: Color, rng: np.random.Generator) -> Layer:
    """Return a floor with cloudy stains and, more often than not, planks or tiles."""
    layer, tone = plain_floor(image_hw, color, shadows=True), np.ones(image_hw, dtype=np.float32)
    if rng.random() < 0.6:
        angle, pitch = rng.uniform(0, np.pi), min(image_hw) * rng.uniform(0.16, 0.3)
        tiles = rng.random() < 0.5
        tone *= _planks(image_hw, float(angle), float(pitch), 0.02 if tiles else 0.09, rng)
        if tiles:
            tone *= _planks(image_hw, float(angle + np.pi / 2), float(pitch), 0.02, rng)
    for cells, strength in ((4, 0.10), (12, 0.06), (40, 0.05)):
        coarse = rng.random((cells, cells), dtype=np.float32) - 0.5
        tone += strength * cv2.resize(coarse, image_hw[::-1], interpolation=cv2.INTER_CUBIC)
    layer.pixels[..., :3] = np.minimum(layer.pixels[..., :3] * tone[..., None], 1.0)
    return layer


def _planks(
    image_hw: tuple[int, int], angle: float, pitch_px: float, variation: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return brightness factors `[h, w]` of parallel planks of varying tone with dark joints between them."""
    y, x = np.arange(image_hw[0])[:, None], np.arange(image_hw[1])[None, :]
    across = (x * np.cos(angle) + y * np.sin(angle)) / pitch_px + rng.random()
    number = np.floor(across).astype(np.int64)
    tones = 1.0 + variation * rng.uniform(-1, 1, int(number.max() - number.min()) + 1)
    to_joint_px = np.minimum(across - number, number + 1 - across) * pitch_px
    joint = np.clip(0.006 * min(image_hw) + 0.5 - to_joint_px, 0.0, 1.0)
    return (tones[number - number.min()] * (1.0 - 0.16 * joint)).astype(np.float32)


def draw_distractors(layer: Layer, n: int, rng: np.random.Generator) -> None:
    """Draw small triangles, discs and cables that carry no label."""
    height, width = layer.image_hw
    size = min(height, width)
    for _ in range(n):
        kind, color = rng.integers(3), TOYS[rng.integers(len(TOYS))]
        centre = rng.uniform(0.03, 0.97, 2) * (width, height)
        radius = size * rng.uniform(0.025, 0.06)
        if kind == 0:
            turns = rng.uniform(0, 2 * np.pi) + np.array([0.0, 2.1, 4.2]) + rng.uniform(-0.3, 0.3, 3)
            outline = centre + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
        elif kind == 1:
            outline = disc(centre, radius)
        else:
            turn = rng.uniform(0, np.pi)
            half = size * rng.uniform(0.06, 0.16) * np.array([np.cos(turn), np.sin(turn)])
            outline = strip(centre - half, centre + half, size * rng.uniform(0.01, 0.018))
        layer.shadow(outline + 0.012 * size, 0.012 * size, 0.35)
        layer.over(outline, color, shade=(outline.min(0), outline.max(0), 1.06, 0.86))


def draw_cover(layer: Layer, point: Floats, radius: float, rng: np.random.Generator) -> Floats:
    """Draw a ball or a sheet of paper over a keypoint and return its outline `[n, 2]`."""
    angle = rng.uniform(0, 2 * np.pi)
    centre = point + radius * rng.uniform(0, 0.5) * np.array([np.cos(angle), np.sin(angle)])
    ball = rng.random() < 0.6
    color = TOYS[rng.integers(len(TOYS))] if ball else (0.93, 0.92, 0.90)
    outline = disc(centre, radius) if ball else 1.2 * (disc((0, 0), radius, 4) @ _rotation(angle)) + centre
    layer.shadow(outline + 0.25 * radius, 0.3 * radius, 0.35)
    layer.over(outline, color, shade=(centre - radius, centre + radius, 1.1, 0.75 if ball else 0.95))
    if ball:
        for share, opacity in ((0.55, 0.16), (0.36, 0.22), (0.16, 0.5)):
            layer.over(disc(centre - 0.32 * radius, share * radius, 16), (1.0, 1.0, 1.0), opacity)
    return outline


def _rotation(angle: float) -> Floats:
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def develop(layer: Layer, clutter: bool, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the photograph of an opaque layer, uint8 `[h, w, 3]`; clutter adds uneven light and noise."""
    image = layer.pixels[..., :3] * np.float32(255.0)
    if clutter:
        height, width = layer.image_hw
        x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.0, 0.16)
        slope = np.float32(strength * np.cos(angle)) * x + np.float32(strength * np.sin(angle)) * y
        light = np.float32(rng.uniform(0.92, 1.12)) + slope - np.float32(0.07) * (x * x + y * y)
        tint = 1.0 + rng.uniform(-0.04, 0.04, 3).astype(np.float32)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        image = image * light[..., None] * tint + np.float32(rng.uniform(1.5, 5.0)) * noise
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def scale_color(color: Color, factor: float) -> Color:
    """Return a colour made brighter or darker, still within [0, 1]."""
    red, green, blue = (min(max(part * factor, 0.0), 1.0) for part in color)
    return red, green, blue
