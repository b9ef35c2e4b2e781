import json
import math
import os
import stat

import pytest

from keypoint_detection.files import atomic_write, write_json, write_text


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_atomic_write_renames_on_success(tmp_path):
    path = tmp_path / "new" / "folder" / "file.json"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
        temporary.write_text("content")
        assert not path.exists()
    assert path.read_text() == "content"
    assert names(path.parent) == ["file.json"]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half():
        with atomic_write(path) as temporary:
            temporary.write_text("half of the n")
            raise failure

    with pytest.raises(failure):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_failed_rename_leaves_no_temporary_file(tmp_path):
    (tmp_path / "target").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "target") as temporary:
        temporary.write_text("content")
    assert names(tmp_path) == ["target"]


@pytest.mark.skipif(os.name != "posix", reason="file modes of POSIX")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_mode_follows_the_umask(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "file.txt", "x")
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == mode


def test_write_text_is_utf8(tmp_path):
    write_text(str(tmp_path / "file.txt"), "\u00e9\n")
    assert (tmp_path / "file.txt").read_bytes() == b"\xc3\xa9\n"


def test_write_json(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": [1, None, "x"]})
    assert json.loads(path.read_text()) == {"a": [1, None, "x"]}
    assert path.read_text().endswith("\n")
    with pytest.raises(ValueError):
        write_json(path, {"a": math.nan})
    assert json.loads(path.read_text()) == {"a": [1, None, "x"]}
    assert names(tmp_path) == ["file.json"]
