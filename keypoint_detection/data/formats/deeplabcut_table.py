"""A table of DeepLabCut labels, whichever file it came from: columns, rows, and how two tables differ."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

UNIQUE = "single"
"""DeepLabCut's individual for points that a frame holds once, in a project with several animals."""
LABELS_FOLDER = "labeled-data"

Point = tuple[float, float]
Columns = Mapping[tuple[str, str], tuple[int, int]]
"""The positions of x and y by individual and body part; the individual is "" where there are none."""

_FURTHEST_PX = 1e9  # beyond every image; the product of two such numbers is still finite
_SAME_PX = 1e-6
_MOST_NAMED = 10


class ColumnLabel(NamedTuple):
    """Name one column of a table as its header rows do."""

    position: int
    scorer: str
    individual: str
    body_part: str
    axis: str


@dataclass(frozen=True)
class LabelRow:
    """Hold the labels of one image.

    Attributes:
        place: Where the row stands in its file, `line 5`.
        image_parts: The image's path as the row spells it, by components.
        points: Labelled points `(x, y)` in image pixels by individual and body part; the individual is ""
            where the file has no row of individuals.
    """

    place: str
    image_parts: tuple[str, ...]
    points: Mapping[str, Mapping[str, Point]]

    def image(self) -> str:
        """Return the image's path from `labeled-data` on: old projects hold paths of another machine."""
        parts = self.image_parts
        return "/".join(parts[parts.index(LABELS_FOLDER) :] if LABELS_FOLDER in parts else parts)


@dataclass(frozen=True)
class LabelTable:
    """Hold one table: its file, its columns in order, its rows, and the scorers that were passed over."""

    path: Path
    columns: Columns
    rows: Sequence[LabelRow]
    other_scorers: tuple[str, ...] = ()


def choose_scorer(where: str, scorers: Iterable[str], preferred: str | None) -> tuple[str, tuple[str, ...]]:
    """Return the scorer whose labels are taken, and the others.

    Raises:
        ValueError: There are several, and config.yaml's scorer is none of them.
    """
    found = list(dict.fromkeys(scorers))
    if len(found) > 1 and preferred not in found:
        names = ", ".join(map(repr, found))
        raise ValueError(
            f"{where}: expected labels of one scorer, got {names}; name one as `scorer` in config.yaml"
        )
    chosen = preferred if preferred is not None and preferred in found else found[0]
    return chosen, tuple(name for name in found if name != chosen)


def point_columns(
    path: Path, labels: Sequence[ColumnLabel], preferred: str | None
) -> tuple[Columns, tuple[str, ...]]:
    """Return the positions of x and y of every point of one scorer, and the other scorers.

    Raises:
        ValueError: A column is no x or y of a body part, one of the two is missing or there twice.
    """
    if not labels:
        raise ValueError(f"{path}: expected columns x and y of body parts, got none")
    scorer, others = choose_scorer(str(path), (label.scorer for label in labels), preferred)
    found: dict[tuple[str, str], dict[str, int]] = {}
    for label in labels:
        where, axis = f"{path} column {label.position + 1}", label.axis.lower()
        if axis not in ("x", "y") or not label.body_part:
            raise ValueError(
                f"{where}: expected x or y of a body part, got {label.axis!r} of {label.body_part!r}; "
                "are these predictions instead of labels?"
            )
        positions = (
            found.setdefault((label.individual, label.body_part), {}) if label.scorer == scorer else {}
        )
        if axis in positions:
            raise ValueError(f"{where}: expected one {axis} of {label.body_part!r}, got two")
        positions[axis] = label.position
    for (_, body_part), positions in found.items():
        if len(positions) != 2:
            only = ", ".join(positions)
            raise ValueError(f"{path}: expected columns x and y of {body_part!r}, got {only} only")
    return {point: (positions["x"], positions["y"]) for point, positions in found.items()}, others


def label_row(
    path: Path, place: str, index: Sequence[str], columns: Columns, read: Callable[[int], str | float]
) -> LabelRow:
    """Return one row: its image from the index columns, and its points.

    Args:
        path: The file, for errors.
        place: Where the row stands in it.
        index: The cells that name the image, one or three of them.
        columns: The positions of x and y.
        read: Gives the number at a position, or its text; blank or NaN is absent.

    Raises:
        ValueError: The row names no image, or a coordinate is missing or no number of pixels.
    """
    where = f"{path} {place}"
    image_parts = _image_parts(index)
    if not image_parts:
        raise ValueError(f"{where}: expected the path of an image, got nothing")
    points: dict[str, dict[str, Point]] = {}
    for (individual, body_part), positions in columns.items():
        label = f"{individual} {body_part}".strip()
        x, y = (
            _pixels(read(position), f"{where}, column {f'{label} {axis}'!r}")
            for axis, position in zip("xy", positions, strict=True)
        )
        if (x is None) != (y is None):
            raise ValueError(f"{where}: expected x and y of {label!r}, got only one of them")
        labelled = points.setdefault(individual, {})
        if x is not None and y is not None:
            labelled[body_part] = (x, y)
    return LabelRow(place, image_parts, points)


def compare_tables(kept: LabelTable, other: LabelTable) -> list[str]:
    """Return a line for each kind of difference: rows that only one table has, and points that differ."""
    rows, other_rows = ({row.image(): row for row in table.rows} for table in (kept, other))
    notes = []
    for table, only in (
        (kept, [image for image in rows if image not in other_rows]),
        (other, [image for image in other_rows if image not in rows]),
    ):
        if only:
            fate = "kept" if table is kept else f"not read: {kept.path.name} is what counts"
            notes.append(f"{table.path}: {_count(only, 'image')} only in this file, {fate}: {_listed(only)}")
    differing = [
        f"{image} {point}"
        for image, row in rows.items()
        if image in other_rows
        for point in _differing(row, other_rows[image])
    ]
    if differing:
        notes.append(
            f"{kept.path}: {_count(differing, 'point')} not as in {other.path.name}, which was not read: "
            f"{_listed(differing)}"
        )
    return notes


def _differing(row: LabelRow, other: LabelRow) -> list[str]:
    points, other_points = (
        {
            f"{individual} {body_part}".strip(): point
            for individual, labelled in one.points.items()
            for body_part, point in labelled.items()
        }
        for one in (row, other)
    )
    names = dict.fromkeys([*points, *other_points])
    return [repr(name) for name in names if _differ(points.get(name), other_points.get(name))]


def _differ(point: Point | None, other: Point | None) -> bool:
    if point is None or other is None:
        return point is not other
    return max(abs(point[0] - other[0]), abs(point[1] - other[1])) > _SAME_PX


def _count(items: Sequence[str], noun: str) -> str:
    return f"1 {noun} is" if len(items) == 1 else f"{len(items)} {noun}s are"


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return ", ".join(" ".join(item.split()) for item in items[:_MOST_NAMED]) + more


def _image_parts(index: Sequence[str]) -> tuple[str, ...]:
    # Windows projects write backslashes
    path = "/".join(cell.strip() for cell in index).replace("\\", "/")
    parts = tuple(part for part in path.split("/") if part)
    return ("/", *parts) if parts and path.startswith("/") else parts


def _pixels(value: str | float, where: str) -> float | None:
    """Return a number of pixels, or None for what is blank or NaN."""
    if isinstance(value, str) and not value.strip():
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.inf
    if math.isnan(number):
        return None
    if abs(number) >= _FURTHEST_PX:
        raise ValueError(f"{where}: expected a number of pixels or a blank, got {value!r}")
    return number
