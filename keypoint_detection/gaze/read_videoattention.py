"""Read VideoAttentionTarget: frames of clips, one text file per person and clip.

`images/<show>/<clip>/<frame>.jpg` and `annotations/<split>/<show>/<clip>/*.txt`, whose lines are frame, head
box x0 y0 x1 y1, gaze x y with commas between, in pixels; a gaze of -1 -1 is outside the image, and other
negative numbers are a click beside its border.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.people_parts import sample_frames
from keypoint_detection.gaze.people_table import INSIDE, OUTSIDE, GazeTable
from keypoint_detection.gaze.read_rows import (
    RowChecks,
    box_pixels,
    build_table,
    gaze_pixels,
    read_lines,
    row_numbers,
    row_sizes,
)

_N_COLUMNS = 7


class _Rows(NamedTuple):
    """Hold the rows of all files."""

    files: list[Path]
    file: NDArray[np.int64]  # index of each row's file
    line: list[int]
    cells: list[list[str]]

    def place(self, row: int) -> str:
        return f"{self.files[self.file[row]]}, line {self.line[row]}"

    def select(self, chosen: NDArray[np.bool_]) -> "_Rows":
        rows = np.flatnonzero(chosen).tolist()
        return _Rows(
            self.files, self.file[rows], [self.line[row] for row in rows], [self.cells[row] for row in rows]
        )


def read_videoattention(
    root: str | Path,
    split: str = "train",
    *,
    frame_share: float = 1.0,
    seed: int = 42,
    skip_broken: bool = False,
) -> GazeTable:
    """Read one split of VideoAttentionTarget.

    Args:
        root: Folder that holds images/ and annotations/.
        split: Folder below annotations/: "train" or "test".
        frame_share: Share of the frames of each clip to read, in (0, 1]: neighbouring frames are almost the
            same, and 0.2 is usual to train on. The people of a frame stay together; every clip keeps a frame.
        seed: Seed of the choice of frames.
        skip_broken: Leave broken lines out and print one line about them, instead of raising.

    Returns:
        People by clip, file and line, named `<show>/<clip>/<file>#<frame>`; the group is the clip, the eye
        the centre of the head box.

    Raises:
        FileNotFoundError: A folder or an image is missing; the line is named.
        ValueError: A line has not seven columns, no numbers, a broken box or image; the line is named.
    """
    root = Path(root)
    rows = _read(root / "annotations" / split)
    if frame_share != 1:
        rows = rows.select(sample_frames(*_images(rows), frame_share, seed))
    source = str(root / "annotations" / split)
    checks = RowChecks(source, rows.place, len(rows.cells), skip_broken)
    return _table(root, rows, checks)


def _read(folder: Path) -> _Rows:
    files = sorted(folder.glob("*/*/*.txt"))
    if not files:
        raise FileNotFoundError(
            f"expected files <show>/<clip>/*.txt, found none in {folder}; "
            "check the folder of the data and the split"
        )
    file_of, line_of, cells = [], [], []
    for index, file in enumerate(files):
        for number, line in enumerate(read_lines(file), start=1):
            if line.strip():
                file_of.append(index)
                line_of.append(number)
                cells.append([cell.strip() for cell in line.split(",")])
    return _Rows(files, np.array(file_of, dtype=np.int64), line_of, cells)


def _images(rows: _Rows) -> tuple[list[str], list[str]]:
    """Return image and clip of each row."""
    clips = ["/".join(file.parts[-3:-1]) for file in rows.files]
    groups = [clips[index] for index in rows.file.tolist()]
    frames = (row[0] for row in rows.cells)
    return [f"images/{group}/{frame}" for group, frame in zip(groups, frames, strict=True)], groups


def _table(root: Path, rows: _Rows, checks: RowChecks) -> GazeTable:
    names, groups = _images(rows)
    people = [
        f"{group}/{rows.files[index].stem}#{row[0]}"
        for group, index, row in zip(groups, rows.file.tolist(), rows.cells, strict=True)
    ]
    counts = [len(row) for row in rows.cells]
    checks.require(
        np.array(counts) == _N_COLUMNS, f"{_N_COLUMNS} columns", lambda row: f"{counts[row]} columns"
    )
    cells = [row if len(row) == _N_COLUMNS else [row[0], *("0",) * (_N_COLUMNS - 1)] for row in rows.cells]
    numbers = row_numbers(cells, range(1, _N_COLUMNS), checks)
    checks.require(_first_time(people), "a frame once per file", lambda row: f"{cells[row][0]} again")
    hw = row_sizes(root, names, checks)
    box = box_pixels(numbers[:, :4], hw, checks)
    is_inside = (numbers[:, 4:] != -1).any(1)
    gaze = gaze_pixels(numbers[:, 4:] / hw[:, ::-1], hw, is_inside, checks)
    checks.finish()
    kept = checks.kept
    return build_table(
        _only(names, kept),
        hw[kept],
        _only(people, kept),
        _only(groups, kept),
        head_box=box[kept],
        eye_xy=np.full((kept.sum(), 2), np.nan),
        gaze_xy=gaze[kept, None],
        in_frame=np.where(is_inside, INSIDE, OUTSIDE)[kept],
        source=checks.source,
    )


def _first_time(names: Sequence[str]) -> NDArray[np.bool_]:
    first = {name: row for row, name in reversed(list(enumerate(names)))}
    return np.array([first[name] == row for row, name in enumerate(names)], dtype=bool)


def _only(names: Sequence[str], kept: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_kept in zip(names, kept.tolist(), strict=True) if is_kept]
