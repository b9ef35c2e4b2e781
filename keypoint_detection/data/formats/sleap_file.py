"""Open a `.slp` file with sleap-io; whatever it stumbles over is one line."""

import contextlib
import os
import warnings
from pathlib import Path
from typing import Any

_MOST_BYTES_PER_FILE_BYTE, _ALWAYS_ALLOWED_BYTES = 2000, 2**26


MISSING_LIBRARY = "SLEAP files need sleap-io; install it with pip install 'keypoint-detection[sleap]'"


def import_sleap_io() -> Any:
    """Return the library, or raise a ValueError that names the extra to install."""
    try:
        import sleap_io
    except ImportError:
        raise ValueError(MISSING_LIBRARY) from None
    return sleap_io


def check_file(path: Path) -> None:
    """Raise a FileNotFoundError where there is no file."""
    if not os.path.isfile(path):  # False too for what can be no path
        found = "a folder; give the .slp file itself" if os.path.isdir(path) else "nothing"
        raise FileNotFoundError(f"expected SLEAP labels (.slp) at {path}, found {found}")


def load_slp(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Return sleap-io's `Labels` without opening a video, and what it warned of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: sleap-io is not installed, or cannot read the file.
    """
    sleap_io = import_sleap_io()
    check_file(path)
    with refuse_broken(path), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _check_sizes(path)
        labels = sleap_io.load_slp(path.as_posix(), open_videos=False)
    notes = dict.fromkeys(f"{path}: " + " ".join(str(warning.message).split()) for warning in caught)
    return labels, tuple(notes)


@contextlib.contextmanager
def refuse_broken(path: Path):
    """Turn any exception inside into a one-line ValueError that names the file."""
    try:
        yield
    except Exception as error:  # sleap-io and h5py raise whatever a broken file leads to
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path}: expected SLEAP labels (HDF5), got a broken file; {reason:.200}") from None


def _check_sizes(path: Path) -> None:
    """Refuse a table that claims far more bytes than the file could hold, before memory is asked for it."""
    import h5py  # comes with sleap-io

    allowed = max(_ALWAYS_ALLOWED_BYTES, _MOST_BYTES_PER_FILE_BYTE * path.stat().st_size)
    with h5py.File(path, "r") as file:
        for name in ("points", "pred_points", "instances", "frames", "negative_frames"):
            table = file.get(name)
            if isinstance(table, h5py.Dataset) and table.size * table.dtype.itemsize > allowed:
                raise ValueError(f"table {name!r} claims {table.size} rows")
