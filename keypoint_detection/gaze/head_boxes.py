"""Head boxes of the people in images or in the frames of a video, from a file."""

import csv
import json
import logging
import math
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keypoint_detection.gaze.head_boxes_coco import coco_rows
from keypoint_detection.gaze.people_file import read_table
from keypoint_detection.gaze.people_table import GazeTable

logger = logging.getLogger("keypoint_detection")

BOX, EYE = ("x0", "y0", "x1", "y1"), ("eye_x", "eye_y")
COLUMNS = ("image", "frame", "person", *BOX, *EYE)
"""What a row may hold: image or frame, the box, and if they are known person and eye."""

_MOST_DIGITS = 18  # of the number of a frame


@dataclass(frozen=True)
class HeadBox:
    """Hold one head in original-image pixels, where an integer is a pixel's centre.

    Attributes:
        person: A name that no other head of the image has.
        box: The outer edges x0, y0, x1, y1.
        eye: Point between the eyes; None is the centre of the box.
        place: File and line, or entry, that it is from.
    """

    person: str
    box: tuple[float, float, float, float]
    eye: tuple[float, float] | None
    place: str


@dataclass(frozen=True)
class HeadBoxes:
    """Hold the heads of a file.

    Attributes:
        path: The file.
        by_image: Heads by the name of their image, as the file has it; empty for frames.
        by_frame: Heads by the number of their frame, from 0; empty for images.
    """

    path: Path
    by_image: Mapping[str, Sequence[HeadBox]]
    by_frame: Mapping[int, Sequence[HeadBox]]

    def __len__(self) -> int:
        return sum(map(len, (*self.by_image.values(), *self.by_frame.values())))


