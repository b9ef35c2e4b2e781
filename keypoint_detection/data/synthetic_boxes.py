"""Cardboard boxes in perspective: four corners that look alike, and the tips of a left and a right flap.

A box is seen from above its front, where tape and labels are, and its left flap is on the left of that front.
So a mirrored picture shows a box of the same family whose left and right names have changed places.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.synthetic_drawing import (
    Color,
    Floats,
    Layer,
    clip_convex,
    convex_hull,
    signed_area,
    strip,
)
from keypoint_detection.data.synthetic_scenery import (
    Subject,
    develop,
    draw_cover,
    draw_distractors,
    label,
    plain_floor,
    scale_color,
    textured_floor,
)
from keypoint_detection.records import Instance

CATEGORY = "box"
KEYPOINTS = ("corner0", "corner1", "corner2", "corner3", "flap_left", "flap_right")
SKELETON = ((1, 2), (2, 3), (3, 4), (4, 1))

NEGATIVE_SHARE, PAIR_SHARE, CUT_SHARE, COVER_SHARE = 0.05, 0.2, 0.1, 0.15
"""Shares of images without a box, with two boxes, with one cut by the border, with a keypoint covered."""

CARDBOARD: Color = (0.85, 0.66, 0.44)
FLOORS: tuple[Color, ...] = (
    (0.33, 0.42, 0.52),
    (0.26, 0.42, 0.43),
    (0.45, 0.50, 0.54),
    (0.36, 0.36, 0.43),
    (0.40, 0.47, 0.38),
    (0.42, 0.31, 0.27),
)
WALL_NORMALS = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


@dataclass(frozen=True)
class _Body:
    """Hold a box of width 1 in its own frame (right, away, up).

    Attributes:
        rim: `[4, 3]`: front left, front right, back right, back left.
        base: `[4, 3]`, below the rim.
        flaps: Left and right, `[5, 3]` each: back and front of the hinge, tip (a keypoint), the cut corner.
    """

    rim: Floats
    base: Floats
    flaps: tuple[Floats, Floats]

    def vertices(self) -> Floats:
        """Return all points, `[18, 3]`."""
        return np.concatenate([self.rim, self.base, *self.flaps])


@dataclass(frozen=True)
class _View:
    """Hold how a box is seen.

    Attributes:
        yaw: Turn of the box about its vertical in radians.
        elevation: Height of the camera above the floor in radians.
        roll: Turn of the picture in radians.
        distance: Distance of the camera in box widths.
        light: Unit vector `[3]` to the light, in the box's frame.
        scale: Pixels per box width.
        shift: Where the middle of the box's base is seen, `(x, y)` in pixels.
    """

    yaw: float
    elevation: float
    roll: float
    distance: float
    light: Floats
    scale: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    def project(self, points: Floats) -> Floats:
        """Return the picture of `[n, 3]` points as `[n, 2]` pixels."""
        right = points[:, 0] * np.cos(self.yaw) - points[:, 1] * np.sin(self.yaw)
        away = points[:, 0] * np.sin(self.yaw) + points[:, 1] * np.cos(self.yaw)
        down = -away * np.sin(self.elevation) - points[:, 2] * np.cos(self.elevation)
        depth = away * np.cos(self.elevation) - points[:, 2] * np.sin(self.elevation)
        x, y = np.stack([right, down]) * (self.scale * self.distance / (self.distance + depth))
        cosine, sine = np.cos(self.roll), np.sin(self.roll)
        return np.stack([cosine * x - sine * y, sine * x + cosine * y], axis=1) + self.shift

    def shadow(self, points: Floats) -> Floats:
        """Return the picture of the shadows that `[n, 3]` points throw on the floor, `[n, 2]` pixels."""
        return self.project(points - points[:, 2:] / self.light[2] * self.light)

    def brightness(self, normal: Floats) -> float:
        """Return the light that a matt face gives back, in [0.5, 1]."""
        return 0.5 + 0.5 * max(0.0, float(normal @ self.light) / float(np.linalg.norm(normal)))

    def fit(self, body: _Body, centre: Floats, extent: float) -> "_View":
        """Return this view placed so that the bounding box has this centre and longer side, in pixels."""
        flat = self.project(body.vertices())
        scale = extent / float(np.ptp(flat, axis=0).max())
        shift = centre - scale * (flat.min(0) + flat.max(0)) / 2
        return replace(self, scale=scale, shift=(float(shift[0]), float(shift[1])))


def _random_view(rng: np.random.Generator) -> _View:
    """Draw a camera that looks down at the front of a box."""
    azimuth, height, yaw = rng.uniform(-1.3, 1.3), rng.uniform(0.85, 1.15), rng.uniform(-0.6, 0.6)
    light = np.array([np.sin(azimuth), -np.cos(azimuth), np.tan(height)])
    return _View(
        yaw=yaw,
        elevation=rng.uniform(0.72, 1.05),
        roll=rng.uniform(-0.2, 0.2),
        distance=rng.uniform(4.0, 8.0),
        light=light / np.linalg.norm(light),
    )


def _random_body(rng: np.random.Generator) -> _Body:
    """Draw the proportions of a box and the angles of its flaps.

    A flap opens between 15 degrees below and 30 above the rim: every camera of `_random_view` then sees its
    upper side, so that its picture lies on the outer side of its hinge and hides no corner.
    """
    depth, height = rng.uniform(0.75, 1.15), rng.uniform(0.4, 0.75)
    square = np.array([[-0.5, -depth / 2], [0.5, -depth / 2], [0.5, depth / 2], [-0.5, depth / 2]])
    rim, base = (np.column_stack([square, np.full(4, level)]) for level in (height, 0.0))
    length, angles = rng.uniform(0.38, 0.55), rng.uniform(-0.26, 0.52, 2)
    left, right = (_left_flap(rim, length, float(angle)) for angle in angles)
    return _Body(rim, base, (left, right * (-1.0, 1.0, 1.0)))


def _left_flap(rim: Floats, length: float, angle: float) -> Floats:
    """Return a flap `[5, 3]` on the left edge, raised by an angle above the rim's plane."""
    front, back = rim[0], rim[3]
    out, along = length * np.array([-np.cos(angle), 0.0, np.sin(angle)]), back - front
    tip = front + out + 0.03 * along
    return np.stack([back, front, tip, tip + 0.6 * along, back + 0.5 * out - 0.04 * along])


