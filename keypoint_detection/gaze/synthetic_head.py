"""A drawn head, seen from above and tilted up: hair at the back, two eyes and a nose where it looks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.synthetic_objects import Color, fill_disc, fill_polygon
from keypoint_detection.gaze.synthetic_rays import Floats, Ray

NOSE_REACH = 1.25
"""How far the nose reaches from the centre of the head, in radii: nothing of a head lies farther out."""

EYE_REACH = 0.45
"""How far the point between the eyes is from the centre of the head, in radii."""

_SKINS: tuple[Color, ...] = ((255, 224, 196), (241, 194, 157), (214, 160, 118), (164, 108, 70), (110, 70, 46))
_HAIRS: tuple[Color, ...] = (
    (26, 22, 20),
    (60, 40, 28),
    (104, 66, 34),
    (128, 52, 26),
    (222, 186, 92),
    (225, 225, 230),
)
_LEAST_CONTRAST = 70.0  # in grey levels, between hair and skin


@dataclass(frozen=True)
class ScenePerson:
    """Hold a person of a drawn scene.

    Attributes:
        ray: From the centre of the head to where it looks.
        head_radius_px: Radius of the head.
        targets: Indices of the objects that are looked at: none (out of the frame), one, or two that are
            equally right.
    """

    ray: Ray
    head_radius_px: float
    targets: tuple[int, ...]

    @property
    def eye_xy(self) -> Floats:
        """Return the point between the eyes, which lies on the ray, `[2]` in pixels."""
        return self.ray.at(EYE_REACH * self.head_radius_px)

    @property
    def head_box(self) -> Floats:
        """Return x0, y0, x1, y1 in pixels: the head with room for its nose on every side."""
        reach = NOSE_REACH * self.head_radius_px
        return np.concatenate([self.ray.origin_xy - reach, self.ray.origin_xy + reach])


def draw_head(canvas: NDArray[np.uint8], person: ScenePerson, rng: np.random.Generator) -> None:
    """Draw a head that looks along its ray, with skin and hair of any colour."""
    skin, hair = _colors(rng)
    centre, radius, ahead = person.ray.origin_xy, person.head_radius_px, person.ray.direction
    aside = np.array([-ahead[1], ahead[0]])

    def place(forward: float, sideways: float) -> Floats:
        return centre + radius * (forward * ahead + sideways * aside)

    rim = (skin[0] // 3, skin[1] // 3, skin[2] // 3)
    fill_polygon(canvas, np.stack([place(0.7, -0.32), place(NOSE_REACH, 0.0), place(0.7, 0.32)]), rim)
    fill_disc(canvas, centre, radius, rim)
    fill_disc(canvas, centre, 0.92 * radius, skin)
    back = np.linspace(0.5 * np.pi, 1.5 * np.pi, 20)
    hairline = np.stack([place(-0.05 + np.cos(angle), np.sin(angle)) for angle in back])
    fill_polygon(canvas, hairline, hair)
    nose = (skin[0], skin[1] * 3 // 4, skin[2] * 3 // 4)
    fill_polygon(canvas, np.stack([place(0.62, -0.2), place(0.93 * NOSE_REACH, 0.0), place(0.62, 0.2)]), nose)
    for side in (-1.0, 1.0):
        fill_disc(canvas, place(EYE_REACH, 0.42 * side), 0.25 * radius, (255, 255, 255))
        fill_disc(canvas, place(EYE_REACH + 0.08, 0.42 * side), 0.14 * radius, (10, 10, 30))


def _colors(rng: np.random.Generator) -> tuple[Color, Color]:
    """Return a skin, and a hair that is plainly lighter or darker."""
    skin = _SKINS[rng.integers(len(_SKINS))]
    hairs = [hair for hair in _HAIRS if abs(float(np.mean(hair)) - float(np.mean(skin))) >= _LEAST_CONTRAST]
    return skin, hairs[rng.integers(len(hairs))]