def read_head_boxes(path: str | Path) -> HeadBoxes:
    """Read head boxes from a CSV or JSON file.

    CSV has a header with `image` (a name) or `frame` (a number from 0), `x0, y0, x1, y1`, and if they are
    known `person`, `eye_x, eye_y`; other columns are not used, and one line says so. JSON is a list of
    objects with the same names; a table of people (`people_file`); or a COCO file, of which the boxes of the
    category `head` are taken (its boxes count from the corner of the image, half a pixel is taken off).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The content is none of these; line or entry are named.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of head boxes, found nothing at {path}; check the path")
    if path.suffix.lower() not in (".csv", ".json"):
        raise ValueError(f"{path}: expected head boxes in a file that ends in .csv or .json")
    try:
        rows = list(_csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path))
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error.reason}; save it as UTF-8") from None
    return _grouped(path, rows)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the place and the filled cells of every row."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            for row in reader:
                place = f"{path}:{reader.line_num}"
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    raise ValueError(f"{place}: expected {len(header)} columns, got {len(row)}")
                cells = zip(header, map(str.strip, row), strict=True)
                yield place, {name: cell for name, cell in cells if name in COLUMNS and cell}
        except csv.Error as error:
            raise ValueError(f"{path}:{reader.line_num}: expected CSV; {error}") from None


def _check_header(path: Path, header: list[str]) -> None:
    missing = [name for name in BOX if name not in header]
    named = [name for name in ("image", "frame") if name in header]
    if missing or len(named) != 1:
        raise ValueError(
            f"{path}:1: expected a header with image or frame, {', '.join(BOX)} and if known person, "
            f"{', '.join(EYE)}, got {', '.join(header) or 'nothing'}; put commas between the columns"
        )
    if len(set(header)) < len(header):
        raise ValueError(f"{path}:1: expected every column once, got {', '.join(header)}")
    if others := [name for name in header if name not in COLUMNS]:
        logger.info("%s: not used: %s", path, ", ".join(others))


def _json_rows(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise
    except ValueError as error:  # JSONDecodeError, and a number of thousands of digits
        raise ValueError(f"{path}: expected JSON; {error}") from None
    except RecursionError:
        raise ValueError(f"{path}: expected JSON of head boxes, got lists in lists without end") from None
    if isinstance(content, dict) and "people" in content:
        return _table_rows(path, read_table(path))
    if isinstance(content, dict) and "annotations" in content:
        return coco_rows(path, content)
    if not isinstance(content, list):
        raise ValueError(
            f"{path}: expected a list of objects with {', '.join(COLUMNS)}, a table of people or a COCO "
            f"file, got {type(content).__name__}"
        )
    return [_json_row(f"{path}[{index}]", entry) for index, entry in enumerate(content)]


def _json_row(place: str, entry: Any) -> tuple[str, dict[str, Any]]:
    if not isinstance(entry, dict):
        raise ValueError(f"{place}: expected an object with {', '.join(COLUMNS)}, got {entry!r:.60}")
    unknown = [name for name in entry if name not in COLUMNS]
    if unknown:
        raise ValueError(f"{place}: expected {', '.join(COLUMNS)}, got {', '.join(unknown)}")
    return place, {name: value for name, value in entry.items() if value is not None}


def _table_rows(path: Path, table: GazeTable) -> Iterator[tuple[str, dict[str, Any]]]:
    columns = zip(table.image.tolist(), table.person, table.head_box.tolist(), table.eye_xy, strict=True)
    for row, (image, person, box, eye) in enumerate(columns):
        values = {"image": table.image_names[image], "person": person, **dict(zip(BOX, box, strict=True))}
        if not math.isnan(eye[0]):
            values |= zip(EYE, eye.tolist(), strict=True)
        yield f"{path}: people[{row}]", values


def _grouped(path: Path, rows: Sequence[tuple[str, dict[str, Any]]]) -> HeadBoxes:
    """Return the heads by image or frame; a row that is broken is an error."""
    if not rows:
        raise ValueError(f"{path}: expected head boxes, got none")
    keys = [_key(place, row) for place, row in rows]
    named: dict[str | int, set[str]] = {key: set() for key in keys}
    for key, (place, row) in zip(keys, rows, strict=True):
        if "person" in row:
            person = _person(place, row["person"])
            if person in named[key]:
                raise ValueError(
                    f"{place}: expected another person than those before in the image, got {person!r}"
                )
            named[key].add(person)
    heads: dict[str | int, list[HeadBox]] = {key: [] for key in keys}
    for key, (place, row) in zip(keys, rows, strict=True):
        person = str(row["person"]) if "person" in row else _free(len(heads[key]), named[key])
        heads[key].append(_head_box(place, row, person))
    by_image = {key: found for key, found in heads.items() if isinstance(key, str)}
    by_frame = {key: found for key, found in heads.items() if isinstance(key, int)}
    if by_image and by_frame:
        raise ValueError(f"{path}: expected boxes of images or of frames, got both")
    return HeadBoxes(path, by_image, by_frame)


def _key(place: str, row: Mapping[str, Any]) -> str | int:
    """Return the name of the image or the number of the frame of a row."""
    if ("image" in row) == ("frame" in row):
        raise ValueError(f"{place}: expected image or frame, got {'both' if 'image' in row else 'none'}")
    return _name(place, row["image"]) if "image" in row else _frame(place, row["frame"])


def _person(place: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{place}: expected a name or a number in person, got {value!r:.60}")
    return str(value)


def _free(number: int, taken: set[str]) -> str:
    """Return the first number from one on that nobody of the image has, and take it."""
    while str(number) in taken:
        number += 1
    taken.add(str(number))
    return str(number)


def _head_box(place: str, row: Mapping[str, Any], person: str) -> HeadBox:
    x0, y0, x1, y1 = (_number(place, row, name) for name in BOX)
    if not (x0 < x1 and y0 < y1):
        raise ValueError(f"{place}: expected x0 < x1 and y0 < y1, got {x0:g}, {y0:g}, {x1:g}, {y1:g}")
    given = [name for name in EYE if name in row]
    if len(given) == 1:
        raise ValueError(f"{place}: expected {' and '.join(EYE)} or neither, got only {given[0]}")
    eye = (_number(place, row, EYE[0]), _number(place, row, EYE[1])) if given else None
    return HeadBox(person, (x0, y0, x1, y1), eye, place)


def _number(place: str, row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{place}: expected a finite number in {name}, got {value!r:.60}")
    return number


def _frame(place: str, value: Any) -> int:
    text = str(value)
    whole = text.removesuffix(".0")
    if isinstance(value, bool) or not (whole.isascii() and whole.isdecimal()) or len(whole) > _MOST_DIGITS:
        raise ValueError(f"{place}: expected the number of a frame, from 0, got {value!r:.60}")
    return int(whole)


def _name(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip("/. "):
        raise ValueError(f"{place}: expected the name of an image, got {value!r:.60}")
    parts = [part for part in posixpath.normpath(value.replace("\\", "/")).split("/") if part != ".."]
    return "/".join(parts)  # a path from wherever the file was written: its end counts