def _draw_box(canvas: Layer, body: _Body, view: _View, rng: np.random.Generator) -> None:
    """Draw a box and its shadow; faces share their edges exactly, so no edge is displaced by a neighbour."""
    extent = float(np.ptp(view.project(body.vertices()), axis=0).max())
    cardboard = scale_color(CARDBOARD, rng.uniform(0.88, 1.08))
    canvas.shadow(convex_hull(view.shadow(body.vertices())), 0.02 * extent, 0.42)
    canvas.shadow(view.project(body.base), 0.05 * extent, 0.35)
    picture, flaps = Layer(canvas.image_hw), [view.project(flap) for flap in body.flaps]
    _draw_walls(picture, body, view, cardboard)
    _draw_labels(picture, body, view, rng)
    for flap, outline in zip(body.flaps, flaps, strict=True):
        normal = np.cross(flap[1] - flap[0], flap[2] - flap[1])
        light = view.brightness(normal if normal[2] > 0 else -normal)
        picture.add(outline, scale_color(cardboard, 1.1 * light), shade=(outline[0], outline[2], 0.95, 1.06))
        _draw_crease(picture, outline, scale_color(cardboard, 0.8 * light))
    canvas.paste(picture)


def _draw_walls(picture: Layer, body: _Body, view: _View, cardboard: Color) -> None:
    """Draw the four walls, from outside or inside as the camera sees them, and the inside of the floor."""
    rim, base, flaps = (
        view.project(body.rim),
        view.project(body.base),
        [view.project(flap) for flap in body.flaps],
    )
    for side in range(4):
        following = (side + 1) % 4
        wall = np.stack([rim[side], rim[following], base[following], base[side]])
        fall = (wall[:2].mean(0), wall[2:].mean(0))
        if signed_area(wall) > 0:
            light = view.brightness(WALL_NORMALS[side])
            picture.add(wall, scale_color(cardboard, light), shade=(*fall, 1.0, 0.88), hidden=flaps)
        else:
            light = 0.78 * view.brightness(-WALL_NORMALS[side])
            picture.add(clip_convex(wall, rim), scale_color(cardboard, light), shade=(*fall, 1.0, 0.55))
    picture.add(clip_convex(base, rim), scale_color(cardboard, 0.38))


def _draw_labels(picture: Layer, body: _Body, view: _View, rng: np.random.Generator) -> None:
    """Draw packing tape, an address label and two arrows on the front wall."""
    corner, right, down = body.rim[0], body.rim[1] - body.rim[0], body.base[0] - body.rim[0]

    def on_wall(*places: tuple[float, float]) -> Floats:
        return view.project(np.stack([corner + u * right + v * down for u, v in places]))

    def rectangle(u: float, v: float, width: float, height: float) -> Floats:
        return on_wall((u, v), (u + width, v), (u + width, v + height), (u, v + height))

    picture.over(rectangle(0.45, 0.0, 0.1, 0.45), (0.93, 0.84, 0.66), 0.75)
    left = 0.12 if rng.random() < 0.5 else 0.62
    picture.over(rectangle(left, 0.42, 0.26, 0.36), (0.96, 0.96, 0.94))
    bars = np.sort(rng.uniform(0.03, 0.2, 4))
    for bar in bars:
        picture.over(rectangle(left + float(bar), 0.6, 0.016, 0.13), (0.15, 0.15, 0.18))
    picture.over(rectangle(left + 0.03, 0.47, 0.14, 0.05), (0.80, 0.25, 0.20))
    for middle in (0.69, 0.81) if left < 0.5 else (0.19, 0.31):
        head = on_wall((middle, 0.42), (middle + 0.045, 0.54), (middle - 0.045, 0.54))
        picture.over(head, (0.32, 0.20, 0.12), 0.85)
        picture.over(rectangle(middle - 0.016, 0.54, 0.032, 0.2), (0.32, 0.20, 0.12), 0.85)


