"""Write the names of points beside them where none covers another; in a crowd, numbers and a legend."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.utils.colours import Rgb
from keypoint_detection.utils.visualization_marks import (
    SMALLEST_TEXT,
    WHITE,
    Picture,
    outline_of,
    put_dot,
    put_line,
    put_text,
    text_scale,
    text_size,
)
from keypoint_detection.utils.visualization_text import ascii_text, shortened

MAX_NAMES = 22
"""Most names that are written beside their points; more are numbered and listed in a legend."""

_LONGEST_NAME = 24
_DIRECTIONS = np.array([(1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1)], np.float64)
_LEGEND_SHARE = (0.33, 0.9)  # most of the picture's width and height that a legend takes
_WIDEST_COLUMN = 0.5  # a single column may be wider than that share

Box = tuple[int, int, int, int]


class NamedPoint(NamedTuple):
    """Hold what is written beside one point: `xy` in pixels of the canvas, name, number and colour."""

    xy: NDArray[np.floating]
    name: str
    number: int
    color: Rgb


def draw_names(
    canvas: Picture, named: Sequence[NamedPoint], marks_xy: NDArray[np.floating], radius: float
) -> None:
    """Write every name beside its point; in a crowd write numbers, and the names in a legend.

    Args:
        canvas: `[h, w, 3]`, drawn on.
        named: The points to be named, at most one per channel.
        marks_xy: All points that are drawn, `[m, 2]`; they are left uncovered where there is room.
        radius: Radius of a mark in pixels.
    """
    height, width = canvas.shape[:2]
    named = [point for point in named if 0 <= point.xy[0] < width and 0 <= point.xy[1] < height]
    if not named:
        return
    scale = text_scale(canvas)
    texts = [shortened(ascii_text(point.name), _LONGEST_NAME) for point in named]
    room = _Room((height, width), marks_xy, radius, [])
    boxes = _place(room, named, texts, scale) if len(named) <= MAX_NAMES else [None]
    if None in boxes:
        scale = max(SMALLEST_TEXT, 0.75 * scale)
        legend = _draw_legend(canvas, named, marks_xy)
        named = [point for point in named if not _covers(legend, point.xy)]
        texts = [str(point.number) for point in named]
        boxes = _place(room._replace(taken=legend), named, texts, scale)
    placed = [(point, text, box) for point, text, box in zip(named, texts, boxes, strict=True) if box]
    for point, _, box in placed:
        _leader(canvas, point, box, radius)
    for point, text, box in placed:
        put_text(canvas, text, (box[0], box[1]), scale, point.color)


class _Room(NamedTuple):
    """Hold where names can go: the size of the picture, what they should leave free, and what they must."""

    hw: tuple[int, int]
    marks_xy: NDArray[np.floating]
    radius: float
    taken: list[Box]


def _place(room: _Room, named: Sequence[NamedPoint], texts: Sequence[str], scale: float) -> list[Box | None]:
    """Return a box (left, top, right, bottom) for each text that covers no other one, None without room."""
    boxes, room = [], room._replace(taken=list(room.taken))
    for point, text in zip(named, texts, strict=True):
        box = _best_box(room, point.xy, text_size(text, scale))
        boxes.append(box)
        if box is not None:
            room.taken.append(box)
    return boxes


def _best_box(room: _Room, xy: NDArray[np.floating], size: tuple[int, int]) -> Box | None:
    """Return the free box near a point that covers the fewest marks, then the nearest."""
    gaps = room.radius + 3 + size[1] * np.arange(5)[:, None]
    middle = xy + _DIRECTIONS * (gaps[..., None] + np.array(size) / 2 * np.abs(_DIRECTIONS))
    corner = np.round(middle - np.array(size) / 2).reshape(-1, 2).astype(int)
    boxes = np.hstack([corner, corner + size])
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2] <= room.hw[1]) & (boxes[:, 3] <= room.hw[0])
    free = inside & ~_overlaps(boxes, np.array(room.taken).reshape(-1, 4)).any(1)
    if not free.any():
        return None
    reach = gaps[-1] + max(size) + room.radius + 1
    near = room.marks_xy[(np.abs(room.marks_xy - xy) < reach).all(1)]
    grown = np.hstack([near - room.radius - 1, near + room.radius + 1])
    distance = np.repeat(np.arange(5), len(_DIRECTIONS)) + np.tile([0, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4], 5)
    cost = np.where(free, _overlaps(boxes, grown).sum(1) + 0.7 * distance, np.inf)
    left, top, right, bottom = (int(value) for value in boxes[cost.argmin()])
    return left, top, right, bottom


def _covers(boxes: Sequence[Box], xy: NDArray[np.floating]) -> bool:
    return any((xy >= box[:2]).all() and (xy < box[2:]).all() for box in boxes)


def _overlaps(boxes: NDArray[Any], others: NDArray[Any]) -> Any:
    """Tell which of `[n, 4]` boxes share area with which of `[m, 4]`; bool `[n, m]`."""
    first, second = boxes[:, None], others[None]
    return (first[..., :2] < second[..., 2:]).all(-1) & (second[..., :2] < first[..., 2:]).all(-1)


def _leader(canvas: Picture, point: NamedPoint, box: Box, radius: float) -> None:
    """Draw a thin line from a point to its text where another text could be meant."""
    nearest = np.clip(point.xy, box[:2], box[2:])
    away = nearest - point.xy
    distance = float(np.hypot(*away))
    if distance > 2 * radius + 6:
        start = point.xy + away / distance * (radius + 1)
        put_line(canvas, start, nearest, outline_of(point.color), 3)
        put_line(canvas, start, nearest, point.color, 1)


def _draw_legend(canvas: Picture, named: Sequence[NamedPoint], marks_xy: NDArray[np.floating]) -> list[Box]:
    """List numbers and names on a darkened ground in the corner with the fewest points; return its box."""
    height, width = canvas.shape[:2]
    rows: list[tuple[str, Rgb | None]] = [
        (f"{p.number} {shortened(ascii_text(p.name), _LONGEST_NAME)}", p.color) for p in named
    ]
    scale, cell, n_rows, n_columns = _legend_cells(canvas, [text for text, _ in rows])
    room = n_rows * n_columns
    if room < 1:
        return []
    if len(rows) > room:
        rows = [*rows[: room - 1], (f"+ {len(rows) - room + 1} more", None)]
    n_rows = min(n_rows, -(-len(rows) // n_columns))
    size = (cell[0] * -(-len(rows) // n_rows) + 8, cell[1] * n_rows + 8)
    left, top = _emptiest_corner((height, width), size, marks_xy)
    ground = canvas[top : top + size[1], left : left + size[0]]
    ground[:] = (ground * 0.25).astype(np.uint8)
    for index, (text, color) in enumerate(rows):
        x, y = left + 4 + cell[0] * (index // n_rows), top + 4 + cell[1] * (index % n_rows)
        if color is not None:
            put_dot(canvas, np.array([x + cell[1] / 2, y + cell[1] / 2]), 0.28 * cell[1], color)
        put_text(canvas, text, (x + cell[1], y), scale, WHITE)
    return [(left, top, left + size[0], top + size[1])]


def _legend_cells(canvas: Picture, texts: Sequence[str]) -> tuple[float, tuple[int, int], int, int]:
    """Return the largest scale at which all texts fit, or the smallest; a cell's size; rows; columns."""
    largest = text_scale(canvas)
    for scale in (largest, *(s for s in (0.85 * largest, 0.7 * largest) if s > SMALLEST_TEXT), SMALLEST_TEXT):
        cell = max(text_size(text, scale)[0] for text in texts), text_size("Ag", scale)[1]
        cell = cell[0] + cell[1] + 6, cell[1]
        n_rows = int(_LEGEND_SHARE[1] * canvas.shape[0] - 8) // cell[1]
        n_columns = int(_LEGEND_SHARE[0] * canvas.shape[1] - 8) // cell[0]
        n_columns = n_columns or int(cell[0] < _WIDEST_COLUMN * canvas.shape[1])
        if n_rows * n_columns >= len(texts):
            break
    return scale, cell, max(n_rows, 0), n_columns


def _emptiest_corner(
    hw: tuple[int, int], size: tuple[int, int], marks_xy: NDArray[np.floating]
) -> tuple[int, int]:
    """Return the left and top of the corner box that covers the fewest points."""
    right, bottom = hw[1] - size[0], hw[0] - size[1]
    corners = [(0, 0), (right, 0), (0, bottom), (right, bottom)]
    boxes = np.array([(x, y, x + size[0], y + size[1]) for x, y in corners])
    counts = _overlaps(boxes, np.hstack([marks_xy, marks_xy])).sum(1)
    return corners[int(counts.argmin())]
