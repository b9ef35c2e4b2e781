"""Rows of a file of people: what is broken is told by its place, or left out and said so.

Files count from the corner of the image: their (0, 0) is (-0.5, -0.5) of a table, see `geometry`.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.data.formats.image_files import image_sizes_hw
from keypoint_detection.gaze.people_table import GazeTable, box_overlaps, check

MARGIN = 0.1
"""A point this share of the image's side beyond its border is meant to be on it; farther it is an error."""

_PLACES_NAMED = 10

Floats = NDArray[np.float64]


class RowChecks:
    """Check all rows of a file at once: raise at the first broken one, or collect what is to be left out."""

    def __init__(self, source: str, place: Callable[[int], str], n_rows: int, skip_broken: bool) -> None:
        """Store where the rows are from.

        Args:
            source: The file or folder, for the line that says what was skipped.
            place: File and line of a row.
            n_rows: Number of rows.
            skip_broken: Leave broken rows out instead of raising.
        """
        self.source = source
        self.place = place
        self.skip_broken = skip_broken
        self.kept = np.ones(n_rows, dtype=bool)
        self.messages: dict[int, str] = {}

    def require(
        self,
        is_right: ArrayLike,
        expected: str,
        got: Callable[[int], str],
        error: type[Exception] = ValueError,
    ) -> None:
        """Raise for the first row that is not right, or mark all such rows to be left out.

        Args:
            is_right: Booleans `[n_rows]`; rows that are left out already do not matter.
            expected: What a right row has.
            got: What a row has instead.
            error: ValueError or FileNotFoundError.
        """
        for row in np.flatnonzero(~np.asarray(is_right, dtype=bool) & self.kept).tolist():
            message = f"{self.place(row)}: expected {expected}, got {got(row)}"
            if not self.skip_broken:
                raise error(message)
            self.messages[row] = message
            self.kept[row] = False

    def finish(self) -> None:
        """Print one line on what is left out; nothing left is a ValueError."""
        if self.messages:
            said = [self.messages[row] for row in sorted(self.messages)]
            more = f"; and {len(said) - _PLACES_NAMED} more" if len(said) > _PLACES_NAMED else ""
            listed = "; ".join(said[:_PLACES_NAMED])
            print(
                f"{self.source}: skipped {len(said)} of {len(self.kept)} rows: {listed}{more}",
                file=sys.stderr,
            )
        if not self.kept.any():
            raise ValueError(f"{self.source}: expected people, got none")


def row_numbers(cells: Sequence[Sequence[str]], columns: Iterable[int], checks: RowChecks) -> Floats:
    """Return columns of text as finite numbers, `[r, columns]`; a row that holds another text is broken."""
    numbers = []
    for column in columns:
        texts = [row[column] for row in cells]
        values = _floats(texts)
        checks.require(
            np.isfinite(values),
            f"a number in column {column + 1}",
            lambda row, texts=texts: repr(texts[row]),
        )
        numbers.append(values)
    return np.stack(numbers, axis=1)


def row_sizes(root: Path, names: Sequence[str], checks: RowChecks) -> Floats:
    """Return height and width of the image of each row that is kept, float64 `[r, 2]`; NaN for the others.

    Each image is looked at once. A row whose image is missing or no image is broken.
    """
    wanted = list(dict.fromkeys(name for name, kept in zip(names, checks.kept, strict=True) if kept))
    present = [name for name in wanted if (root / name).is_file()]
    is_there = set(present)
    checks.require(
        np.array([name in is_there for name in names], dtype=bool),
        "an image",
        lambda row: f"nothing at {root / names[row]}; check the folder of the data",
        FileNotFoundError,
    )
    size_of = dict(zip(present, image_sizes_hw([root / name for name in present]), strict=True))
    none = (np.nan, np.nan)
    sizes = np.array([size_of.get(name) or none for name in names], dtype=np.float64).reshape(-1, 2)
    checks.require(
        np.isfinite(sizes).all(1), "a readable image", lambda row: f"a corrupt file: {root / names[row]}"
    )
    return sizes


