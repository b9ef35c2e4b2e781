"""The things in a drawn scene, of many shapes and colours, and the textured ground behind them."""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.synthetic_rays import Floats

Color = tuple[int, int, int]

SUPERSAMPLING = 2
"""Pixels of a canvas per pixel of the picture along each axis."""

_SHIFT = 4  # OpenCV's drawing then counts in sixteenths of a pixel


def _regular(n_corners: int) -> Floats:
    angle = np.arange(n_corners) * (2 * np.pi / n_corners)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _star() -> Floats:
    return np.where(np.arange(10) % 2, 0.5, 1.0)[:, None] * _regular(10)


def _cross() -> Floats:
    arm = 0.36
    reach = float(np.sqrt(1 - arm**2))
    quarter = np.array([[reach, -arm], [reach, arm], [arm, arm]])
    turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    return np.concatenate([quarter @ np.linalg.matrix_power(turn, times) for times in range(4)])


def _book() -> Floats:
    return np.array([[0.86, 0.5], [-0.86, 0.5], [-0.86, -0.5], [0.86, -0.5]])


SHAPES: dict[str, Floats] = {
    "disc": _regular(24),
    "triangle": _regular(3),
    "square": _regular(4),
    "hexagon": _regular(6),
    "star": _star(),
    "cross": _cross(),
    "book": _book(),
}
"""Outlines `[n, 2]` around (0, 0) that reach no farther than 1 from it, and hold it inside."""


@dataclass(frozen=True)
class SceneObject:
    """Hold a thing that can be looked at.

    Attributes:
        shape: A name in `SHAPES`.
        centre_xy: `[2]` in pixels.
        radius_px: Reach of its outline from the centre.
        degrees: How it is turned.
        color: RGB, 0 to 255.
    """

    shape: str
    centre_xy: Floats
    radius_px: float
    degrees: float
    color: Color

    def outline(self) -> Floats:
        """Return the corners `[n, 2]` in pixels."""
        angle = np.radians(self.degrees)
        cosine, sine = np.cos(angle), np.sin(angle)
        turned = SHAPES[self.shape] @ np.array([[cosine, sine], [-sine, cosine]])
        return self.centre_xy + self.radius_px * turned


def random_object(centre_xy: Floats, radius_px: float, rng: np.random.Generator) -> SceneObject:
    """Return a thing of any shape, turn and vivid colour at a place."""
    shape = list(SHAPES)[rng.integers(len(SHAPES))]
    hue, saturation, value, degrees = rng.random(4)
    rgb = colorsys.hsv_to_rgb(hue, 0.8 + 0.2 * saturation, 0.8 + 0.2 * value)
    color = (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2]))
    return SceneObject(shape, centre_xy, radius_px, 360 * float(degrees), color)


def draw_object(canvas: NDArray[np.uint8], thing: SceneObject) -> None:
    """Draw a thing in its colour with a dark rim of a fifth of its radius."""
    outline = thing.outline()
    dark = (thing.color[0] // 5, thing.color[1] // 5, thing.color[2] // 5)
    fill_polygon(canvas, outline, dark)
    fill_polygon(canvas, thing.centre_xy + 0.78 * (outline - thing.centre_xy), thing.color)


def draw_ground(image_hw: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return a canvas of pale clouds and faint stripes, `[SUPERSAMPLING * h, SUPERSAMPLING * w, 3]`."""
    height, width = image_hw
    base = rng.uniform(110, 215) + rng.uniform(-22, 22, 3)
    coarse = base + rng.uniform(-22, 22, (5, 6, 1)) + rng.uniform(-8, 8, (5, 6, 3))
    clouds = cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    wave = rng.uniform(0.15, 0.5) * 128 / min(image_hw)
    along = wave * (np.arange(height)[:, None] if rng.random() < 0.5 else np.arange(width)[None, :])
    clouds += (rng.uniform(0, 10) * np.sin(along))[..., None].astype(np.float32)
    ground = cv2.convertScaleAbs(clouds)  # rounds, and clips to 0 to 255: nothing here is below 0
    fine = cv2.resize(
        ground, (width * SUPERSAMPLING, height * SUPERSAMPLING), interpolation=cv2.INTER_NEAREST
    )
    return fine.astype(np.uint8, copy=False)


def finish(canvas: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture `[h, w, 3]` of a canvas, with the grain of a camera."""
    size = canvas.shape[1] // SUPERSAMPLING, canvas.shape[0] // SUPERSAMPLING
    picture = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    strongest = int(rng.integers(2, 14))
    grain = rng.integers(0, strongest, picture.shape, dtype=np.uint8)
    centred = cv2.subtract(picture, np.full_like(picture, strongest // 2))
    return cv2.add(centred, grain).astype(np.uint8, copy=False)


def fill_polygon(canvas: NDArray[np.uint8], corners_xy: Floats, color: Color) -> None:
    """Fill a polygon `[n, 2]`, given in pixels of the picture, with smooth edges."""
    on_canvas = (corners_xy + 0.5) * SUPERSAMPLING - 0.5
    corners = np.rint(on_canvas * 2**_SHIFT).astype(np.int32)
    cv2.fillPoly(canvas, [corners], color, cv2.LINE_AA, _SHIFT)


def fill_disc(canvas: NDArray[np.uint8], centre_xy: Floats, radius_px: float, color: Color) -> None:
    """Fill a disc, given in pixels of the picture, with a smooth edge."""
    x, y = np.rint(((centre_xy + 0.5) * SUPERSAMPLING - 0.5) * 2**_SHIFT).astype(int).tolist()
    radius = round(radius_px * SUPERSAMPLING * 2**_SHIFT)
    cv2.circle(canvas, (x, y), radius, color, cv2.FILLED, cv2.LINE_AA, _SHIFT)
