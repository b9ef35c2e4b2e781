"""What covers drawn ground: fields, woods, rock, high pasture or snow, and their grain."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Rgb = tuple[float, float, float]


class Palette(NamedTuple):
    """Hold the colours of one kind of country: low ground, fields in it, woods, steep and high ground."""

    low: Rgb
    patch: Rgb
    wood: Rgb
    rock: Rgb
    high: Rgb


PALETTES = (
    Palette(
        (0.30, 0.36, 0.16), (0.42, 0.42, 0.20), (0.09, 0.15, 0.08), (0.34, 0.31, 0.28), (0.62, 0.63, 0.66)
    ),
    Palette(
        (0.44, 0.36, 0.20), (0.54, 0.44, 0.26), (0.20, 0.20, 0.10), (0.40, 0.27, 0.19), (0.48, 0.38, 0.28)
    ),
    Palette(
        (0.24, 0.34, 0.18), (0.16, 0.25, 0.14), (0.06, 0.12, 0.09), (0.22, 0.22, 0.23), (0.30, 0.34, 0.24)
    ),
    Palette(
        (0.36, 0.28, 0.14), (0.44, 0.25, 0.12), (0.20, 0.13, 0.08), (0.30, 0.27, 0.26), (0.42, 0.36, 0.30)
    ),
    Palette(
        (0.20, 0.21, 0.20), (0.30, 0.30, 0.26), (0.12, 0.13, 0.13), (0.15, 0.14, 0.15), (0.56, 0.58, 0.62)
    ),
    Palette(
        (0.40, 0.42, 0.28), (0.52, 0.48, 0.30), (0.14, 0.19, 0.12), (0.46, 0.42, 0.36), (0.50, 0.48, 0.42)
    ),
)


def draw_cover(
    shape: tuple[int, int],
    far: NDArray[np.floating],
    relief: Floats,
    steepness: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Return the colour of the ground in even light on the polar grid, `[distances, columns, 3]`, 0..1.

    Args:
        shape: Distances and columns.
        far: Logarithm of each distance as a share of the whole range, `[distances]`.
        relief: How far the ground rises above its surroundings, about -1..1, `[distances, columns]`.
        steepness: 0 level, 1 upright, `[distances, columns]`.
        rng: Source of every choice.
    """
    one, other = (np.array(PALETTES[index]) for index in rng.choice(len(PALETTES), 2, replace=False))
    tint = rng.uniform(0.9, 1.15) + rng.normal(0, 0.04, 3)
    share = rng.uniform(0.0, 0.6)
    low, patch, wood, rock, high = (((1 - share) * one + share * other) * tint).astype(np.float32)
    n_columns, away = shape[1], np.asarray(far, dtype=np.float32)[:, None]
    # Seen at a low angle the ground is foreshortened: patches are wider than they are long.
    broad, mid, small = (
        noise(shape, (size * 0.11, size), rng) for size in np.array([0.22, 0.08, 0.03]) * n_columns
    )
    fields = noise(shape, (0.012 * n_columns, 0.12 * n_columns), rng) + 0.7 * small
    color = mixed(np.broadcast_to(low, (*shape, 3)), patch, soft(fields, 0.5))
    woods = 0.8 * broad + 0.6 * mid + 0.4 * small + rng.uniform(-0.3, 0.4) - 0.5 * relief
    color = mixed(color, wood, soft(woods, 0.22))
    color = mixed(
        color, rock, soft(3.0 * (steepness - rng.uniform(0.16, 0.26)) + 0.15 * small + 0.1 * mid, 0.2)
    )
    heights = 5.0 * (away - rng.uniform(0.84, 1.0)) + 0.8 * relief + 0.3 * mid - 1.2 * steepness
    return mixed(color, high, np.float32(0.9) * soft(heights, 0.25))


def grain(shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Return factors of brightness about 1, `[h, w]`, of bushes and trees.

    The grain is that of the picture, not of the ground: near by it stands for bushes, far off for woods, so
    that every distance has texture to lose in the haze.
    """
    sizes = (1.7, 3.5, 8.0, 18.0)
    weights = rng.uniform(0.10, 0.18, len(sizes)) * (1.0, 1.0, 0.8, 0.6)
    total = np.zeros(shape, dtype=np.float32)
    for size, weight in zip(sizes, weights, strict=True):
        total += np.float32(weight) * noise(shape, (0.6 * size, size), rng)
    return np.exp(total)


def noise(shape: tuple[int, int], cell: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Return smooth noise `[h, w]` of mean 0 and deviation about 1 with features as large as `cell`."""
    cells = [max(round(side / size), 1) + 3 for side, size in zip(shape, cell, strict=True)]
    coarse = rng.standard_normal(cells, dtype=np.float32)
    full = [max(round(number * size), side) for number, size, side in zip(cells, cell, shape, strict=True)]
    smooth = cv2.resize(coarse, full[::-1], interpolation=cv2.INTER_CUBIC)
    top, left = ((have - side) // 2 for have, side in zip(full, shape, strict=True))
    part = smooth[top : top + shape[0], left : left + shape[1]]
    return part.astype(np.float32, copy=False) * np.float32(1.35)


def soft(value: NDArray[np.floating], width: float) -> Floats:
    """Return a step from 0 to 1 around 0 that is about `width` wide on either side."""
    share = np.clip(0.5 + value.astype(np.float32, copy=False) / np.float32(2 * width), 0.0, 1.0)
    return (share * share * (np.float32(3.0) - np.float32(2.0) * share)).astype(np.float32, copy=False)


def mixed(color: NDArray[np.float32], other: Floats, share: Floats) -> Floats:
    """Return `color [h, w, 3]` with `other [3]` in its place by `share [h, w]`."""
    return (color + share[..., None] * (other - color)).astype(np.float32, copy=False)
