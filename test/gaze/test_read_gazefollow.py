"""GazeFollow's files: lines become people in pixels, test lines of one person are its annotators."""

import cv2
import numpy as np
import pytest
from gaze_tables import assert_same
from layouts import gazefollow_line, write_gazefollow, write_image

from keypoint_detection.data.formats import image_files
from keypoint_detection.gaze.people import check
from keypoint_detection.gaze.read_gazefollow import read_gazefollow


def test_a_training_line_by_hand(tmp_path):
    # 200 x 100 pixels: eye (.25, .2) is 50 from the left edge, the centre of pixel 49.5
    file = write_gazefollow(tmp_path, [gazefollow_line()])
    table = read_gazefollow(tmp_path, file)
    assert table.image_names == ("train/0/a.png",)
    assert table.image_hw.tolist() == [[100, 200]]
    assert table.person == ("train/0/a.png#0",)
    assert table.group == ("train/0/a.png",)
    assert table.eye_xy.tolist() == [[49.5, 19.5]]
    assert table.gaze_xy.tolist() == [[[99.5, 74.5]]]
    assert table.head_box.tolist() == [[39.5, 9.5, 59.5, 29.5]]
    assert table.in_frame.tolist() == [1]
    check(table)


def test_in_out_and_the_order_of_lines(tmp_path):
    lines = [
        gazefollow_line("train/b.png", in_out=0, gaze=(-1, -1)),
        gazefollow_line("train/a.png", in_out=-1),
        gazefollow_line("train/b.png", in_out=1, gaze=(1, 0)),
        gazefollow_line("train/b.png", in_out="1.0"),
    ]
    table = read_gazefollow(tmp_path, write_gazefollow(tmp_path, lines))
    assert table.in_frame.tolist() == [0, -1, 1, 1]
    assert table.person == ("train/b.png#0", "train/a.png#0", "train/b.png#1", "train/b.png#2")
    assert table.image_names == ("train/b.png", "train/a.png")
    assert table.image.tolist() == [0, 1, 0, 0]
    assert np.isnan(table.gaze_xy[:2]).all()
    assert table.gaze_xy[2].tolist() == [[199.5, -0.5]]


def test_a_gaze_slightly_outside_is_on_the_border(tmp_path):
    lines = [gazefollow_line(gaze=(-0.02, 0.5)), gazefollow_line(gaze=(0.5, 1.05))]
    table = read_gazefollow(tmp_path, write_gazefollow(tmp_path, lines))
    assert table.gaze_xy[:, 0].tolist() == [[-0.5, 49.5], [99.5, 99.5]]


def test_a_box_that_reaches_beyond_the_image_stays_whole(tmp_path):
    table = read_gazefollow(tmp_path, write_gazefollow(tmp_path, [gazefollow_line(box=(-5, -3, 20, 130))]))
    assert table.head_box.tolist() == [[-5.5, -3.5, 19.5, 129.5]]


def annotated(path, eye, *gazes):
    return [gazefollow_line(path, eye=eye, gaze=gaze, in_out=None) for gaze in gazes]


def test_test_lines_are_grouped_by_path_and_eye(tmp_path):
    first = annotated("test/b.png", (0.2, 0.2), (0.5, 0.5), (0.25, 0.5), (0.1, 0.1))
    same_x = annotated("test/b.png", (0.2, 0.3), (0.75, 0.5))
    other = annotated("test/a.png", (0.2, 0.2), (0.6, 0.5), (0.7, 0.5))
    lines = [first[0], same_x[0], other[0], first[1], other[1], first[2]]  # not side by side
    table = read_gazefollow(tmp_path, write_gazefollow(tmp_path, lines, "test_annotations_release.txt"))
    assert table.person == ("test/b.png#0", "test/b.png#1", "test/a.png#0")
    assert table.n_annotators.tolist() == [3, 1, 2]
    np.testing.assert_allclose(table.gaze_xy[0], [[99.5, 49.5], [49.5, 49.5], [19.5, 9.5]])
    assert np.isnan(table.gaze_xy[1, 1:]).all()
    assert table.in_frame.tolist() == [1, 1, 1]
    assert table.group == ("test/b.png", "test/b.png", "test/a.png")
    check(table)


