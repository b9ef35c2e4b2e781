"""Points that are visible or not: a table of image, view, place, depth and label, and its files.

A CSV file has one row per point under the header `image,view,height,width,x,y,depth_m,label`. A row whose x,
y and label are empty declares an image: images without points, and an order of images that is not the order
of their points, are kept that way.
"""

import csv
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keypoint_detection.files import atomic_write

COLUMNS = ("image", "view", "height", "width", "x", "y", "depth_m", "label")
"""Columns of the files, in this order."""

MISSING_LIBRARY = (
    "Parquet files need pandas and pyarrow; install them with pip install 'keypoint-detection[parquet]', "
    "or use a .csv file"
)


@dataclass(frozen=True)
class PointTable:
    """Hold labelled points of several images.

    Attributes:
        image_names: Path of each image relative to the folder of the images, without repetition.
        views: Name of the camera view of each image.
        image_hw: Height and width of each image in pixels, int64 `[i, 2]`.
        image: Index of each point's image, int64 `[p]`.
        xy: Original-image pixels, float64 `[p, 2]`.
        depth_m: Distance from the camera in metres, float64 `[p]`; NaN is none.
        label: 1 visible, 0 not visible, uint8 `[p]`.
    """

    image_names: tuple[str, ...]
    views: tuple[str, ...]
    image_hw: NDArray[np.int64]
    image: NDArray[np.int64]
    xy: NDArray[np.float64]
    depth_m: NDArray[np.float64]
    label: NDArray[np.uint8]

    def __post_init__(self) -> None:
        """Check that the columns fit together."""
        shapes = (len(self.views), self.image_hw.shape, self.xy.shape, self.depth_m.shape, self.label.shape)
        n_images, n_points = len(self.image_names), len(self.image)
        expected = (n_images, (n_images, 2), (n_points, 2), (n_points,), (n_points,))
        if shapes != expected:
            raise ValueError(
                "expected views, image_hw, xy, depth_m and label of sizes "
                f"{expected} for {n_images} images and {n_points} points, got {shapes}"
            )
        if n_points and (self.image.min() < 0 or self.image.max() >= n_images):
            raise ValueError(
                f"expected indices of images from 0 to {n_images - 1}, got {self.image.min()} to "
                f"{self.image.max()}"
            )

    def __len__(self) -> int:
        return len(self.image)

    @property
    def point_views(self) -> NDArray[np.str_]:
        """Return the view of each point, `[p]`."""
        return np.array(self.views, dtype=np.str_)[self.image]

    def select(self, chosen: ArrayLike) -> "PointTable":
        """Return some of the points, and all images.

        Args:
            chosen: Booleans `[p]`, or indices of points in the order to return them.
        """
        chosen = np.asarray(chosen)
        rows = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        image, xy, depth_m, label = (
            column[rows] for column in (self.image, self.xy, self.depth_m, self.label)
        )
        return replace(self, image=image, xy=xy, depth_m=depth_m, label=label)


def check_points_path(path: str | Path) -> None:
    """Raise a ValueError where `write_points` would for this path: the ending, or a missing library."""
    if _ending(Path(path)) == ".parquet":
        _import_pandas()


def write_points(path: str | Path, table: PointTable) -> None:
    """Write a table as `.csv` or `.parquet`, atomically; every number comes back exactly.

    Raises:
        ValueError: The ending is another, or the libraries for Parquet are not installed.
    """
    path = Path(path)
    if _ending(path) == ".csv":
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows(_rows(table))
    else:
        frame = _frame(table)
        with atomic_write(path) as temporary:
            frame.to_parquet(temporary, index=False)


def read_points(path: str | Path) -> PointTable:
    """Read a table from `.csv` or `.parquet`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The ending is another, a column is missing, or a row is no point: the line is named.
    """
    path = Path(path)
    ending = _ending(path)
    if not path.is_file():
        raise FileNotFoundError(f"expected a file of points, found nothing at {path}; check the path")
    cells = _read_csv(path) if ending == ".csv" else _read_parquet(path)
    return _table(cells, path)


class _Cells(NamedTuple):
    """Hold the columns of a file as they are written, and the line of each row."""

    columns: dict[str, Sequence[Any]]
    lines: Sequence[int]


