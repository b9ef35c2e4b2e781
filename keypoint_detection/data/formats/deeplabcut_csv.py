"""The table of labels that DeepLabCut writes as `CollectedData_*.csv`, checked cell by cell."""

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

UNIQUE = "single"
"""DeepLabCut's individual for points that a frame holds once, in a project with several animals."""

Columns = Mapping[tuple[str, str], tuple[int, int]]
_HEADER_ROWS = ("scorer", "individuals", "bodyparts", "coords")


@dataclass(frozen=True)
class LabelRow:
    """Hold the labels of one image.

    Attributes:
        line: Line of the row in the CSV, from 1.
        image_parts: The image's path as the row spells it, by components.
        points: Labelled points `(x, y)` in image pixels by individual and body part; the individual is ""
            where the file has no row of individuals.
    """

    line: int
    image_parts: tuple[str, ...]
    points: Mapping[str, Mapping[str, tuple[float, float]]]


@dataclass(frozen=True)
class LabelTable:
    """Hold one CSV: its path, the positions of x and y by individual and body part in order, and its rows."""

    path: Path
    columns: Columns
    rows: list[LabelRow]


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV with header rows scorer, (individuals,) bodyparts, coords and one or three index columns.

    Raises:
        ValueError: The header rows are others, a row is too short or too long, or a cell is no finite number;
            the message names the file, the line and the column.
    """
    lines = _read_lines(path)
    header: dict[str, list[str]] = {}
    for _, cells in lines:
        label = cells[0].strip().lower()
        if label not in _HEADER_ROWS:
            break
        header[label] = [cell.strip() for cell in cells]
        if label == "coords":
            break
    if "bodyparts" not in header or "coords" not in header:
        found = ", ".join(header) or "none of them"
        raise ValueError(
            f"{path}: expected header rows scorer, bodyparts, coords of DeepLabCut labels, got {found}"
        )
    columns = _columns(path, header)
    n_index = min(position for pair in columns.values() for position in pair)
    rows = [_row(path, line, cells, (n_index, columns)) for line, cells in lines]
    if not rows:
        raise ValueError(f"{path}: expected one row per labelled image, got none")
    return LabelTable(path, columns, rows)


def _read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield every line that is not blank with its number, all of the same number of cells."""
    n_cells = None
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        try:
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                n_cells = n_cells or len(cells)
                if len(cells) != n_cells:
                    raise ValueError(
                        f"{path} line {reader.line_num}: expected {n_cells} cells as in the first line, "
                        f"got {len(cells)}"
                    )
                yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: expected a CSV file in UTF-8; {error}") from None


def _columns(path: Path, header: Mapping[str, list[str]]) -> Columns:
    """Return the positions of x and y by individual and body part; they begin after blank index columns."""
    coords = header["coords"]
    first = next((index for index, cell in enumerate(coords) if index and cell), len(coords))
    individuals = header.get("individuals", [""] * len(coords))
    found: dict[tuple[str, str], dict[str, int]] = {}
    for position in range(first, len(coords)):
        point = (individuals[position], header["bodyparts"][position])
        axis = coords[position].lower()
        if axis not in ("x", "y") or not point[1]:
            raise ValueError(
                f"{path} column {position + 1}: expected x or y of a body part, got {coords[position]!r} of "
                f"{point[1]!r}; are these predictions instead of labels?"
            )
        if axis in found.setdefault(point, {}):
            raise ValueError(f"{path} column {position + 1}: expected one {axis} of {point[1]!r}, got two")
        found[point][axis] = position
    for (_, body_part), positions in found.items():
        if len(positions) != 2:
            raise ValueError(
                f"{path}: expected columns x and y of {body_part!r}, got {', '.join(positions)} only"
            )
    if not found:
        raise ValueError(f"{path}: expected columns x and y of body parts, got none")
    return {point: (positions["x"], positions["y"]) for point, positions in found.items()}


def _row(path: Path, line: int, cells: list[str], layout: tuple[int, Columns]) -> LabelRow:
    n_index, columns = layout
    # Windows projects write backslashes
    index = "/".join(cell.strip() for cell in cells[:n_index]).replace("\\", "/")
    parts = tuple(part for part in index.split("/") if part)
    if not parts:
        raise ValueError(f"{path} line {line}: expected the path of an image, got nothing")
    points: dict[str, dict[str, tuple[float, float]]] = {}
    for (individual, body_part), (column_x, column_y) in columns.items():
        label = f"{individual} {body_part}".strip()
        x = _number(cells[column_x], f"{path} line {line}, column '{label} x'")
        y = _number(cells[column_y], f"{path} line {line}, column '{label} y'")
        if (x is None) != (y is None):
            raise ValueError(f"{path} line {line}: expected x and y of {label!r}, got only one of them")
        labelled = points.setdefault(individual, {})
        if x is not None and y is not None:
            labelled[body_part] = (x, y)
    return LabelRow(line, ("/", *parts) if index.startswith("/") else parts, points)


def _number(cell: str, where: str) -> float | None:
    """Return a finite number, or None for a blank cell or NaN."""
    text = cell.strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.inf
    if math.isinf(value):
        raise ValueError(f"{where}: expected a number of pixels or a blank, got {text!r}")
    return None if math.isnan(value) else value
