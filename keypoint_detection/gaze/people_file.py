"""A table of people as a JSON file that gives every number back exactly.

`{"annotators": 2, "images": [{"file_name", "height", "width"}, ...], "people": [{"person", "image", "group",
"head_box": [x0, y0, x1, y1], "eye": [x, y] or null, "gaze": [[x, y], ...], "in_frame": 1, 0 or -1}, ...]}`:
`image` counts the images from 0, `annotators` is the width of the table, and a null in `gaze` is an annotator
without a point; those after the last point are left out. Pixels, centres of pixels at integers.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keypoint_detection.files import write_text
from keypoint_detection.gaze.people_table import GazeTable, check

_XY = tuple[float, float]
_Side = Annotated[int, Field(ge=1, lt=2**31)]
_NONE: _XY = (float("nan"), float("nan"))


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Image(_Strict):
    file_name: str
    height: _Side
    width: _Side


class _Person(_Strict):
    person: str
    image: Annotated[int, Field(ge=0)]
    group: str
    head_box: tuple[float, float, float, float]
    eye: _XY | None
    gaze: list[_XY | None]
    in_frame: Literal[1, 0, -1]


class _Content(_Strict):
    annotators: Annotated[int, Field(ge=0, le=10_000)]
    images: list[_Image]
    people: list[_Person]


def write_table(path: str | Path, table: GazeTable) -> None:
    """Write a table as a `.json` file, atomically, one line per image and person.

    Raises:
        ValueError: The ending is another, or a value of the table cannot be (see `check`).
    """
    path = Path(path)
    _check_ending(path)
    check(table)
    images = _lines(_image_entries(table))
    people = _lines(_person_entries(table))
    annotators = table.gaze_xy.shape[1]
    write_text(path, f'{{\n"annotators": {annotators},\n"images": [{images}],\n"people": [{people}]\n}}\n')


def read_table(path: str | Path) -> GazeTable:
    """Read a table that `write_table` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The ending is another, or the content is not such a table: the entry is named.
    """
    path = Path(path)
    _check_ending(path)
    try:
        content = _Content.model_validate_json(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(
            f"expected a file of people, found nothing at {path}; check the path"
        ) from None
    except ValidationError as error:
        raise ValueError(f"{path}: {_first_problem(error)}") from None
    _check_counts(content, path)
    table = _table(content)
    check(table, str(path))
    return table


def _check_ending(path: Path) -> None:
    if path.suffix.lower() != ".json":
        raise ValueError(f"expected a file of people that ends in .json, got {path}")


def _lines(entries: Iterator[dict[str, Any]]) -> str:
    rows = ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries)
    return f"\n{rows}\n" if rows else ""


def _image_entries(table: GazeTable) -> Iterator[dict[str, Any]]:
    for name, (height, width) in zip(table.image_names, table.image_hw.tolist(), strict=True):
        yield {"file_name": name, "height": height, "width": width}


def _person_entries(table: GazeTable) -> Iterator[dict[str, Any]]:
    columns = (table.image, table.head_box, table.eye_xy, table.gaze_xy, table.in_frame)
    rows = zip(table.person, table.group, *(column.tolist() for column in columns), strict=True)
    for person, group, image, head_box, eye, gaze, in_frame in rows:
        points = [_point(xy) for xy in gaze]
        while points and points[-1] is None:
            points.pop()
        yield {
            "person": person,
            "image": image,
            "group": group,
            "head_box": head_box,
            "eye": _point(eye),
            "gaze": points,
            "in_frame": in_frame,
        }


def _point(xy: list[float]) -> list[float] | None:
    return None if xy[0] != xy[0] else xy  # NaN alone is not itself


def _first_problem(error: ValidationError) -> str:
    """Return where the first thing is that is wrong, what was expected, and what came."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"expected JSON; {first['msg'].removeprefix('Invalid JSON: ')}"
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    place = place.removeprefix(".") or "the file"
    if first["type"] == "missing":
        return f"{place}: expected a value, got none"
    expected = first["msg"].replace("Input should be", "expected")
    got = " ".join(repr(first["input"]).split())
    return f"{place}: {expected}, got {got if len(got) <= 60 else got[:57] + '...'}"


def _check_counts(content: _Content, path: Path) -> None:
    annotators, n_images = content.annotators, len(content.images)
    for index, entry in enumerate(content.people):
        place = f"{path}: people[{index}]"
        if entry.image >= n_images:
            raise ValueError(f"{place}.image: expected less than {n_images} (images), got {entry.image}")
        if len(entry.gaze) > annotators:
            got = len(entry.gaze)
            raise ValueError(f"{place}.gaze: expected at most {annotators} (annotators) points, got {got}")


def _table(content: _Content) -> GazeTable:
    images, people, width = content.images, content.people, content.annotators
    gaze = [xy or _NONE for entry in people for xy in (*entry.gaze, *(None,) * (width - len(entry.gaze)))]
    return GazeTable(
        image_names=tuple(entry.file_name for entry in images),
        image_hw=np.array([(e.height, e.width) for e in images], dtype=np.int64).reshape(-1, 2),
        image=np.array([entry.image for entry in people], dtype=np.int64),
        person=tuple(entry.person for entry in people),
        head_box=_floats([entry.head_box for entry in people], 4),
        eye_xy=_floats([entry.eye or _NONE for entry in people], 2),
        gaze_xy=_floats(gaze, 2).reshape(len(people), width, 2),
        in_frame=np.array([entry.in_frame for entry in people], dtype=np.int8),
        group=tuple(entry.group for entry in people),
    )


def _floats(rows: Sequence[Sequence[float]], width: int) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, width)