def _ending(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in (".csv", ".parquet"):
        raise ValueError(f"expected a file of points that ends in .csv or .parquet, got {path}")
    return ending


def _first_rows(table: PointTable) -> Sequence[int]:
    """Return the images to declare: none where the points name all of them in their order."""
    _, first = np.unique(table.image, return_index=True)
    in_order = len(first) == len(table.image_names) and bool((np.diff(first) > 0).all())
    return () if in_order else range(len(table.image_names))


def _rows(table: PointTable) -> Iterable[Sequence[Any]]:
    """Yield the rows of a CSV file; Python writes the shortest digits that give a float back exactly."""
    heads = list(zip(table.image_names, table.views, *table.image_hw.T.tolist(), strict=True))
    for image in _first_rows(table):
        yield *heads[image], "", "", "", ""
    depths = ["" if math.isnan(depth) else depth for depth in table.depth_m.tolist()]
    points = zip(table.image.tolist(), table.xy.tolist(), depths, table.label.tolist(), strict=True)
    for image, (x, y), depth, label in points:
        yield *heads[image], x, y, depth, label


def _frame(table: PointTable) -> Any:
    pandas = _import_pandas()
    declared = np.array(_first_rows(table), dtype=np.int64)
    image, none = np.concatenate([declared, table.image]), np.full(len(declared), np.nan)
    columns = {
        "image": np.array(table.image_names, dtype=object)[image],
        "view": np.array(table.views, dtype=object)[image],
        "height": table.image_hw[image, 0],
        "width": table.image_hw[image, 1],
        "x": np.concatenate([none, table.xy[:, 0]]),
        "y": np.concatenate([none, table.xy[:, 1]]),
        "depth_m": np.concatenate([none, table.depth_m]),
        "label": np.concatenate([none, table.label]),
    }
    frame = pandas.DataFrame(columns)
    return frame.astype({"label": "UInt8"})


def _import_pandas() -> Any:
    try:
        import pandas
        import pyarrow  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(MISSING_LIBRARY) from None
    return pandas


def _read_parquet(path: Path) -> _Cells:
    try:
        frame = _import_pandas().read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        if str(error) == MISSING_LIBRARY:
            raise
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a Parquet file of points, got {reason:.200}") from None
    _check_header(list(frame.columns), path)
    frame = frame[list(COLUMNS)]
    columns = {name: frame[name].astype(object).where(frame[name].notna(), "").tolist() for name in COLUMNS}
    return _Cells(columns, range(1, len(frame) + 1))


def _read_csv(path: Path) -> _Cells:
    rows, lines = [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, [])
            _check_header(header, path)
            for row in reader:
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: expected {len(header)} cells, got {len(row)}"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a CSV file in UTF-8, got {error}") from None
    columns = list(zip(*rows, strict=True)) or [()] * len(header)
    return _Cells({name: columns[header.index(name)] for name in COLUMNS}, lines)


def _check_header(header: Sequence[str], path: Path) -> None:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ValueError(
            f"{path}: expected the columns {','.join(COLUMNS)}, got {','.join(map(str, header)) or 'none'}; "
            f"missing: {', '.join(missing)}"
        )


def _table(cells: _Cells, path: Path) -> PointTable:
    """Return the checked table of the columns of a file."""
    columns = cells.columns
    order = {name: index for index, name in enumerate(dict.fromkeys(columns["image"]))}
    image = np.array([order[name] for name in columns["image"]], dtype=np.int64)
    is_point = np.array([value != "" for value in columns["label"]], dtype=bool)
    size = np.stack([_numbers(cells, name, _pixels, path) for name in ("height", "width")], axis=1)
    xy = np.stack([_numbers(cells, name, _float_or_nan, path) for name in ("x", "y")], axis=1)
    depth_m = _numbers(cells, "depth_m", _float_or_nan, path)
    label = _numbers(cells, "label", lambda value: int(value or 0), path)
    first = np.unique(image, return_index=True)[1] if len(image) else np.empty(0, dtype=np.int64)
    views = np.array(columns["view"], dtype=object)
    first_of = first[image]
    _check(
        cells,
        (views == views[first_of]) & (size == size[first_of]).all(1),
        path,
        "an image of one view and size",
    )
    _check(cells, (size > 0).all(1), path, "a height and width of 1 or more")
    _check(
        cells, np.isfinite(xy).all(1) == is_point, path, "finite x and y beside a label, or none of the three"
    )
    _check(cells, (label == 0) | (label == 1), path, "a label of 1 (visible) or 0 (not visible)")
    _check(cells, ~(depth_m <= 0) & ~np.isinf(depth_m), path, "a depth above 0 m, or an empty cell")
    return PointTable(
        image_names=tuple(map(str, order)),
        views=tuple(map(str, views[first])),
        image_hw=size[first].astype(np.int64),
        image=image[is_point],
        xy=xy[is_point],
        depth_m=depth_m[is_point],
        label=label[is_point].astype(np.uint8),
    )


def _pixels(value: Any) -> int:
    return int(np.int32(int(value)))  # larger ones are an OverflowError


def _float_or_nan(value: Any) -> float:
    return float(value) if value != "" else np.nan


def _numbers(cells: _Cells, name: str, convert: Callable[[Any], float], path: Path) -> NDArray[Any]:
    """Return a column as numbers, or name the line that holds none."""
    numbers, row = [], -1
    try:
        for row, value in enumerate(cells.columns[name]):  # noqa: B007 - the row is for the error
            numbers.append(convert(value))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{path}, line {cells.lines[row]}: expected a number as {name}, got {cells.columns[name][row]!r}"
        ) from None
    return np.array(numbers, dtype=np.int64 if convert is _pixels else np.float64)


def _check(cells: _Cells, is_right: Any, path: Path, expected: str) -> None:
    """Raise a ValueError for the first row that is not right."""
    wrong = np.flatnonzero(~is_right)
    if len(wrong):
        row = {name: cells.columns[name][wrong[0]] for name in COLUMNS}
        got = ",".join(str(value) for value in row.values())
        raise ValueError(f"{path}, line {cells.lines[wrong[0]]}: expected {expected}, got {got}")
