"""The plan of a drawn scene: who looks where, and where things may stand so that it is beyond doubt."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.synthetic_head import NOSE_REACH, ScenePerson
from keypoint_detection.gaze.synthetic_objects import SceneObject, random_object
from keypoint_detection.gaze.synthetic_rays import (
    Floats,
    Ray,
    clearance_degrees,
    direction_of,
    exit_distance_px,
    is_free,
    ray_towards,
)

MARGIN_DEGREES = 12.0
"""Least angle between a ray of sight and the edge of what is not on it, as seen from the head."""

AMBIGUOUS_DEGREES = 18.0
"""Angle between a ray and each of the two objects that are equally right."""

HEAD_SHARE = (0.10, 0.15)
OBJECT_SHARE = (0.055, 0.085)
"""Radii of heads and of objects, as shares of the shorter side of the image."""

_GAP_SHARE = 0.03  # between two things
_NEAREST_SHARE = 0.10  # between a head and what it looks at
_BEHIND = 0.5  # how often a thing is behind a target, if there is room
_OTHERS = (2, 4)  # things that nobody looks at, if there is room
_CANDIDATES = 48
_PLANS = 200


@dataclass(frozen=True)
class Scene:
    """Hold a scene: `image_hw` in pixels, its people and its objects."""

    image_hw: tuple[int, int]
    people: tuple[ScenePerson, ...]
    objects: tuple[SceneObject, ...]


def plan_scene(
    rng: np.random.Generator,
    image_hw: tuple[int, int],
    *,
    n_people: int,
    share_outside: float,
    ambiguous: bool,
) -> Scene:
    """Draw a plan; one that cannot be completed is thrown away and drawn again.

    Raises:
        ValueError: There is no room, as in an image that is much longer than wide.
    """
    for _ in range(_PLANS):
        plan = _Plan(rng, image_hw, ambiguous)
        if plan.add_people(n_people, share_outside):
            plan.add_others()
            return Scene(image_hw, tuple(plan.people), tuple(plan.objects))
    raise ValueError(
        f"expected images with room for {n_people} people and what they look at, got "
        f"{image_hw[0]}x{image_hw[1]} pixels; make them less elongated"
    )


class _Plan:
    """Hold a plan in the making."""

    def __init__(self, rng: np.random.Generator, image_hw: tuple[int, int], ambiguous: bool) -> None:
        self.rng, self.image_hw, self.ambiguous = rng, image_hw, ambiguous
        self.unit_px = float(min(image_hw))
        # nothing may look like one of two targets either
        self.margin_degrees = MARGIN_DEGREES + (2 * AMBIGUOUS_DEGREES if ambiguous else 0.0)
        self.people: list[ScenePerson] = []
        self.objects: list[SceneObject] = []
        self.heads: list[tuple[Floats, float]] = []

    def add_people(self, n_people: int, share_outside: float) -> bool:
        """Place the heads, and for each a ray and its target; tell whether all found room."""
        for _ in range(n_people):
            radius = self.rng.uniform(*HEAD_SHARE) * self.unit_px
            places = self._candidates(NOSE_REACH * radius)
            places = places[is_free(places, NOSE_REACH * radius, self._discs(), 0.3 * self.unit_px)]
            if not len(places):
                return False
            self.heads.append((places[0], radius))
        look_inside = self._look_between if self.ambiguous else self._look_at
        for number in range(n_people):
            look = self._look_outside if self.rng.random() < share_outside else look_inside
            if not look(number):
                return False
        return True

    def add_others(self) -> None:
        """Place things behind targets, and things that nobody looks at, as far as there is room."""
        for person in self.people:
            if len(person.targets) == 1 and self.rng.random() < _BEHIND:
                self._add_behind(person)
        for _ in range(int(self.rng.integers(_OTHERS[0], _OTHERS[1] + 1))):
            radius = self._radius()
            places = self._candidates(radius)
            places = places[self._is_allowed(places, radius)]
            if len(places):
                self.objects.append(random_object(places[0], radius, self.rng))

    def _radius(self) -> float:
        return self.rng.uniform(*OBJECT_SHARE) * self.unit_px

    def _candidates(self, radius_px: float) -> Floats:
        """Return places `[m, 2]` at which a disc lies inside the image."""
        extent = np.array(self.image_hw[::-1]) - 1.0 - 2 * radius_px
        return radius_px + self.rng.random((_CANDIDATES, 2)) * extent

    def _rays(self, centre_xy: Floats) -> list[Ray]:
        """Return rays in all directions, `[m]`."""
        return [Ray(centre_xy, direction_of(degrees)) for degrees in self.rng.uniform(0, 360, _CANDIDATES)]

    def _discs(self) -> Floats:
        heads = [(*centre, NOSE_REACH * radius) for centre, radius in self.heads]
        things = [(*thing.centre_xy, thing.radius_px) for thing in self.objects]
        return np.array(heads + things, dtype=np.float64).reshape(-1, 3)

    def _is_allowed(
        self, places: Floats, radius_px: float, except_ray: Ray | None = None
    ) -> NDArray[np.bool_]:
        """Tell at which places `[m, 2]` a thing is inside, touches nothing, and is far from other rays."""
        last = np.array(self.image_hw[::-1]) - 1.0 - radius_px
        allowed = ((places >= radius_px) & (places <= last)).all(axis=1)
        allowed &= is_free(places, radius_px, self._discs(), _GAP_SHARE * self.unit_px)
        for person in self.people:
            if person.ray is not except_ray:
                allowed &= clearance_degrees(person.ray, places, radius_px) >= self.margin_degrees
        return allowed

    def _sees_nothing(self, ray: Ray, number: int) -> bool:
        """Tell whether a ray of a person is far from all that is there already."""
        others = np.delete(self._discs(), number, axis=0)
        return bool((clearance_degrees(ray, others[:, :2], others[:, 2]) >= self.margin_degrees).all())

    def _look_outside(self, number: int) -> bool:
        """Find a ray that leaves the image and meets nothing; short ways out are likelier."""
        centre, radius = self.heads[number]
        clear = [ray for ray in self._rays(centre) if self._sees_nothing(ray, number)][:2]
        if clear:
            ray = min(clear, key=lambda ray: exit_distance_px(ray, self.image_hw))
            self.people.append(ScenePerson(ray, radius, ()))
        return bool(clear)

    def _look_at(self, number: int) -> bool:
        """Find a place for a target, with nothing else on the way to it."""
        centre, radius = self.heads[number][0], self._radius()
        places = self._candidates(radius)
        is_far = np.linalg.norm(places - centre, axis=1) >= self._nearest_px(number, radius)
        for place in places[is_far & self._is_allowed(places, radius)]:
            ray = ray_towards(centre, place)
            if self._sees_nothing(ray, number):
                self._add_person(number, ray, place[None], radius)
                return True
        return False

    def _look_between(self, number: int) -> bool:
        """Find places for two targets at the same angle on the two sides of a ray, and equally far."""
        radius = self._radius()
        nearest = self._nearest_px(number, radius) + _NEAREST_SHARE * self.unit_px
        for ray in self._rays(self.heads[number][0]):
            room = max(exit_distance_px(ray, self.image_hw) - nearest, 0.0)
            sides = _both_sides(ray, nearest + self.rng.random() * room)
            if self._is_allowed(sides, radius).all() and self._sees_nothing(ray, number):
                self._add_person(number, ray, sides, radius)
                return True
        return False

    def _nearest_px(self, number: int, radius_px: float) -> float:
        """Return the least distance of a target from the centre of the head that looks at it."""
        return NOSE_REACH * self.heads[number][1] + radius_px + _NEAREST_SHARE * self.unit_px

    def _add_person(self, number: int, ray: Ray, places: Floats, radius_px: float) -> None:
        first = len(self.objects)
        self.objects += [random_object(place, radius_px, self.rng) for place in places]
        indices = tuple(range(first, len(self.objects)))
        self.people.append(ScenePerson(ray, self.heads[number][1], indices))

    def _add_behind(self, person: ScenePerson) -> None:
        """Place a thing on the ray behind the target, so that the first one counts."""
        target, radius = self.objects[person.targets[0]], self._radius()
        distance = float(np.linalg.norm(target.centre_xy - person.ray.origin_xy))
        nearest = distance + target.radius_px + radius + _GAP_SHARE * self.unit_px
        room = max(exit_distance_px(person.ray, self.image_hw) - nearest, 0.0)
        places = np.stack([person.ray.at(nearest + share * room) for share in self.rng.random(4)])
        places = places[self._is_allowed(places, radius, except_ray=person.ray)]
        if len(places):
            self.objects.append(random_object(places[0], radius, self.rng))


def _both_sides(ray: Ray, distance_px: float) -> Floats:
    """Return the two places at `AMBIGUOUS_DEGREES` from a ray and a distance from its origin, `[2, 2]`."""
    angle = np.degrees(np.arctan2(ray.direction[1], ray.direction[0]))
    turned = [direction_of(angle + side * AMBIGUOUS_DEGREES) for side in (-1.0, 1.0)]
    return ray.origin_xy + distance_px * np.stack(turned)
