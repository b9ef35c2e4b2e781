"""Read GazeFollow: `train_annotations_release.txt` and `test_annotations_release.txt` with their images.

A line has commas and no header: path, number, body box x y w h, eye x y, gaze x y (all relative), head box
x0 y0 x1 y1 (pixels), in the training file in/out (1 in, 0 out, -1 invalid); further columns are ignored. In
the test file the lines with the same path and eye are one person, marked by as many annotators.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.people_parts import drop_outliers
from keypoint_detection.gaze.people_table import INSIDE, GazeTable
from keypoint_detection.gaze.read_rows import (
    Floats,
    RowChecks,
    box_pixels,
    build_table,
    eye_pixels,
    gaze_pixels,
    numbered,
    read_lines,
    row_numbers,
    row_sizes,
)

Kind = Literal["auto", "train", "test"]

_EYE, _GAZE, _BOX, _IN_OUT = slice(0, 2), slice(2, 4), slice(4, 8), 8  # of the numbers from column 7 on
_FIRST_NUMBER = 6
_N_COLUMNS = {"train": 15, "test": 14}


class _Rows(NamedTuple):
    """Hold the rows of a file that are kept."""

    names: list[str]
    people: list[str]
    row_hw: Floats
    box: Floats
    eye: Floats
    gaze: Floats
    in_frame: NDArray[np.float64]


def read_gazefollow(
    root: str | Path,
    file: str | Path,
    *,
    kind: Kind = "auto",
    skip_broken: bool = False,
    outlier_percentile: float | None = None,
) -> GazeTable:
    """Read one file of GazeFollow.

    Args:
        root: Folder that the paths in the file are below.
        file: The file, below root or not.
        kind: "train" (each line a person) or "test" (lines of one path and eye are one person); "auto" goes
            by "train" or "test" in the name of the file, else by whether the first line has an in/out.
        skip_broken: Leave broken lines out and print one line about them, instead of raising.
        outlier_percentile: Drop annotators who are far from the others, see `people.drop_outliers`.

    Returns:
        People in the order of the file, named `<path>#<number in the image>`; the group is the image. People
        of the test file look inside.

    Raises:
        FileNotFoundError: The file or an image is missing; the line is named.
        ValueError: A line has too few columns, no numbers, a broken box or image; the line is named.
    """
    root, file = Path(root), Path(file)
    file = file if file.is_file() or not (root / file).is_file() else root / file
    if kind not in ("auto", "train", "test"):
        raise ValueError(f"expected a kind of GazeFollow file of auto, train or test, got {kind!r}")
    cells, lines = _cells(file)
    kind = _kind(file, cells) if kind == "auto" else kind
    checks = RowChecks(str(file), lambda row: f"{file}, line {lines[row]}", len(cells), skip_broken)
    rows, persons = _rows(root, cells, kind, checks)
    table = _table(rows, persons, str(file))
    return table if outlier_percentile is None else drop_outliers(table, outlier_percentile)


def _cells(file: Path) -> tuple[list[list[str]], list[int]]:
    """Return the cells that matter of every line that is not empty, and the numbers of these lines."""
    cells, lines = [], []
    for number, line in enumerate(read_lines(file), start=1):
        if line.strip():
            cells.append(line.rstrip("\r").split(",", _N_COLUMNS["train"])[: _N_COLUMNS["train"]])
            lines.append(number)
    if not cells:
        raise ValueError(f"{file}: expected people, got an empty file")
    return cells, lines


def _kind(file: Path, cells: list[list[str]]) -> Kind:
    for kind in ("train", "test"):
        if kind in file.name.lower():
            return kind
    first = cells[0]
    has_in_out = len(first) == _N_COLUMNS["train"] and first[-1].strip() in ("-1", "0", "1")
    return "train" if has_in_out else "test"


def _rows(
    root: Path, cells: list[list[str]], kind: Kind, checks: RowChecks
) -> tuple[_Rows, NDArray[np.int64]]:
    """Return the rows that are right, and the number of each one's person."""
    width = _N_COLUMNS[kind]
    counts = [len(row) for row in cells]
    checks.require(
        np.array(counts) >= width, f"{width} columns or more", lambda row: f"{counts[row]} columns"
    )
    cells = [row if len(row) >= width else [*row, *("0",) * (width - len(row))] for row in cells]
    names = [row[0].strip().replace("\\", "/") for row in cells]
    numbers = row_numbers(cells, range(_FIRST_NUMBER, width), checks)
    in_frame = numbers[:, _IN_OUT] if kind == "train" else np.full(len(cells), INSIDE, dtype=np.float64)
    checks.require(
        np.isin(in_frame, (-1, 0, 1)), "in/out of 1, 0 or -1 in column 15", lambda row: cells[row][14]
    )
    persons, people = _people(names, cells) if kind == "test" else (np.arange(len(cells)), numbered(names))
    hw = row_sizes(root, names, checks)
    box = box_pixels(numbers[:, _BOX], hw, checks)
    _check_one_box(numbers[:, _BOX], persons, checks)
    eye = eye_pixels(numbers[:, _EYE], hw, checks)
    gaze = gaze_pixels(numbers[:, _GAZE], hw, in_frame == INSIDE, checks)
    checks.finish()
    kept = checks.kept
    chosen = np.flatnonzero(kept).tolist()
    rows = _Rows(
        [names[row] for row in chosen],
        [people[row] for row in chosen],
        *(column[kept] for column in (hw, box, eye, gaze, in_frame)),
    )
    return rows, np.unique(persons[kept], return_inverse=True)[1].reshape(-1)


def _people(names: list[str], cells: list[list[str]]) -> tuple[NDArray[np.int64], list[str]]:
    """Return number and name of each row's person: one for each path and eye."""
    keys = [
        (name, row[_FIRST_NUMBER], row[_FIRST_NUMBER + 1]) for name, row in zip(names, cells, strict=True)
    ]
    order = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    label = numbered(name for name, _, _ in order)
    persons = [order[key] for key in keys]
    return np.array(persons, dtype=np.int64), [label[person] for person in persons]


def _check_one_box(corners: Floats, persons: NDArray[np.int64], checks: RowChecks) -> None:
    """Check that the rows of a person have the box of the person's first row that is right so far."""
    usable = np.flatnonzero(checks.kept)
    found, first = np.unique(persons[usable], return_index=True)
    first_row = np.zeros(persons.max() + 1, dtype=np.int64)
    first_row[found] = usable[first]
    checks.require(
        (corners == corners[first_row[persons]]).all(1),
        "the head box that the person (path and eye) has before",
        lambda row: ", ".join(f"{value:g}" for value in corners[row].tolist()),
    )


def _table(rows: _Rows, persons: NDArray[np.int64], source: str) -> GazeTable:
    """Return one row per person, its annotators side by side."""
    first, counts = np.unique(persons, return_index=True, return_counts=True)[1:]
    by_person = np.argsort(persons, kind="stable")
    place = np.empty(len(persons), dtype=np.int64)
    place[by_person] = np.arange(len(persons)) - np.repeat(np.cumsum(counts) - counts, counts)
    gaze = np.full((len(first), counts.max(), 2), np.nan)
    gaze[persons, place] = rows.gaze
    names = [rows.names[row] for row in first.tolist()]
    return build_table(
        names,
        rows.row_hw[first],
        [rows.people[row] for row in first.tolist()],
        names,
        head_box=rows.box[first],
        eye_xy=rows.eye[first],
        gaze_xy=gaze,
        in_frame=rows.in_frame[first],
        source=source,
    )
