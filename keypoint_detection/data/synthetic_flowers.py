"""Flowers seen from above, one to six: a stem (the heart) and three leaf tips that look alike."""

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.synthetic_drawing import Color, Floats, Layer, convex_hull, disc
from keypoint_detection.data.synthetic_scenery import (
    Subject,
    develop,
    draw_distractors,
    label,
    plain_floor,
    scale_color,
    textured_floor,
)
from keypoint_detection.records import Instance

CATEGORY = "flower"
KEYPOINTS = ("stem", "leaf0", "leaf1", "leaf2")
SKELETON = ((1, 2), (1, 3), (1, 4))
MAX_FLOWERS = 6

PETALS: tuple[Color, ...] = (
    (0.93, 0.45, 0.56),
    (0.97, 0.95, 0.92),
    (0.90, 0.33, 0.27),
    (0.64, 0.49, 0.82),
    (0.98, 0.80, 0.36),
    (0.49, 0.66, 0.92),
)
FLOORS: tuple[Color, ...] = (
    (0.34, 0.26, 0.22),
    (0.30, 0.32, 0.38),
    (0.42, 0.36, 0.33),
    (0.72, 0.66, 0.58),
    (0.60, 0.63, 0.67),
)
HEART: Color = (0.93, 0.66, 0.16)
LEAF: Color = (0.42, 0.68, 0.30)

LEAF_PROFILE = np.array([[0.05, 0.25], [0.2, 0.7], [0.35, 0.95], [0.48, 1.0], [0.6, 0.93], [0.7, 0.76]])
"""Along a leaf and half its width, as shares; from the last row the edges run straight to the tip."""
PETAL_PROFILE = np.array(
    [[0.1, 0.2], [0.35, 0.62], [0.6, 0.95], [0.75, 1.0], [0.87, 0.86], [0.95, 0.58], [0.99, 0.28]]
)


def draw_flowers(
    image_hw: tuple[int, int], clutter: bool, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draw a picture with one to six flowers; a later one may cover a leaf of an earlier one.

    Args:
        image_hw: Height and width in pixels.
        clutter: False leaves out texture, shadows, distractors, uneven light and noise.
        rng: Source of every choice.

    Returns:
        The image, uint8 `[h, w, 3]` RGB, and the flowers.
    """
    color = FLOORS[rng.integers(len(FLOORS))]
    canvas = textured_floor(image_hw, color, rng) if clutter else plain_floor(image_hw, color)
    if clutter:
        draw_distractors(canvas, int(rng.integers(1, 4)), rng)
    subjects = [_draw_flower(canvas, centre, radius, rng) for centre, radius in _places(image_hw, rng)]
    instances = []
    for number, subject in enumerate(subjects):
        later = [solid for other in subjects[number + 1 :] for solid in other.solids]
        instances.append(label(subject, later, image_hw))
    return develop(canvas, clutter, rng), instances


def _places(image_hw: tuple[int, int], rng: np.random.Generator) -> list[tuple[Floats, float]]:
    """Return the centre and the leaf length, in pixels, of each flower, hearts apart from each other."""
    wanted, frame = int(rng.integers(1, MAX_FLOWERS + 1)), np.array(image_hw[::-1], dtype=np.float64)
    largest = min(image_hw) * (0.30 - 0.025 * wanted)
    places: list[tuple[Floats, float]] = []
    for _ in range(20 * wanted):
        centre, radius = rng.uniform(0.1, 0.9, 2) * frame - 0.5, float(largest * rng.uniform(0.75, 1.0))
        apart = all(np.hypot(*(centre - other)) > 0.85 * (radius + reach) for other, reach in places)
        if apart and len(places) < wanted:
            places.append((centre, radius))
    return places


def _draw_flower(canvas: Layer, centre: Floats, radius: float, rng: np.random.Generator) -> Subject:
    """Draw leaves, petals and heart; the leaf names start at a random leaf."""
    turn = rng.uniform(0, 2 * np.pi) + np.arange(3) * (2 * np.pi / 3) + rng.uniform(-0.3, 0.3, 3)
    lengths = radius * rng.uniform(0.9, 1.0, 3)
    color, green = PETALS[rng.integers(len(PETALS))], scale_color(LEAF, rng.uniform(0.85, 1.1))
    leaves = []
    for angle, length in zip(turn, lengths, strict=True):
        leaves.append(_draw_leaf(canvas, centre, float(angle), float(length), green))
    n_petals, start = int(rng.integers(5, 9)), rng.uniform(0, 2 * np.pi)
    width, length = radius * (0.2 if n_petals < 7 else 0.16), 0.6 * radius
    angles = start + np.arange(n_petals) * (2 * np.pi / n_petals)
    petals = [_blade(centre, float(angle), float(length), float(width), PETAL_PROFILE) for angle in angles]
    canvas.shadow(disc(centre + 0.06 * radius, 0.55 * radius), 0.07 * radius, 0.35)
    for petal, angle in zip(petals, angles, strict=True):
        end = centre + length * np.array([np.cos(angle), np.sin(angle)])
        canvas.over(petal, scale_color(color, rng.uniform(0.92, 1.02)), shade=(centre, end, 0.68, 1.05))
    heart = disc(centre, 0.17 * radius)
    canvas.over(heart, HEART)
    canvas.over(disc(centre, 0.09 * radius, 16), scale_color(HEART, 0.75))
    points = {
        "stem": centre,
        **dict(zip(KEYPOINTS[1:], [leaf[len(leaf) // 2] for leaf in leaves], strict=True)),
    }
    return Subject(
        CATEGORY, points, convex_hull(np.concatenate([*leaves, *petals])), [*leaves, *petals, heart]
    )


def _draw_leaf(canvas: Layer, centre: Floats, angle: float, length: float, color: Color) -> Floats:
    """Draw a leaf of two halves in different light; return its outline, the tip in the middle of the list."""
    outline = _blade(centre, angle, length, 0.19 * length, LEAF_PROFILE)
    middle = len(outline) // 2
    canvas.shadow(outline + 0.04 * length, 0.05 * length, 0.3)
    picture, light = Layer(canvas.image_hw), 0.14 * np.sin(angle)
    near_axis = outline[[0, -1]].mean(0)[None]
    shade = (centre, outline[middle], 0.72, 1.08)
    picture.add(np.concatenate([near_axis, outline[: middle + 1]]), scale_color(color, 0.95 + light), shade)
    picture.add(np.concatenate([outline[middle:], near_axis]), scale_color(color, 0.95 - light), shade)
    canvas.paste(picture)
    return outline


def _blade(centre: Floats, angle: float, length: float, half_width: float, profile: Floats) -> Floats:
    """Return the outline `[2 n + 1, 2]` of a petal or leaf: one side, the tip, the other side."""
    along, side = length * profile[:, 0], half_width * profile[:, 1]
    flat = np.concatenate([np.stack([along, -side], 1), [[length, 0.0]], np.stack([along, side], 1)[::-1]])
    cosine, sine = np.cos(angle), np.sin(angle)
    return centre + flat @ np.array([[cosine, sine], [-sine, cosine]])
