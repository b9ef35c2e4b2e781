"""Read GOO (gaze on objects), and its sibling RetailGaze: a pickle with a list of dictionaries, and images.

What is read of an entry: `filename` (with back-slashes, below the folder of the images), the gaze `gaze_cx`,
`gaze_cy` and the eye `hx`, `hy`, in pixels of an image 640 wide and 480 high, whatever the size of the image
is. GOO has no head boxes: a head is taken to be 0.15 of the image's width and height to each side of the eye,
as far as that is on the image. RetailGaze has `ann["hbox"]` (x0, y0, x1, y1 of the same pixels) instead of
the eye. Everyone looks into the image.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from keypoint_detection.gaze.people_table import INSIDE, GazeTable
from keypoint_detection.gaze.read_rows import (
    Floats,
    RowChecks,
    box_pixels,
    build_table,
    eye_pixels,
    gaze_pixels,
    numbered,
    row_sizes,
)
from keypoint_detection.gaze.safe_pickle import PlainArray, read_plain_pickle

SCALE_WH = np.array([640.0, 480.0])
"""Width and height that the coordinates of a file are pixels of."""

HALF_HEAD = 0.15
"""Half of a head's width and height in shares of the image's, where a file has no head boxes."""


class _Rows(NamedTuple):
    """Hold what is read of the entries; numbers are shares of width and height, NaN where there is none."""

    names: list[str]
    box: Floats
    eye: Floats
    gaze: Floats


def read_goo(
    root: str | Path,
    pickle: str | Path,
    *,
    group_by: Literal["folder", "image"] = "folder",
    skip_broken: bool = False,
) -> GazeTable:
    """Read one pickle file of GOO or RetailGaze; nothing that the file asks to be run is run.

    Args:
        root: Folder of the images.
        pickle: The file, below root or not.
        group_by: Group of a person: the first folder of the file name, which is one session of GOO with its
            cameras (the image, where there is no folder), or the image.
        skip_broken: Leave broken entries out and print one line about them, instead of raising. GOO's
            `15/cam1/cam00001_img00530.jpg` is known to be a corrupt image.

    Returns:
        People in the order of the file, named `<file name>#<number in the image>`.

    Raises:
        FileNotFoundError: The file or an image is missing; the entry is named.
        ValueError: The file asks for more than plain values, or an entry is not complete, has a broken box or
            image; the entry is named.
    """
    root, path = Path(root), Path(pickle)
    path = path if path.is_file() or not (root / path).is_file() else root / path
    if group_by not in ("folder", "image"):
        raise ValueError(f"expected group_by to be folder or image, got {group_by!r}")
    entries = read_plain_pickle(path)
    if not isinstance(entries, list) or not entries:
        got = "an empty list" if isinstance(entries, list) else f"a {type(entries).__name__}"
        raise ValueError(f"{path}: expected a list of dictionaries, got {got}")
    checks = RowChecks(str(path), lambda row: f"{path}, entry {row}", len(entries), skip_broken)
    rows = _rows(entries, checks)
    return _table(root, rows, checks, group_by)


def _rows(entries: list[Any], checks: RowChecks) -> _Rows:
    is_dict = np.array([isinstance(entry, dict) for entry in entries], dtype=bool)
    checks.require(is_dict, "a dictionary", lambda row: f"a {type(entries[row]).__name__}")
    entries = [entry if isinstance(entry, dict) else {} for entry in entries]
    names = [entry.get("filename") for entry in entries]
    checks.require(
        np.array([isinstance(name, str) and name != "" for name in names], dtype=bool),
        "text as filename",
        lambda row: repr(names[row]),
    )
    boxes = [_box(entry) for entry in entries]
    is_box = np.array([box is None or len(box) == 4 for box in boxes], dtype=bool)
    checks.require(is_box, "four numbers as ann.hbox", lambda row: repr(entries[row]["ann"]["hbox"])[:80])
    gaze, eye = _points(entries, "gaze_cx", "gaze_cy"), _points(entries, "hx", "hy")
    has_box = np.array([box is not None for box in boxes], dtype=bool)
    for points, names_xy, is_needed in ((gaze, "gaze_cx, gaze_cy", True), (eye, "hx, hy", ~has_box)):
        keys = names_xy.split(", ")
        checks.require(
            np.isfinite(points).all(1) | ~np.broadcast_to(is_needed, len(points)),
            f"numbers as {names_xy}",
            lambda row, keys=keys: ", ".join(repr(entries[row].get(key))[:40] for key in keys),
        )
    box = np.array([box if box and len(box) == 4 else (np.nan,) * 4 for box in boxes])
    eye_share = eye / SCALE_WH
    drawn = np.clip(np.concatenate([eye_share - HALF_HEAD, eye_share + HALF_HEAD], axis=1), 0, 1)
    box = np.where(has_box[:, None], box / np.tile(SCALE_WH, 2), drawn)
    plain = [name.replace("\\", "/").lstrip("/") if isinstance(name, str) else "" for name in names]
    has_eye = np.isfinite(eye).all(1, keepdims=True)
    return _Rows(plain, box, np.where(has_eye, eye_share, np.nan), gaze / SCALE_WH)


def _box(entry: dict[Any, Any]) -> list[float] | None:
    """Return the numbers of `ann["hbox"]`, none of them if they are no numbers; None without the field."""
    annotation = entry.get("ann")
    value = annotation.get("hbox") if isinstance(annotation, dict) else None
    if value is None:
        return None
    try:
        numbers = value.tolist() if isinstance(value, PlainArray) else value
        box = np.array(numbers, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        return []
    return box.tolist() if np.isfinite(box).all() else []


def _points(entries: list[dict[Any, Any]], name_x: str, name_y: str) -> Floats:
    values = [[_number(entry.get(name)) for name in (name_x, name_y)] for entry in entries]
    return np.array(values, dtype=np.float64).reshape(-1, 2)


def _number(value: Any) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if is_number else np.nan
    except OverflowError:  # an integer beyond all floats
        return np.nan


def _table(root: Path, rows: _Rows, checks: RowChecks, group_by: str) -> GazeTable:
    hw = row_sizes(root, rows.names, checks)
    box = box_pixels(rows.box * np.tile(hw[:, ::-1], 2), hw, checks)
    eye = eye_pixels(rows.eye, hw, checks)
    gaze = gaze_pixels(rows.gaze, hw, np.ones(len(hw), dtype=bool), checks)
    checks.finish()
    kept = checks.kept
    chosen = np.flatnonzero(kept).tolist()
    people = numbered(rows.names)
    names = [rows.names[row] for row in chosen]
    return build_table(
        names,
        hw[kept],
        [people[row] for row in chosen],
        [name.split("/", 1)[0] if group_by == "folder" else name for name in names],
        head_box=box[kept],
        eye_xy=eye[kept],
        gaze_xy=gaze[kept, None],
        in_frame=np.full(len(chosen), INSIDE),
        source=checks.source,
    )
