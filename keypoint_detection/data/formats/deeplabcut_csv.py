"""The table of labels that DeepLabCut writes as `CollectedData_*.csv`, checked cell by cell."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from keypoint_detection.data.formats.deeplabcut_table import (
    ColumnLabel,
    LabelTable,
    label_row,
    point_columns,
)

_HEADER_ROWS = ("scorer", "individuals", "bodyparts", "coords")


def read_label_table(path: Path, scorer: str | None = None) -> LabelTable:
    """Read a CSV with header rows scorer, (individuals,) bodyparts, coords and one or three index columns.

    Args:
        path: The file.
        scorer: Whose labels to take where it holds those of several.

    Raises:
        ValueError: The header rows are others, a row is too short or too long, or a cell is no number of
            pixels; the message names the file, the line and the column.
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
    labels = _labels(header)
    columns, others = point_columns(path, labels, scorer)
    n_index = labels[0].position
    rows = [
        label_row(path, f"line {line}", cells[:n_index], columns, cells.__getitem__) for line, cells in lines
    ]
    if not rows:
        raise ValueError(f"{path}: expected one row per labelled image, got none")
    return LabelTable(path, columns, rows, others)


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


def _labels(header: Mapping[str, Sequence[str]]) -> list[ColumnLabel]:
    """Return the labels of all columns; they begin after blank index columns."""
    coords = header["coords"]
    first = next((index for index, cell in enumerate(coords) if index and cell), len(coords))
    individuals = header.get("individuals", [""] * len(coords))
    scorers = header.get("scorer", [""] * len(coords))
    labels, scorer = [], ""
    for position in range(first, len(coords)):
        scorer = scorers[position] or scorer  # a spreadsheet leaves the cells of a joined one blank
        names = (individuals[position], header["bodyparts"][position], coords[position])
        labels.append(ColumnLabel(position, scorer, *names))
    return labels