def test_outliers_among_the_annotators_go_when_asked(tmp_path):
    lines = annotated("test/a.png", (0.2, 0.2), (0.1, 0.1), (0.1, 0.1), (0.9, 0.1), (0.1, 0.1))
    file = write_gazefollow(tmp_path, lines, "test_annotations_release.txt")
    assert read_gazefollow(tmp_path, file).n_annotators.tolist() == [4]
    table = read_gazefollow(tmp_path, file, outlier_percentile=90)
    np.testing.assert_allclose(table.gaze_xy[0, :3], [[19.5, 9.5]] * 3)
    assert np.isnan(table.gaze_xy[0, 3]).all()


def test_the_kind_of_a_file(tmp_path):
    train, test = [gazefollow_line()] * 2, annotated("test/a.png", (0.2, 0.2), (0.5, 0.5), (0.6, 0.6))
    assert len(read_gazefollow(tmp_path, write_gazefollow(tmp_path, train, "x.txt"))) == 2
    assert len(read_gazefollow(tmp_path, write_gazefollow(tmp_path, test, "y.txt"))) == 1
    asked = read_gazefollow(tmp_path, write_gazefollow(tmp_path, train, "train.txt"), kind="test")
    assert asked.n_annotators.tolist() == [2]
    with pytest.raises(ValueError, match=r"auto, train or test, got 'val'"):
        read_gazefollow(tmp_path, "x.txt", kind="val")


def test_endings_of_lines_marks_and_back_slashes_do_not_matter(tmp_path):
    plain = read_gazefollow(tmp_path, write_gazefollow(tmp_path, [gazefollow_line()]))
    line = gazefollow_line(further=()).replace("train/0/a.png", r"train\0\a.png")
    (tmp_path / "windows_train.txt").write_bytes(b"\xef\xbb\xbf" + f"{line}\r\n\r\n".encode())
    assert_same(read_gazefollow(tmp_path, "windows_train.txt"), plain)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (gazefollow_line(box=(60, 10, 40, 30)), "expected a head box of x0 < x1 and y0 < y1, got 60, 10, 40"),
        (gazefollow_line(box=(40, 10, 40, 30)), "expected a head box of x0 < x1"),
        (gazefollow_line(box=(40, 10, "", 30)), "expected a number in column 13, got ''"),
        (gazefollow_line(box=(40, 10, 60, "nan")), "expected a number in column 14, got 'nan'"),
        (
            gazefollow_line(box=(200, 10, 220, 30)),
            "expected a head box on the image, got 200, 10, 220, 30, out",
        ),
        (gazefollow_line(eye=("a", 0.1)), "expected a number in column 7, got 'a'"),
        (gazefollow_line(eye=(1.2, 0.1)), r"expected an eye on the image \(0 to 1\), got 1.2, 0.1"),
        (
            gazefollow_line(gaze=(-1, -1)),
            "expected a gaze point on the image .* got -1, -1 of a 200 pixels wide",
        ),
        (gazefollow_line(in_out=2), "expected in/out of 1, 0 or -1 in column 15, got 2"),
        (gazefollow_line(in_out="in"), "expected a number in column 15, got 'in'"),
        ("train/0/a.png,1,2,3", "expected 15 columns or more, got 4 columns"),
        (gazefollow_line(in_out=None, further=()), "expected 15 columns or more, got 14 columns"),
    ],
)
def test_a_broken_line_is_told_by_file_and_line_or_left_out(tmp_path, capsys, line, message):
    good = gazefollow_line()
    file = write_gazefollow(tmp_path, [good, "", line, good])
    with pytest.raises(ValueError, match=rf"^{file}, line 3: {message}") as caught:
        read_gazefollow(tmp_path, file)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().err == ""
    table = read_gazefollow(tmp_path, file, skip_broken=True)
    assert table.person == ("train/0/a.png#0", "train/0/a.png#2")  # the names do not move up
    said = capsys.readouterr().err
    assert said.startswith(f"{file}: skipped 1 of 3 rows: {file}, line 3: expected")
    assert said.count("\n") == 1


