"""People who look somewhere: a table of image, head box, eye, gaze points of one or more annotators, in/out.

Boxes are `(x0, y0, x1, y1)`, the outer edges: a box around the first pixel alone is (-0.5, -0.5, 0.5, 0.5).
A head box may reach beyond the image, as heads at its border do, but not lie outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

INSIDE, OUTSIDE, UNKNOWN = 1, 0, -1
"""What `in_frame` says of the place looked at: in the image, beyond its border, or not told."""

_Rule = tuple[ArrayLike, str, Callable[[int], object]]  # is right, expected, got
_SLACK_PX = 1e-6  # a point on the border may be rounded to the other side of it
_TYPES = {
    "image_hw": np.int64,
    "image": np.int64,
    "head_box": np.float64,
    "eye_xy": np.float64,
    "gaze_xy": np.float64,
    "in_frame": np.int8,
}


@dataclass(frozen=True)
class GazeTable:
    """Hold people and what they look at, in original-image pixels.

    Attributes:
        image_names: Path of each image relative to the folder of the data, with `/`, without repetition.
        image_hw: Height and width of each image in pixels, int64 `[i, 2]`.
        image: Index of each person's image, int64 `[p]`.
        person: A name of each person that no other row has, `[p]`.
        head_box: `(x0, y0, x1, y1)` of each head, float64 `[p, 4]`.
        eye_xy: Point between the eyes, float64 `[p, 2]`; NaN means the centre of the head box.
        gaze_xy: Point that each of `a` annotators marked, float64 `[p, a, 2]`; padded with NaN, and all NaN
            where the person looks out of the image or nobody knows.
        in_frame: 1 inside the image, 0 outside, -1 unknown, int8 `[p]`.
        group: Clip, or image, of each person, `[p]`: it is never on both sides of a split.
    """

    image_names: tuple[str, ...]
    image_hw: NDArray[np.int64]
    image: NDArray[np.int64]
    person: tuple[str, ...]
    head_box: NDArray[np.float64]
    eye_xy: NDArray[np.float64]
    gaze_xy: NDArray[np.float64]
    in_frame: NDArray[np.int8]
    group: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that the columns fit together; `check` looks at their values."""
        types = {name: getattr(self, name).dtype for name in _TYPES}
        wrong = [f"{name} as {np.dtype(kind)}" for name, kind in _TYPES.items() if types[name] != kind]
        if wrong:
            got = ", ".join(f"{name} {kind}" for name, kind in types.items() if kind != _TYPES[name])
            raise ValueError(f"expected {', '.join(wrong)}, got {got}")
        n_images, n_people = len(self.image_names), len(self.image)
        n_annotators = self.gaze_xy.shape[1] if self.gaze_xy.ndim == 3 else 1
        shapes = {name: getattr(self, name).shape for name in _TYPES}
        shapes |= {"person": (len(self.person),), "group": (len(self.group),)}
        expected = dict.fromkeys(shapes, (n_people,)) | {
            "image_hw": (n_images, 2),
            "head_box": (n_people, 4),
            "eye_xy": (n_people, 2),
            "gaze_xy": (n_people, n_annotators, 2),
        }
        for name, shape in expected.items():
            if shapes[name] != shape:
                raise ValueError(
                    f"expected {name} of shape {shape} for {n_images} images and {n_people} people, "
                    f"got {shapes[name]}"
                )
        if n_people and (self.image.min() < 0 or self.image.max() >= n_images):
            raise ValueError(
                f"expected indices of images from 0 to {n_images - 1}, got {self.image.min()} to "
                f"{self.image.max()}"
            )

    def __len__(self) -> int:
        return len(self.image)

    @property
    def n_annotators(self) -> NDArray[np.int64]:
        """Return how many annotators marked a point for each person, int64 `[p]`."""
        return np.isfinite(self.gaze_xy).all(-1).sum(1, dtype=np.int64)

    @property
    def person_hw(self) -> NDArray[np.int64]:
        """Return height and width of each person's image, int64 `[p, 2]`."""
        return self.image_hw[self.image]

    def select(self, chosen: ArrayLike) -> "GazeTable":
        """Return some of the people, and only the images that they are in (in the same order).

        Args:
            chosen: Booleans `[p]`, or indices of people in the order to return them.
        """
        chosen = np.asarray(chosen)
        rows = np.flatnonzero(chosen) if chosen.dtype == bool else chosen.astype(np.int64)
        used, image = np.unique(self.image[rows], return_inverse=True)
        return replace(
            self,
            image_names=tuple(self.image_names[index] for index in used.tolist()),
            image_hw=self.image_hw[used],
            image=image.reshape(-1).astype(np.int64),
            person=tuple(self.person[index] for index in rows.tolist()),
            head_box=self.head_box[rows],
            eye_xy=self.eye_xy[rows],
            gaze_xy=self.gaze_xy[rows],
            in_frame=self.in_frame[rows],
            group=tuple(self.group[index] for index in rows.tolist()),
        )


