"""Who uses a folder: a lock that every process shares while it does, and that a killed one lets go of."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody can tell who else is there, and nothing of others is removed
    fcntl = None

LOCK_NAMES = (".users", ".guard")
"""The lock that users share, and the one that who changes a hold on the first takes for that moment.

The system gives a lock up before it tries to make it exclusive: two that try at once would both lose theirs.
"""


class FolderLock:
    """Hold a shared lock on a folder from the start; the system lets go of it when the process ends."""

    def __init__(self, folder: Path) -> None:
        while True:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._users, self._guard = (_opened(folder / name) for name in LOCK_NAMES)
            except FileNotFoundError:  # the last user of before has just removed the folder
                continue
            if fcntl is None:
                return
            fcntl.flock(self._guard, fcntl.LOCK_EX)
            is_there = all(
                _is_same(handle, folder / name)
                for handle, name in zip((self._users, self._guard), LOCK_NAMES, strict=True)
            )
            if is_there:
                fcntl.flock(self._users, fcntl.LOCK_SH)
                fcntl.flock(self._guard, fcntl.LOCK_UN)
                return
            self.close()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Yield whether no one else uses the folder; if so, nobody begins to until the end of the block."""
        if fcntl is None:
            yield False
            return
        fcntl.flock(self._guard, fcntl.LOCK_EX)
        try:
            yield _is_exclusive(self._users)
        finally:
            fcntl.flock(self._users, fcntl.LOCK_SH)
            fcntl.flock(self._guard, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go."""
        os.close(self._users)
        os.close(self._guard)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _is_same(handle: int, path: Path) -> bool:
    return path.exists() and path.stat().st_ino == os.fstat(handle).st_ino


def _is_exclusive(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # pyright: ignore - there is fcntl where it is called
    except OSError:
        return False
    return True
