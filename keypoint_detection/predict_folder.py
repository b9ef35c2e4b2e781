"""The folder that a prediction run writes into: for one run at a time, and without what a killed one left."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

OVERLAYS, OVERLAY_VIDEO, DEEPLABCUT = "overlays", "overlay.mp4", "deeplabcut"

_FULL = frozenset((errno.ENOSPC, errno.EFBIG, errno.EDQUOT))
_RANDOM = r"-[a-z0-9_]{8}"  # of the temporary names that files.atomic_write gives
_LEFT_BEHIND = {
    ".": rf"\.(predictions|predictions\.partial|predictions_coco|overlay){_RANDOM}\.(json|jsonl|csv|mp4)",
    OVERLAYS: rf"\..+{_RANDOM}\.png",
    DEEPLABCUT: rf"\..+{_RANDOM}\.(csv|h5)",
}


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder, and keep it for the block; a full disk inside the block becomes a line that helps.

    Where the system has no locks of folders, nothing keeps another run away.

    Raises:
        ValueError: The folder cannot be made or written into, or another run has it.
        OSError: The disk is full.
    """
    with _locked(folder):
        try:
            _remove_left_behind(folder)
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise OSError(
                f"expected room for the files in {folder}, got {os.strerror(error.errno or 0)!r}; make room, "
                "and run the same command again: it goes on behind what is finished"
            ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        handle = os.open(folder, os.O_RDONLY) if fcntl else None
    except OSError as error:
        raise ValueError(
            f"expected a folder to write into, cannot use {folder} ({error.strerror}); give another --output"
        ) from None
    try:
        if fcntl and handle is not None:
            _take(handle, folder)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _take(handle: int, folder: Path) -> None:
    assert fcntl
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(
            f"expected a folder for this run alone, another one is writing to {folder}; wait for it or give "
            "another --output"
        ) from None
    except OSError:  # a drive without locks
        return


def _remove_left_behind(folder: Path) -> None:
    """Remove the temporary files of a run that was killed while it wrote them."""
    for name, pattern in _LEFT_BEHIND.items():
        within = folder / name
        for path in list(within.iterdir()) if within.is_dir() else []:
            if re.fullmatch(pattern, path.name) and path.is_file():
                path.unlink()


def is_overlay(path: Path, output: Path) -> bool:
    """Tell whether a picture or a video is what a run with that folder draws, or has drawn."""
    folder, output = path.parent.resolve(), output.resolve()
    if path.name == OVERLAY_VIDEO:
        return output in (folder, folder.parent)
    return folder == output / OVERLAYS
