"""Write predictions as the tables that DeepLabCut writes itself, for folders of frames and for videos.

Tables are CSV, and HDF5 (key `df_with_missing`) too where pandas and PyTables are installed. The same
predictions give the same bytes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from keypoint_detection.data.formats.deeplabcut_records import check_names
from keypoint_detection.data.formats.deeplabcut_writer import Table, write_table

SCORER = "DLC_keypoint_detection"


def write_deeplabcut_predictions(
    output: Path,
    names: Sequence[str],
    image_paths: Sequence[str | Path],
    keypoints_xy: np.ndarray,
    scores: np.ndarray,
    *,
    scorer: str = SCORER,
) -> tuple[Path, ...]:
    """Write predictions as DeepLabCut does for folders of frames: `<folder><scorer>.csv` (and `.h5`).

    The rows are named after the image files, the columns are x, y and likelihood of every body part.

    Args:
        output: Folder of the tables, one per folder of images.
        names: The k keypoints.
        image_paths: The n images.
        keypoints_xy: Points `[n, k, 2]` in image pixels, NaN where there is none.
        scores: Likelihoods `[n, k]`.
        scorer: What DeepLabCut is to call the network; it likes to find `DLC` in it.

    Returns:
        The files that were written.

    Raises:
        ValueError: The shapes disagree, a name is blank or there twice, or an image is.
    """
    header, values = _columns(names, keypoints_xy, scores, len(image_paths), scorer)
    written: list[Path] = []
    for folder, rows in _places(image_paths).items():
        table = Table(header, [(name,) for name in rows], values[list(rows.values())])
        written.extend(write_table(output / f"{folder}{scorer}", table, layout="table"))
    return tuple(written)


def write_deeplabcut_video(
    video: Path,
    names: Sequence[str],
    frames: Sequence[int],
    keypoints_xy: np.ndarray,
    scores: np.ndarray,
    *,
    scorer: str = SCORER,
) -> tuple[Path, ...]:
    """Write predictions as DeepLabCut's `analyze_videos` does: `<video><scorer>.csv` (and `.h5`).

    The rows are numbered, as whole numbers, from 0 at the beginning of the video.

    Args:
        video: Folder of the table, and the name of the video without its suffix.
        names: The k keypoints.
        frames: Numbers of the n frames.
        keypoints_xy: Points `[n, k, 2]` in pixels, NaN where there is none.
        scores: Likelihoods `[n, k]`.
        scorer: As for `write_deeplabcut_predictions`.

    Returns:
        The files that were written.

    Raises:
        ValueError: The shapes disagree, or a name is blank or there twice.
    """
    header, values = _columns(names, keypoints_xy, scores, len(frames), scorer)
    table = Table(header, [(int(number),) for number in frames], values)
    return tuple(write_table(video.with_name(f"{video.name}{scorer}"), table, layout="table"))


def _columns(
    names: Sequence[str], keypoints_xy: np.ndarray, scores: np.ndarray, n_rows: int, scorer: str
) -> tuple[dict[str, list[str]], np.ndarray]:
    """Return the header rows and the values `[n_rows, 3 * k]` of a table."""
    shape = (n_rows, len(names))
    if keypoints_xy.shape != (*shape, 2) or scores.shape != shape:
        raise ValueError(
            f"expected points {(*shape, 2)} and scores {shape} for {shape[0]} images and {shape[1]} "
            f"keypoints, got {keypoints_xy.shape} and {scores.shape}"
        )
    check_names(names)
    header = {
        "scorer": [scorer] * (3 * len(names)),
        "bodyparts": [name for name in names for _ in range(3)],
        "coords": ["x", "y", "likelihood"] * len(names),
    }
    values = np.concatenate([keypoints_xy, scores[..., None]], axis=2, dtype=np.float64)
    return header, values.reshape(n_rows, -1)


def _places(image_paths: Sequence[str | Path]) -> dict[str, dict[str, int]]:
    """Return the rows of every folder of images by their file names."""
    folders: dict[Path, str] = {}
    places: dict[str, dict[str, int]] = {}
    for row, path in enumerate(map(Path, image_paths)):
        if path.parent not in folders:
            stem, number = path.parent.name or "images", 2
            folder = stem
            while folder in places:
                folder, number = f"{stem}_{number}", number + 1
            folders[path.parent] = folder
        rows = places.setdefault(folders[path.parent], {})
        if path.name in rows:
            raise ValueError(f"expected predictions of an image once, got {path} twice")
        rows[path.name] = row
    return places