def concat(tables: Sequence[GazeTable]) -> GazeTable:
    """Return the people of several tables below one folder; an image of two of them is listed once.

    Raises:
        ValueError: There is no table, a person is in two of them, or an image has two sizes.
    """
    if not tables:
        raise ValueError("expected at least one table of people, got none")
    sizes: dict[str, tuple[int, ...]] = {}
    for table in tables:
        for name, size in zip(table.image_names, table.image_hw.tolist(), strict=True):
            if sizes.setdefault(name, tuple(size)) != tuple(size):
                raise ValueError(f"image {name}: expected one size, got {sizes[name]} and {tuple(size)}")
    order = {name: index for index, name in enumerate(sizes)}
    width = max(table.gaze_xy.shape[1] for table in tables)
    joined = GazeTable(
        image_names=tuple(sizes),
        image_hw=np.array(list(sizes.values()), dtype=np.int64).reshape(-1, 2),
        image=np.concatenate([_renumbered(table, order) for table in tables]),
        person=tuple(name for table in tables for name in table.person),
        head_box=np.concatenate([table.head_box for table in tables]),
        eye_xy=np.concatenate([table.eye_xy for table in tables]),
        gaze_xy=np.concatenate([_widened(table.gaze_xy, width) for table in tables]),
        in_frame=np.concatenate([table.in_frame for table in tables]),
        group=tuple(name for table in tables for name in table.group),
    )
    _check_unique(joined.person, "a name of a person once", "")
    return joined


def check(table: GazeTable, where: str = "") -> None:
    """Raise a ValueError for the first value that cannot be, in one line that names the person.

    Args:
        table: The people.
        where: Where the table is from, such as a path; the message begins with it.
    """
    prefix = f"{where}: " if where else ""
    _check_unique(table.image_names, "a name of an image once", prefix)
    _check_unique(table.person, "a name of a person once", prefix)
    _check_sizes(table, prefix)
    _check_people(table, prefix)
    _check_groups(table, prefix)


def box_overlaps(box: NDArray[np.float64], image_hw: NDArray) -> NDArray[np.bool_]:
    """Tell which boxes `[n, 4]` have a part of positive size on their images `[n, 2]`."""
    low = np.maximum(box[:, :2], -0.5)
    high = np.minimum(box[:, 2:], image_hw[:, ::-1] - 0.5)
    return np.asarray((low < high).all(1))


def _renumbered(table: GazeTable, order: dict[str, int]) -> NDArray[np.int64]:
    places = np.array([order[name] for name in table.image_names], dtype=np.int64)
    return places[table.image]


def _widened(gaze_xy: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    missing = width - gaze_xy.shape[1]
    return np.pad(gaze_xy, ((0, 0), (0, missing), (0, 0)), constant_values=np.nan)


def _check_unique(names: Sequence[str], expected: str, prefix: str) -> None:
    seen: set[str] = set()
    if len(set(names)) < len(names):
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"{prefix}expected {expected}, got {twice} twice")


def _check_sizes(table: GazeTable, prefix: str) -> None:
    wrong = np.flatnonzero((table.image_hw < 1).any(1))
    if len(wrong):
        name, (height, width) = table.image_names[wrong[0]], table.image_hw[wrong[0]]
        raise ValueError(
            f"{prefix}image {name}: expected a height and width of 1 or more, got {height}x{width}"
        )


def _check_people(table: GazeTable, prefix: str) -> None:
    for is_right, expected, got in (*_head_rules(table), *_gaze_rules(table)):
        wrong = np.flatnonzero(~np.asarray(is_right, dtype=bool))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(f"{prefix}person {table.person[row]}: expected {expected}, got {got(row)}")


def _head_rules(table: GazeTable) -> list[_Rule]:
    box, hw = table.head_box, table.person_hw
    is_eye, no_eye = np.isfinite(table.eye_xy), np.isnan(table.eye_xy)
    return [
        (
            np.isfinite(box).all(1) & (box[:, :2] < box[:, 2:]).all(1),
            "a head box of finite x0 < x1 and y0 < y1",
            _row(box),
        ),
        (
            box_overlaps(box, hw),
            "a head box that is not outside the image",
            lambda row: f"{box[row].tolist()} on {hw[row, 0]}x{hw[row, 1]}",
        ),
        (
            is_eye.all(1) | no_eye.all(1),
            "finite x and y of the eye, or NaN for both",
            _row(table.eye_xy),
        ),
    ]


def _gaze_rules(table: GazeTable) -> list[_Rule]:
    gaze, inside = table.gaze_xy, table.in_frame == INSIDE
    is_point: Any = np.isfinite(gaze).all(-1)
    is_none: Any = np.isnan(gaze).all(-1)
    last = table.person_hw[:, None, ::-1] - 0.5 + _SLACK_PX
    on_image: Any = ((gaze >= -0.5 - _SLACK_PX) & (gaze <= last)).all(-1)
    return [
        (
            np.isin(table.in_frame, (INSIDE, OUTSIDE, UNKNOWN)),
            "in_frame of 1, 0 or -1",
            _row(table.in_frame),
        ),
        ((is_point | is_none).all(1), "gaze points of finite x and y, or NaN for both", _row(gaze)),
        (inside | ~is_point.any(1), "no gaze point unless in_frame is 1", _row(gaze)),
        (~inside | is_point.any(1), "a gaze point where in_frame is 1", lambda row: "none"),
        ((on_image | ~is_point).all(1), "gaze points on the image", _row(gaze)),
    ]


def _row(column: NDArray) -> Callable[[int], object]:
    return lambda row: column[row].tolist()


def _check_groups(table: GazeTable, prefix: str) -> None:
    group_of: dict[int, str] = {}
    for image, group in zip(table.image.tolist(), table.group, strict=True):
        if group_of.setdefault(image, group) != group:
            raise ValueError(
                f"{prefix}image {table.image_names[image]}: expected one group, got {group_of[image]!r} and "
                f"{group!r}; a split would put the image on both sides"
            )
