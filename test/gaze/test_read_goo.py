"""GOO's pickles: entries become people in pixels, whatever protocol wrote them."""

import pickle

import numpy as np
import pytest
from gaze_tables import assert_same
from layouts import goo_entry, retail_entry, write_goo

from keypoint_detection.gaze.people import check
from keypoint_detection.gaze.read_goo import read_goo


def test_an_entry_by_hand(tmp_path):
    # 200 x 100 pixels; gaze (320, 360) of 640 x 480 is (.5, .75), eye (160, 240) is (.25, .5)
    table = read_goo(tmp_path, write_goo(tmp_path, [goo_entry()]))
    assert table.image_names == ("15/cam1/a.png",)
    assert table.image_hw.tolist() == [[100, 200]]
    assert table.person == ("15/cam1/a.png#0",)
    assert table.group == ("15",)
    assert table.gaze_xy.tolist() == [[[99.5, 74.5]]]
    assert table.eye_xy.tolist() == [[49.5, 49.5]]
    np.testing.assert_allclose(
        table.head_box, [[19.5, 34.5, 79.5, 64.5]]
    )  # .25 -+ .15 of 200, .5 -+ .15 of 100
    assert table.in_frame.tolist() == [1]
    check(table)


def test_a_head_at_the_border_is_cut_off_there(tmp_path):
    entries = [goo_entry(hx=32, hy=0), goo_entry(hx=640, hy=456)]
    table = read_goo(tmp_path, write_goo(tmp_path, entries))
    np.testing.assert_allclose(table.head_box, [[-0.5, -0.5, 39.5, 14.5], [169.5, 79.5, 199.5, 99.5]])


def test_a_gaze_slightly_outside_is_on_the_border(tmp_path):
    table = read_goo(tmp_path, write_goo(tmp_path, [goo_entry(gaze_cx=-3, gaze_cy=490)]))
    assert table.gaze_xy.tolist() == [[[-0.5, 99.5]]]


@pytest.mark.parametrize("hbox", [(64, 48, 128, 96), [64, 48, 128, 96], np.array([64.0, 48, 128, 96], ">f4")])
def test_the_head_box_of_retailgaze(tmp_path, hbox):
    table = read_goo(tmp_path, write_goo(tmp_path, [retail_entry(hbox=hbox)]))
    np.testing.assert_allclose(table.head_box, [[19.5, 9.5, 39.5, 19.5]])  # .1 .1 .2 .2 of 200 x 100
    assert np.isnan(table.eye_xy).all()


def test_a_file_with_both_kinds_of_entries(tmp_path):
    both = goo_entry(ann={"hbox": (64, 48, 128, 96)})
    table = read_goo(tmp_path, write_goo(tmp_path, [retail_entry(), both, goo_entry()]))
    np.testing.assert_allclose(table.head_box[:2], [[19.5, 9.5, 39.5, 19.5]] * 2)
    np.testing.assert_allclose(table.head_box[2], [19.5, 34.5, 79.5, 64.5])
    assert np.isnan(table.eye_xy[:, 0]).tolist() == [True, False, False]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_reads_the_same(tmp_path, protocol):
    entries = [goo_entry(), retail_entry(hbox=np.arange(1.0, 5.0))]
    expected = read_goo(tmp_path, write_goo(tmp_path, entries))
    assert_same(read_goo(tmp_path, write_goo(tmp_path, entries, protocol=protocol)), expected)


def test_groups_of_people(tmp_path):
    names = [r"15\cam1\a.png", r"15\cam2\a.png", r"16\cam1\a.png", "flat.png", r"15\cam1\a.png"]
    file = write_goo(tmp_path, [goo_entry(name) for name in names])
    table = read_goo(tmp_path, "train.pickle")  # found below root
    assert table.group == ("15", "15", "16", "flat.png", "15")
    assert table.person[::4] == ("15/cam1/a.png#0", "15/cam1/a.png#1")
    by_image = read_goo(tmp_path, file, group_by="image")
    assert by_image.group == tuple(name.replace("\\", "/") for name in names)
    with pytest.raises(ValueError, match=r"group_by to be folder or image, got 'clip'"):
        read_goo(tmp_path, file, group_by="clip")


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (5, "expected a dictionary, got a int"),
        (goo_entry(filename=None), "expected text as filename, got None"),
        (goo_entry(filename=""), "expected text as filename, got ''"),
        (goo_entry(gaze_cx="3"), "expected numbers as gaze_cx, gaze_cy, got '3', "),
        (goo_entry(gaze_cy=np.nan), "expected numbers as gaze_cx, gaze_cy, got 320, nan"),
        (goo_entry(gaze_cx=True), "expected numbers as gaze_cx, gaze_cy, got True, "),
        (goo_entry(gaze_cx=10**400), "expected numbers as gaze_cx, gaze_cy, got 1000"),
        (retail_entry(hbox=(10**400, 2, 3, 4)), "expected four numbers as ann.hbox"),
        (goo_entry(hx=None), "expected numbers as hx, hy, got None, 240.0"),
        (goo_entry(gaze_cx=900), "expected a gaze point on the image .* got 1.40625, 0.75"),
        (goo_entry(hx=-200), "expected a head box of x0 < x1 and y0 < y1"),
        (retail_entry(hbox=(1, 2, 3)), r"expected four numbers as ann.hbox, got \(1, 2, 3\)"),
        (retail_entry(hbox=("a", 2, 3, 4)), "expected four numbers as ann.hbox"),
        (retail_entry(hbox=np.array(["a", "b", "c", "d"])), "expected four numbers as ann.hbox"),
        (retail_entry(hbox=(9, 2, 3, 4)), "expected a head box of x0 < x1 and y0 < y1, got 2.8125, "),
        (retail_entry(hbox=(700, 2, 720, 4)), "expected a head box on the image"),
    ],
)
def test_a_broken_entry_is_told_by_its_number_or_left_out(tmp_path, capsys, broken, message):
    file = write_goo(tmp_path, [goo_entry(), broken, goo_entry()])
    with pytest.raises(ValueError, match=rf"^{file}, entry 1: {message}") as caught:
        read_goo(tmp_path, file)
    assert "\n" not in str(caught.value)
    assert len(read_goo(tmp_path, file, skip_broken=True)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{file}: skipped 1 of 3 rows: {file}, entry 1: expected")
    assert said.count("\n") == 1


def test_images_that_are_missing_or_broken(tmp_path, capsys):
    entries = [goo_entry(f"15\\cam1\\{name}.jpg") for name in ("a", "b", "cam00001_img00530")]
    file = write_goo(tmp_path, entries)
    (tmp_path / "15/cam1/cam00001_img00530.jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(ValueError, match=rf"^{file}, entry 2: expected a readable image, got a corrupt file"):
        read_goo(tmp_path, file)
    (tmp_path / "15/cam1/b.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=rf"^{file}, entry 1: expected an image, got nothing at"):
        read_goo(tmp_path, file)
    assert read_goo(tmp_path, file, skip_broken=True).image_names == ("15/cam1/a.jpg",)
    assert "skipped 2 of 3 rows" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"), [({}, "got a dict"), ([], "got an empty list"), (None, "got a NoneType")]
)
def test_a_pickle_of_something_else(tmp_path, content, message):
    with pytest.raises(ValueError, match=rf"expected a list of dictionaries, {message}"):
        read_goo(tmp_path, write_goo(tmp_path, content))
