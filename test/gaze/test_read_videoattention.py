"""VideoAttentionTarget's folders: a file per person and clip, whole frames sampled, whole clips split."""

import numpy as np
import pytest
from gaze_tables import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import write_videoattention

from keypoint_detection.gaze.people import check, split
from keypoint_detection.gaze.read_videoattention import read_videoattention


def line(frame=1, box=(40, 10, 60, 30), gaze=(100, 75)):
    return ",".join(str(cell) for cell in (f"{frame:08d}.jpg", *box, *gaze))


def test_lines_by_hand(tmp_path):
    lines = [line(1), line(2, gaze=(-1, -1)), line(3, gaze=(-4, 50)), line(4, gaze=(200, -1))]
    write_videoattention(tmp_path, {"Show A/10_20/s00.txt": lines})
    table = read_videoattention(tmp_path)
    assert table.image_names[0] == "images/Show A/10_20/00000001.jpg"
    assert table.person[0] == "Show A/10_20/s00#00000001.jpg"
    assert set(table.group) == {"Show A/10_20"}
    assert table.head_box[0].tolist() == [39.5, 9.5, 59.5, 29.5]
    assert np.isnan(table.eye_xy).all()
    assert table.in_frame.tolist() == [1, 0, 1, 1]
    assert table.gaze_xy[0].tolist() == [[99.5, 74.5]]
    assert np.isnan(table.gaze_xy[1]).all()
    assert table.gaze_xy[2:, 0].tolist() == [[-0.5, 49.5], [199.5, -0.5]]  # clamped to the border
    check(table)


def test_people_of_a_frame_share_image_and_group(tmp_path):
    files = {"b/1/s0.txt": [line(1), line(2)], "a/1/s1.txt": [line(1)], "a/1/s0.txt": [line(1), line(2)]}
    write_videoattention(tmp_path, files, "test")
    table = read_videoattention(tmp_path, "test")
    assert [name.split("#")[0] for name in table.person] == ["a/1/s0"] * 2 + ["a/1/s1"] + ["b/1/s0"] * 2
    assert table.image.tolist() == [0, 1, 0, 2, 3]
    with pytest.raises(FileNotFoundError, match=r"found none in .*train"):
        read_videoattention(tmp_path, "train")


CLIPS = {
    f"{show}/{clip}/s{person}.txt": [line(frame) for frame in range(1, 11)]
    for show in "ab"
    for clip in (1, 2)
    for person in (0, 1)
}


@pytest.fixture(scope="module")
def four_clips(tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    write_videoattention(root, CLIPS)
    return root


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 1), seed=st.integers(0, 99), ratio=st.floats(0.1, 0.9))
def test_frames_are_sampled_whole_and_clips_split_whole(four_clips, share, seed, ratio):
    whole = read_videoattention(four_clips)
    table = read_videoattention(four_clips, frame_share=share, seed=seed)
    assert set(table.person) <= set(whole.person)
    assert set(table.group) == set(whole.group)
    n_frames = max(int(share * 10 + 0.5), 1)
    assert len(table.image_names) == 4 * n_frames
    assert np.bincount(table.image).tolist() == [2] * len(table.image_names)  # both people of each frame
    training, validation = split(table, ratio, seed)
    assert not set(training.group) & set(validation.group)
    assert len(training) + len(validation) == len(table)


def test_a_fifth_of_the_frames_depends_on_the_seed_alone(four_clips):
    fifth = read_videoattention(four_clips, frame_share=0.2)
    assert len(fifth) == 4 * 2 * 2
    assert_same(fifth, read_videoattention(four_clips, frame_share=0.2, seed=42))
    others = {read_videoattention(four_clips, frame_share=0.2, seed=seed).image_names for seed in range(5)}
    assert len(others) == 5


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("00000002.jpg,60,10,40,30,1,1", "expected a head box of x0 < x1 and y0 < y1, got 60, 10, 40, 30"),
        ("00000002.jpg,300,10,340,30,1,1", "expected a head box on the image, got 300, 10, 340, 30, outside"),
        ("00000002.jpg,40,10,60,x,1,1", "expected a number in column 5, got 'x'"),
        ("00000002.jpg,40,10,60,30,1", "expected 7 columns, got 6 columns"),
        ("00000002.jpg,40,10,60,30,1,1,1", "expected 7 columns, got 8 columns"),
        (
            "00000002.jpg,40,10,60,30,1000,1",
            "expected a gaze point on the image .* got 5, 0.01 of a 200 pixels",
        ),
        ("00000001.jpg,40,10,60,30,1,1", "expected a frame once per file, got 00000001.jpg again"),
    ],
)
def test_a_broken_line_is_told_by_file_and_line_or_left_out(tmp_path, capsys, broken, message):
    folder = write_videoattention(
        tmp_path, {"a/1/s0.txt": [line(1)], "a/1/s1.txt": [line(1), broken, line(3)]}
    )
    place = f"{folder / 'a/1/s1.txt'}, line 2"
    with pytest.raises(ValueError, match=rf"^{place}: {message}") as caught:
        read_videoattention(tmp_path)
    assert "\n" not in str(caught.value)
    table = read_videoattention(tmp_path, skip_broken=True)
    assert len(table) == 3
    said = capsys.readouterr().err
    assert said.startswith(f"{folder}: skipped 1 of 4 rows: {place}: expected")
    assert said.count("\n") == 1


def test_a_frame_that_is_missing(tmp_path):
    folder = write_videoattention(tmp_path, {"a/1/s0.txt": [line(1), line(2)]})
    (tmp_path / "images/a/1/00000002.jpg").unlink()
    place = f"{folder / 'a/1/s0.txt'}, line 2"
    with pytest.raises(
        FileNotFoundError, match=rf"^{place}: expected an image, got nothing at .*00000002.jpg"
    ):
        read_videoattention(tmp_path)
