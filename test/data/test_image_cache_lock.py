import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.data.image_cache import FileState, ImageCache, entry_name
from keypoint_detection.data.image_cache_lock import FolderLock

STATE, NAME = FileState(1, 2), entry_name("a.png", [])


def is_alone(lock: FolderLock) -> bool:
    with lock.alone() as answer:
        return answer


def test_alone_or_not(tmp_path: Path) -> None:
    first = FolderLock(tmp_path / "new")
    assert is_alone(first)
    second = FolderLock(tmp_path / "new")
    assert not is_alone(first)
    assert not is_alone(second)  # asking does not lose the lock
    assert not is_alone(first)
    second.close()
    assert is_alone(first)
    assert is_alone(first)
    third = FolderLock(tmp_path / "new")
    assert not is_alone(third)
    first.close()
    third.close()


def _come_and_go(folder: Path, times: int) -> None:
    for number in range(times):
        cache = ImageCache(folder, 10**6, is_kept=False)
        cache.make_room()
        image = np.full((4, 5, 3), number, np.uint8)
        cache.write(NAME, STATE, image)
        assert folder.is_dir(), "the folder is gone while it is used"
        assert cache.read(NAME, STATE, (4, 5, 3)) is not None
        del cache


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_no_one_removes_what_another_uses(tmp_path: Path) -> None:
    """Four processes open, fill, ask for room and close the same cache in memory over and over."""
    context = multiprocessing.get_context("fork")
    users = [context.Process(target=_come_and_go, args=(tmp_path / "ram", 150)) for _ in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join(60)
    assert [user.exitcode for user in users] == [0] * 4
    assert not (tmp_path / "ram").exists()
