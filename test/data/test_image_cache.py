import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import noise_image

from keypoint_detection.data import image_cache
from keypoint_detection.data.image_cache import FileState, ImageCache, entry_name, file_state, open_cache
from keypoint_detection.data.image_cache_lock import LOCK_NAMES

SHAPE = (20, 30, 3)
PIXELS = noise_image(SHAPE[:2])
STATE = FileState(100, 123456789)
NAME = entry_name("a.png", [3])
ENTRY_BYTES = PIXELS.nbytes + 64


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in LOCK_NAMES)


def filled(folder: Path, **options: object) -> ImageCache:
    cache = ImageCache(folder, 10**6, **options)
    cache.write(NAME, STATE, PIXELS)
    return cache


def test_what_is_written_is_read_by_another_cache_and_shared(tmp_path: Path) -> None:
    filled(tmp_path)
    image = ImageCache(tmp_path, 10**6).read(NAME, STATE, SHAPE)
    assert np.array_equal(image, PIXELS)
    with pytest.raises(ValueError, match="read-only"):
        image[0] = 0
    # the memory belongs to the file: what changes there is seen here, so there is one copy for all
    with (tmp_path / NAME).open("r+b") as file:
        file.seek(64)
        file.write(bytes([int(PIXELS[0, 0, 0]) ^ 255]))
    assert image[0, 0, 0] == PIXELS[0, 0, 0] ^ 255
    assert (tmp_path / NAME).stat().st_size == ENTRY_BYTES


@pytest.mark.parametrize("state", [FileState(101, STATE.mtime_ns), FileState(100, STATE.mtime_ns + 1)])
def test_an_image_file_that_changed_is_not_taken_from_the_cache(tmp_path: Path, state: FileState) -> None:
    cache = filled(tmp_path)
    assert cache.read(NAME, state, SHAPE) is None
    cache.write(NAME, state, 255 - PIXELS)  # takes the place of the old one
    assert files(tmp_path) == [NAME]
    assert np.array_equal(cache.read(NAME, state, SHAPE), 255 - PIXELS)
    assert cache.read(NAME, STATE, SHAPE) is None


def test_the_name_depends_on_file_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [entry_name(path, settings) for path in ("a", "b") for settings in ([1], [3], [1, [2, 2]])]
    assert len(set(names)) == 6
    assert entry_name(tmp_path / "a", [1]) == names[0]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:40],
        lambda content: content[:-1],
        lambda content: content + b"\0",
        lambda content: b"another1" + content[8:],
        lambda content: content[:900] + bytes(100) + content[1000:],
    ],
)
def test_a_damaged_entry_is_not_read(tmp_path: Path, damage: object) -> None:
    filled(tmp_path)
    path = tmp_path / NAME
    path.write_bytes(damage(path.read_bytes()))
    cache = ImageCache(tmp_path, 10**6)
    assert cache.read(NAME, STATE, SHAPE) is None
    cache.write(NAME, STATE, PIXELS)
    assert np.array_equal(cache.read(NAME, STATE, SHAPE), PIXELS)
    assert cache.read(NAME, STATE, (30, 20, 3)) is None


def test_the_bound_holds_first_come_first_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = ImageCache(tmp_path, 2 * ENTRY_BYTES + 10)
    names = [entry_name(f"{index}.png", []) for index in range(4)]
    assert cache.admit(names[:3], [PIXELS.nbytes] * 3).tolist() == [True, True, False]
    assert cache.admit([names[1], names[3]], [PIXELS.nbytes] * 2).tolist() == [True, False]
    with caplog.at_level(logging.INFO, "keypoint_detection"):
        cache.make_room()
    assert len(caplog.messages) == 1
    assert "room for 2 of 4 images" in caplog.text
    assert ImageCache(tmp_path, 10).admit(names, [PIXELS.nbytes] * 4).tolist() == [False] * 4


def test_no_more_than_half_of_what_is_free_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_cache.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    assert ImageCache(tmp_path, 10**9).limit_bytes == 500
    assert ImageCache(tmp_path, 400).limit_bytes == 400


