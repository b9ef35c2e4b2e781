"""Read people and where they look from a file or folder of any layout that is known."""

from pathlib import Path
from typing import NamedTuple

from keypoint_detection.gaze.people_file import read_table
from keypoint_detection.gaze.people_table import GazeTable
from keypoint_detection.gaze.read_gazefollow import read_gazefollow
from keypoint_detection.gaze.read_goo import read_goo
from keypoint_detection.gaze.read_videoattention import read_videoattention
from keypoint_detection.registry import nearest_name

FORMATS = {
    "table": "a .json file of `write_table`",
    "gazefollow": "a .txt file of GazeFollow",
    "videoattention": "the folder annotations/<split> of VideoAttentionTarget",
    "goo": "a .pickle or .pkl file of GOO or RetailGaze",
}
"""What each format is given as."""

_ENDINGS = {".json": "table", ".txt": "gazefollow", ".csv": "gazefollow", ".pickle": "goo", ".pkl": "goo"}


class People(NamedTuple):
    """Hold people and the folder that their images are below."""

    table: GazeTable
    root: Path


def read_people(
    path: str | Path, format: str = "auto", *, root: str | Path | None = None, skip_broken: bool = False
) -> People:
    """Read people from a file, or a split's folder of VideoAttentionTarget; see `FORMATS`.

    Args:
        path: The file or folder.
        format: A name of `FORMATS`; "auto" goes by the ending of the name, and a folder is
            VideoAttentionTarget's.
        root: Folder that the names of the images are below; None is the folder of the file, and two folders
            above the one of a split.
        skip_broken: Leave broken rows out and print one line about them, instead of raising. Our own tables
            have none: a broken one is an error.

    Raises:
        FileNotFoundError: There is nothing at the path, or an image is missing.
        ValueError: The format is not known, or the content is broken; the place is named.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected people to read, found nothing at {path}; check the path")
    format = _format(path) if format == "auto" else format
    if format not in FORMATS:
        raise ValueError(
            f"expected a format of auto, {', '.join(FORMATS)}, got {format!r}.{nearest_name(format, FORMATS)}"
        )
    if format == "videoattention":
        folder = path.resolve()
        root = Path(root) if root is not None else folder.parents[1]
        return People(_read_split(folder, root, skip_broken), root)
    root = Path(root) if root is not None else path.parent
    if format == "gazefollow":
        return People(read_gazefollow(root, path, skip_broken=skip_broken), root)
    if format == "goo":
        return People(read_goo(root, path, skip_broken=skip_broken), root)
    return People(read_table(path), root)


def _format(path: Path) -> str:
    if path.is_dir():
        return "videoattention"
    if path.suffix.lower() not in _ENDINGS:
        known = "; ".join(f"{name}: {given}" for name, given in FORMATS.items())
        raise ValueError(f"{path}: expected an ending that tells the format, or the format itself ({known})")
    return _ENDINGS[path.suffix.lower()]


def _read_split(folder: Path, root: Path, skip_broken: bool) -> GazeTable:
    if folder.parent.name != "annotations":
        raise ValueError(f"expected {FORMATS['videoattention']}, got the folder {folder}")
    return read_videoattention(root, folder.name, skip_broken=skip_broken)