def box_pixels(corners: Floats, row_hw: Floats, checks: RowChecks) -> Floats:
    """Return head boxes as a table has them, `[r, 4]`.

    Args:
        corners: `(x0, y0, x1, y1)` in pixels from the corner of the image, `[r, 4]`.
        row_hw: Height and width of the image of each row, `[r, 2]`.
        checks: Gets the rows whose box is empty, the wrong way round or outside the image.
    """
    box = corners - 0.5
    checks.require(
        (box[:, :2] < box[:, 2:]).all(1),
        "a head box of x0 < x1 and y0 < y1",
        lambda row: _listed(corners[row]),
    )
    checks.require(
        box_overlaps(box, row_hw),
        "a head box on the image",
        lambda row: f"{_listed(corners[row])}, outside of {_size(row_hw[row])}",
    )
    return box


def eye_pixels(relative: Floats, row_hw: Floats, checks: RowChecks) -> Floats:
    """Return eyes as a table has them, `[r, 2]`; one that is far outside its image is broken.

    Args:
        relative: Shares of width and height, `[r, 2]`; NaN is no eye.
        row_hw: Height and width of the image of each row, `[r, 2]`.
        checks: Gets the rows that are broken.
    """
    far = ((relative < -MARGIN) | (relative > 1 + MARGIN)).any(1)
    checks.require(~far, "an eye on the image (0 to 1)", lambda row: _listed(relative[row]))
    return relative * row_hw[:, ::-1] - 0.5


def gaze_pixels(relative: Floats, row_hw: Floats, is_inside: NDArray[np.bool_], checks: RowChecks) -> Floats:
    """Return gaze points as a table has them, `[r, 2]`, clamped to the image; NaN where not inside.

    Args:
        relative: Shares of width and height, `[r, 2]`; a little less than 0 or more than 1 is clamped,
            because a click beside the border of the image means the border.
        row_hw: Height and width of the image of each row, `[r, 2]`.
        is_inside: The rows that have a gaze point.
        checks: Gets the rows whose point is far outside the image.
    """
    near = ((relative >= -MARGIN) & (relative <= 1 + MARGIN)).all(1)
    checks.require(
        near | ~is_inside,
        f"a gaze point on the image (0 to 1 of its sides, {MARGIN:g} more is clamped)",
        lambda row: f"{_listed(relative[row])} of {_size(row_hw[row])}",
    )
    pixels = np.clip(relative, 0, 1) * row_hw[:, ::-1] - 0.5
    return np.where(is_inside[:, None], pixels, np.nan)


def numbered(names: Iterable[str]) -> list[str]:
    """Return a name for each row: the image and the row's number among those of the image, `a.png#0`."""
    counts: dict[str, int] = {}
    people = []
    for name in names:
        number = counts.get(name, 0)
        counts[name] = number + 1
        people.append(f"{name}#{number}")
    return people


def build_table(
    names: Sequence[str],
    row_hw: Floats,
    people: Sequence[str],
    groups: Sequence[str],
    *,
    head_box: Floats,
    eye_xy: Floats,
    gaze_xy: Floats,
    in_frame: NDArray,
    source: str,
) -> GazeTable:
    """Return the checked table of rows that are kept; images in the order of the rows."""
    order = {name: index for index, name in enumerate(dict.fromkeys(names))}
    image = np.array([order[name] for name in names], dtype=np.int64)
    first = np.unique(image, return_index=True)[1]
    table = GazeTable(
        image_names=tuple(order),
        image_hw=row_hw[first].astype(np.int64),
        image=image,
        person=tuple(people),
        head_box=head_box,
        eye_xy=eye_xy,
        gaze_xy=gaze_xy,
        in_frame=in_frame.astype(np.int8),
        group=tuple(groups),
    )
    check(table, source)
    return table


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file in UTF-8.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise FileNotFoundError(
            f"expected a file of people, found nothing at {path}; check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, got {error}") from None
    return text.split("\n")


def _floats(texts: Sequence[str]) -> Floats:
    """Return numbers, NaN where a text is none."""
    try:
        return np.array(texts, dtype=np.float64)
    except ValueError:
        return np.array([_float(text) for text in texts], dtype=np.float64)


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _listed(values: NDArray) -> str:
    return ", ".join(f"{value:g}" for value in values.tolist())


def _size(hw: NDArray) -> str:
    return f"a {hw[1]:g} pixels wide and {hw[0]:g} pixels high image"
