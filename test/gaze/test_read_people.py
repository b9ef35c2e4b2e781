"""One door for every layout: the format is told by the name, or said."""

import pytest
from gaze_tables import assert_same, table_of
from layouts import gazefollow_line, goo_entry, write_gazefollow, write_goo, write_videoattention

from keypoint_detection.gaze.people import write_table
from keypoint_detection.gaze.read_gazefollow import read_gazefollow
from keypoint_detection.gaze.read_goo import read_goo
from keypoint_detection.gaze.read_people import FORMATS, read_people
from keypoint_detection.gaze.read_videoattention import read_videoattention


def write_all(root):
    """Write a data set of every format; returns path and expected table of each."""
    table = table_of([0, 0, 1], annotators=2)
    write_table(root / "people.json", table)
    gazefollow = write_gazefollow(root, [gazefollow_line()])
    goo = write_goo(root, [goo_entry()])
    split = write_videoattention(root, {"a/1/s0.txt": ["00000001.jpg,40,10,60,30,-1,-1"]}, "test")
    return {
        "table": (root / "people.json", table),
        "gazefollow": (gazefollow, read_gazefollow(root, gazefollow)),
        "goo": (goo, read_goo(root, goo)),
        "videoattention": (split, read_videoattention(root, "test")),
    }


def test_every_format_is_found_by_its_name(tmp_path, monkeypatch):
    known = write_all(tmp_path)
    assert set(known) == set(FORMATS)
    for name, (path, table) in known.items():
        for found in (read_people(path), read_people(path, name), read_people(path, root=tmp_path)):
            assert_same(found.table, table)
            assert found.root == tmp_path
    monkeypatch.chdir(tmp_path / "annotations")
    assert_same(read_people("test").table, known["videoattention"][1])


def test_another_folder_of_images(tmp_path):
    write_goo(tmp_path / "images", [goo_entry()])
    file = write_goo(tmp_path / "labels", [goo_entry()])
    (tmp_path / "labels/15/cam1/a.png").unlink()
    found = read_people(file, root=tmp_path / "images")
    assert found.root == tmp_path / "images"
    with pytest.raises(FileNotFoundError, match=r"entry 0: expected an image"):
        read_people(file)


def test_broken_rows_are_left_out_when_asked(tmp_path, capsys):
    file = write_gazefollow(tmp_path, [gazefollow_line(), gazefollow_line(in_out=5)])
    with pytest.raises(ValueError, match=r"line 2: expected in/out"):
        read_people(file)
    assert len(read_people(file, skip_broken=True).table) == 1
    assert "skipped 1 of 2 rows" in capsys.readouterr().err


def test_what_is_not_known(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected people to read, found nothing at"):
        read_people(tmp_path / "none.json")
    (tmp_path / "x.mat").write_text("")
    with pytest.raises(ValueError, match=r"x.mat: expected an ending that tells the format"):
        read_people(tmp_path / "x.mat")
    with pytest.raises(ValueError, match=r"expected a format of auto, table, .* Did you mean 'gazefollow'\?"):
        read_people(tmp_path / "x.mat", "gazefolow")
    with pytest.raises(
        ValueError, match=r"expected the folder annotations/<split> of VideoAttentionTarget, got"
    ):
        read_people(tmp_path)