def test_images_that_are_missing_or_broken(tmp_path, capsys):
    file = write_gazefollow(tmp_path, [gazefollow_line(f"train/{name}.png") for name in "abc"])
    (tmp_path / "train/b.png").unlink()
    (tmp_path / "train/c.png").write_bytes(b"no image")
    with pytest.raises(
        FileNotFoundError, match=rf"^{file}, line 2: expected an image, got nothing at .*b.png"
    ):
        read_gazefollow(tmp_path, file)
    write_image(tmp_path / "train/b.png")
    with pytest.raises(ValueError, match=rf"^{file}, line 3: expected a readable image, got .*c.png"):
        read_gazefollow(tmp_path, file)
    (tmp_path / "train/b.png").unlink()
    assert read_gazefollow(tmp_path, file, skip_broken=True).image_names == ("train/a.png",)
    assert "skipped 2 of 3 rows" in capsys.readouterr().err


def test_many_broken_lines_are_said_in_one_short_line(tmp_path, capsys):
    file = write_gazefollow(tmp_path, [gazefollow_line(), *[gazefollow_line(in_out=7)] * 30])
    assert len(read_gazefollow(tmp_path, file, skip_broken=True)) == 1
    said = capsys.readouterr().err
    assert said.count("expected") == 10
    assert said.endswith("; and 20 more\n")


def test_a_file_without_a_person_that_is_right(tmp_path):
    file = write_gazefollow(tmp_path, [gazefollow_line(in_out=7)])
    with pytest.raises(ValueError, match=rf"{file}: expected people, got none"):
        read_gazefollow(tmp_path, file, skip_broken=True)
    file.write_text("\n")
    with pytest.raises(ValueError, match=r"expected people, got an empty file"):
        read_gazefollow(tmp_path, file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"expected text in UTF-8"):
        read_gazefollow(tmp_path, file)
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none.txt"):
        read_gazefollow(tmp_path, tmp_path / "none.txt")


def test_a_person_of_the_test_file_has_one_box(tmp_path, capsys):
    boxes = [(60, 10, 40, 30), (40, 10, 60, 30), (40, 10, 61, 30), (40, 10, 60, 30)]
    lines = [gazefollow_line("test/a.png", box=box, in_out=None) for box in boxes]
    file = write_gazefollow(tmp_path, lines, "test_annotations_release.txt")
    table = read_gazefollow(tmp_path, file, skip_broken=True)
    # the box of the first line is the wrong way round: the next one is what the others are compared with
    assert table.n_annotators.tolist() == [2]
    assert "skipped 2 of 4 rows" in capsys.readouterr().err
    file = write_gazefollow(tmp_path, lines[1:], "test_annotations_release.txt")
    with pytest.raises(
        ValueError, match=r"line 2: expected the head box that the person .* got 40, 10, 61, 30"
    ):
        read_gazefollow(tmp_path, file)


def test_each_image_is_looked_at_once_and_its_pixels_are_not_decoded(tmp_path, monkeypatch):
    looked_at = []
    one_size = image_files._size_hw
    monkeypatch.setattr(image_files, "_size_hw", lambda path: looked_at.append(path) or one_size(path))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("an image was decoded"))
    lines = [gazefollow_line(f"train/{name}") for name in ("a.png", "b.jpg", "a.png")]
    file = write_gazefollow(tmp_path, lines, image_hw=(30, 70))
    assert read_gazefollow(tmp_path, file).image_hw.tolist() == [[30, 70], [30, 70]]
    assert len(looked_at) == 2
