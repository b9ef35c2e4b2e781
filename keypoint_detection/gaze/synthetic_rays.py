"""Where a ray of sight passes, and where nothing may stand so that no object is nearly on it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Ray:
    """Hold a ray: `origin_xy` `[2]` in pixels and `direction`, a unit vector `[2]`."""

    origin_xy: Floats
    direction: Floats

    def at(self, distance_px: float) -> Floats:
        """Return the point at a distance along the ray, `[2]`."""
        return self.origin_xy + distance_px * self.direction


def ray_towards(origin_xy: Floats, point_xy: Floats) -> Ray:
    """Return the ray from one point through another."""
    step = point_xy - origin_xy
    return Ray(origin_xy, step / np.linalg.norm(step))


def direction_of(degrees: float) -> Floats:
    """Return the unit vector at an angle from x towards y (clockwise on screen), `[2]`."""
    angle = np.radians(degrees)
    return np.array([np.cos(angle), np.sin(angle)])


def clearance_degrees(ray: Ray, centres_xy: Floats, radii_px: Floats | float) -> Floats:
    """Return the angle between a ray and the nearest edge of discs, as seen from the ray's origin.

    Args:
        ray: The ray.
        centres_xy: `[m, 2]` in pixels.
        radii_px: Radius of each disc `[m]`, or of all.

    Returns:
        `[m]` degrees, negative where the disc is on the ray; -180 for a disc around the origin.
    """
    step = centres_xy - ray.origin_xy
    distance = np.maximum(np.hypot(step[:, 0], step[:, 1]), 1e-9)
    away = np.degrees(np.arccos(np.clip(step @ ray.direction / distance, -1.0, 1.0)))
    half = np.degrees(np.arcsin(np.clip(radii_px / distance, 0.0, 1.0)))
    return np.where(distance <= radii_px, -180.0, away - half)


def exit_distance_px(ray: Ray, image_hw: tuple[int, int]) -> float:
    """Return how far a ray that starts inside an image runs until it leaves it."""
    edge = np.where(ray.direction > 0, np.array(image_hw[::-1]) - 0.5, -0.5)
    steps = np.abs(ray.direction)
    return float(np.min(np.abs(edge - ray.origin_xy)[steps > 1e-12] / steps[steps > 1e-12]))


def is_free(candidates_xy: Floats, radius_px: float, discs: Floats, gap_px: float) -> NDArray[np.bool_]:
    """Tell which discs of one radius keep a gap from all discs that are there.

    Args:
        candidates_xy: `[m, 2]` in pixels.
        radius_px: Of each candidate.
        discs: `[k, 3]`, x, y and radius in pixels.
        gap_px: Least distance between two edges.

    Returns:
        `[m]`.
    """
    apart = np.linalg.norm(candidates_xy[:, None] - discs[None, :, :2], axis=2)
    return (apart >= discs[:, 2] + radius_px + gap_px).all(axis=1)