def _draw_crease(picture: Layer, flap: Floats, color: Color) -> None:
    """Draw the fold along a flap's hinge, clear of the corners."""
    back, front, tip, _, cut = flap
    start = front + 0.16 * (tip - front) + 0.12 * (back - front)
    end = back + 0.32 * (cut - back) + 0.12 * (front - back)
    picture.over(strip(start, end, 0.012 * float(np.hypot(*(back - tip)))), color, 0.8)


def draw_boxes(
    image_hw: tuple[int, int], clutter: bool, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], list[Instance]]:
    """Draw a picture with one box, sometimes two or none.

    Args:
        image_hw: Height and width in pixels.
        clutter: False leaves out texture, shadows, distractors, covers, uneven light, noise.
        rng: Source of every choice.

    Returns:
        The image, uint8 `[h, w, 3]` RGB, and the boxes.
    """
    color = FLOORS[rng.integers(len(FLOORS))]
    canvas = textured_floor(image_hw, color, rng) if clutter else plain_floor(image_hw, color)
    if clutter:
        draw_distractors(canvas, int(rng.integers(2, 6)), rng)
    subjects = []
    for centre, extent in _places(image_hw, rng):
        body = _random_body(rng)
        view = _random_view(rng).fit(body, centre, extent)
        _draw_box(canvas, body, view, rng)
        subjects.append(_label_box(body, view, rng))
    covers = _draw_covers(canvas, subjects, rng) if clutter else []
    instances = []
    for number, subject in enumerate(subjects):
        later = [solid for other in subjects[number + 1 :] for solid in other.solids]
        instances.append(label(subject, [*later, *covers], image_hw))
    return develop(canvas, clutter, rng), instances


def _places(image_hw: tuple[int, int], rng: np.random.Generator) -> list[tuple[Floats, float]]:
    """Return centre and longer side, in pixels, of each box of an image, the farther one first."""
    kind, size, frame = rng.random(), min(image_hw), np.array(image_hw[::-1], dtype=np.float64)
    if kind < NEGATIVE_SHARE:
        return []
    if kind < NEGATIVE_SHARE + PAIR_SHARE:
        extents = size * rng.uniform(0.4, 0.48, 2)
        side = 1.0 if rng.random() < 0.5 else -1.0
        places = [0.5 + np.array([part * side, part]) * rng.uniform(0.2, 0.25, 2) for part in (-1.0, 1.0)]
        return [(place * frame - 0.5, float(extent)) for place, extent in zip(places, extents, strict=True)]
    extent = size * rng.uniform(0.5, 0.85)
    room = (frame - extent) / 2 - 0.02 * size
    if rng.random() < CUT_SHARE:
        room = room + 0.16 * extent
    return [(frame / 2 - 0.5 + np.maximum(room, 0.0) * rng.uniform(-1, 1, 2), float(extent))]


def _label_box(body: _Body, view: _View, rng: np.random.Generator) -> Subject:
    """Return the points of a box (its four corners start at a random one and go round) and its outlines."""
    flaps = [view.project(flap) for flap in body.flaps]
    corners = np.roll(view.project(body.rim), int(rng.integers(4)), axis=0)
    places = [*corners, flaps[0][2], flaps[1][2]]
    points: dict[str, Floats] = {name: place for name, place in zip(KEYPOINTS, places, strict=True)}
    solids = [convex_hull(view.project(np.concatenate([body.rim, body.base]))), *flaps]
    return Subject(CATEGORY, points, convex_hull(view.project(body.vertices())), solids)


def _draw_covers(canvas: Layer, subjects: list[Subject], rng: np.random.Generator) -> list[Floats]:
    """Sometimes lay something over one keypoint; return its outline."""
    if not subjects or rng.random() >= COVER_SHARE:
        return []
    subject = subjects[rng.integers(len(subjects))]
    point = list(subject.points.values())[rng.integers(len(KEYPOINTS))]
    extent = float(np.ptp(subject.outline, axis=0).max())
    return [draw_cover(canvas, point, extent * float(rng.uniform(0.055, 0.085)), rng)]