def test_room_is_made_by_removing_the_oldest_foreign_entries(tmp_path: Path) -> None:
    old = [entry_name(f"old{index}.png", []) for index in range(3)]
    writer = ImageCache(tmp_path, 10**6)
    for age, name in enumerate(old):
        writer.write(name, STATE, PIXELS)
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    (tmp_path / f".{NAME.removesuffix('.pixels')}-abc_12.pixels").write_bytes(b"left by a killed writer")
    (tmp_path / "notes.txt").write_text("of someone else")
    busy = ImageCache(tmp_path, 2 * ENTRY_BYTES)
    busy.admit([NAME], [PIXELS.nbytes])
    busy.make_room()
    assert len(files(tmp_path)) == 5  # another run uses the folder
    del writer
    busy.make_room()
    assert files(tmp_path) == sorted([old[0], "notes.txt"])
    busy.make_room()
    assert files(tmp_path) == sorted([old[0], "notes.txt"])
    busy.write(NAME, STATE, PIXELS)
    assert sum((tmp_path / name).stat().st_size for name in (NAME, old[0])) <= busy.limit_bytes


def test_a_cache_in_memory_goes_with_its_last_user(tmp_path: Path) -> None:
    folder = tmp_path / "ram"
    first = filled(folder, is_kept=False)
    second = ImageCache(folder, 10**6, is_kept=False)
    copy = pickle.loads(pickle.dumps(first))  # as a loader process gets it
    del first
    assert np.array_equal(second.read(NAME, STATE, SHAPE), PIXELS)
    assert np.array_equal(copy.read(NAME, STATE, SHAPE), PIXELS)
    del second
    assert not folder.exists()
    copy.write(NAME, STATE, PIXELS)  # a loader that outlives the run makes no folder again
    assert not folder.exists()
    disk = filled(folder)
    del disk
    assert files(folder) == [NAME]


def test_an_exception_in_the_middle_of_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ImageCache(tmp_path, 10**6)

    def full(source: object, target: object) -> None:
        assert Path(str(source)).stat().st_size == ENTRY_BYTES
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        for _ in range(3):
            cache.write(NAME, STATE, PIXELS)
    assert caplog.text.count("takes no more (No space left on device)") == 1  # said once
    assert files(tmp_path) == []
    assert cache.read(NAME, STATE, SHAPE) is None
    cache.write(NAME, STATE, PIXELS)
    assert files(tmp_path) == []  # and nothing is tried again


WRITER = """
import sys
import numpy as np
from keypoint_detection.data.image_cache import FileState, ImageCache
cache = ImageCache(sys.argv[1], 10**9)
image = np.full((1000, 1000, 3), int(sys.argv[2]), np.uint8)
print("ready", flush=True)
while True:
    cache.write(sys.argv[3], FileState(1, 2), image)
"""


def test_a_killed_writer_leaves_the_old_entry_or_the_new(tmp_path: Path) -> None:
    for value in range(3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(value + 1), NAME]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.05 + 0.013 * value)
            os.kill(writer.pid, signal.SIGKILL)
        image = ImageCache(tmp_path, 10**9).read(NAME, FileState(1, 2), (1000, 1000, 3))
        assert image is not None
        assert image.min() == image.max() in range(1, value + 2)
    (tmp_path / f".{NAME.removesuffix('.pixels')}-killed.pixels").write_bytes(b"half")
    ImageCache(tmp_path, 10**9).make_room()  # the lock of a killed process is gone, too
    assert files(tmp_path) == [NAME]


def _fill(folder: Path, names: list[str]) -> None:
    cache = ImageCache(folder, 10**6)
    for index, name in enumerate(names):
        image = np.full(SHAPE, index, np.uint8)
        found = cache.read(name, STATE, SHAPE)
        assert found is None or np.array_equal(found, image)
        cache.write(name, STATE, image)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_two_processes_fill_one_cache(tmp_path: Path) -> None:
    names = [entry_name(f"{index}.png", []) for index in range(60)]
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_fill, args=(tmp_path, order)) for order in (names, names)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert files(tmp_path) == sorted(names)
    cache = ImageCache(tmp_path, 10**6)
    for index, name in enumerate(names):
        assert np.unique(cache.read(name, STATE, SHAPE)).tolist() == [index]


def test_kinds_and_wrong_folders(tmp_path: Path) -> None:
    assert open_cache("off", 10**6) is None
    assert open_cache("ram", 0) is None
    with pytest.raises(ValueError, match="cache: expected one of ram, disk, off, got 'none'"):
        open_cache("none", 10)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"expected a folder that can be written, got .*file .*--cache_dir"):
        open_cache("disk", 10**6, tmp_path / "file")


def test_the_state_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    os.utime(path, ns=(5, 7))
    assert file_state(path) == FileState(5, 7)


def test_a_disk_cache_is_in_the_users_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = open_cache("disk", 10**6)
    assert cache.folder == tmp_path / "keypoint-detection" / "images"
    assert str(os.getuid()) in str(image_cache.default_folder("ram"))
