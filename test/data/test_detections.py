import json
import logging
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.detections import read_detections

ENTRY = {"image_id": 7, "category_id": 1, "bbox": [1, 2.5, 30, 40], "score": 0.75}


def write(folder, content):
    path = folder / "boxes.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def error_line(path, **options) -> str:
    with pytest.raises(ValueError) as caught:
        read_detections(path, [7, 8], **options)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: ")
    return line


def test_arrays_in_file_order(tmp_path):
    second = {"image_id": 8, "category_id": 3, "bbox": [-5, 0, 1e3, 2], "score": 2, "segmentation": []}
    third = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 0.5, 0.25], "score": -1.5}
    found = read_detections(write(tmp_path, [second, ENTRY, third]), [8, 7], [1, 3])
    assert found.image_id.tolist() == [8, 7, 7]
    assert found.category_id.tolist() == [3, 1, 1]
    assert found.box.tolist() == [[-5, 0, 1000, 2], [1, 2.5, 30, 40], [0, 0, 0.5, 0.25]]
    assert found.score.tolist() == [2, 0.75, -1.5]
    kinds = [found.image_id.dtype, found.category_id.dtype, found.box.dtype, found.score.dtype]
    assert kinds == [np.int64, np.int64, np.float32, np.float32]


def test_an_empty_list_is_allowed(tmp_path):
    found = read_detections(write(tmp_path, []), [7], [1], {7: (4, 4)})
    assert found.box.shape == (0, 4)
    assert found.score.shape == found.image_id.shape == found.category_id.shape == (0,)
    assert found.image_id.dtype == np.int64


def test_a_byte_order_mark_is_no_error(tmp_path):
    assert len(read_detections(write(tmp_path, "\ufeff" + json.dumps([ENTRY])), [7]).score) == 1


@pytest.mark.parametrize("make_folder", [True, False])
def test_no_file(tmp_path, make_folder):
    path = tmp_path / "boxes.json"
    if make_folder:
        path.mkdir()
    with pytest.raises(FileNotFoundError, match="a folder" if make_folder else "nothing") as caught:
        read_detections(path, [7])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"image_id": "7"}, "entry 1, field 'image_id': expected a valid integer, got '7'"),
        ({"image_id": 2**70}, "entry 1, field 'image_id'"),
        ({"category_id": True}, "entry 1, field 'category_id': expected a valid integer, got True"),
        ({"bbox": [1, 2, 3]}, "entry 1, field 'bbox': expected 4 numbers, got [1, 2, 3]"),
        ({"bbox": [1, 2, 3, 4, 5]}, "entry 1, field 'bbox': expected 4 numbers, got [1, 2, 3, 4, 5]"),
        ({"bbox": [1, 2, "3", 4]}, "entry 1, field 'bbox[2]': expected a valid number, got '3'"),
        ({"bbox": None}, "entry 1, field 'bbox': expected a valid array, got None"),
        ({"bbox": [1, math.inf, 3, 4]}, "entry 1, field 'bbox[1]': expected a finite number, got inf"),
        ({"score": math.nan}, "entry 1, field 'score': expected a finite number, got nan"),
        ({"score": -math.inf}, "entry 1, field 'score': expected a finite number, got -inf"),
        ({"score": "0.5"}, "entry 1, field 'score': expected a valid number, got '0.5'"),
        ({"score": 1e300}, "entry 1, field 'score': expected a finite 32-bit number, got inf"),
        ({"bbox": [1, 2, 0, 4]}, "positive width and height, got [1.0, 2.0, 0.0, 4.0] (1 of 2 boxes)"),
        (
            {"bbox": [1, 2, 3, -4]},
            "entry 1, field 'bbox': expected finite x, y and a positive width and height",
        ),
        ({"bbox": [1e300, 2, 3, 4]}, "entry 1, field 'bbox': expected finite x, y"),
        ({"image_id": 9}, "entry 1, field 'image_id': expected one of the 2 ids"),
        ({"category_id": 4}, "entry 1, field 'category_id': expected one of the 1 ids"),
    ],
)
def test_a_wrong_value(tmp_path, change, expected):
    line = error_line(write(tmp_path, [ENTRY, {**ENTRY, **change}]), category_ids=[1])
    assert expected in line
    assert any(fix in line for fix in ("each entry needs", "remove these entries", "write scores"))


@pytest.mark.parametrize("field", ENTRY)
def test_a_missing_field(tmp_path, field):
    short = {name: value for name, value in ENTRY.items() if name != field}
    line = error_line(write(tmp_path, [ENTRY, ENTRY, short, short]))
    assert f"entry 2, field '{field}': expected a value, got none" in line
    assert "and 1 more such problem)" in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (json.dumps([ENTRY])[:-9], "the file is cut short"),
        ("", "expected JSON"),
        ("boxes", "expected JSON"),
        ({"images": [], "annotations": []}, "got an object with the fields images, annotations"),
        ("3", "expected a JSON list of entries"),
        ([3], "entry 0: expected an object, got 3"),
    ],
)
def test_another_kind_of_file(tmp_path, content, expected):
    assert expected in error_line(write(tmp_path, content))


def test_unknown_images_are_counted(tmp_path):
    entries = [ENTRY, {**ENTRY, "image_id": 99}, {**ENTRY, "image_id": -1}]
    line = error_line(write(tmp_path, entries))
    assert "entry 1" in line
    assert "got 99 (2 of 3 entries" in line


def test_a_box_may_reach_beyond_its_image_but_must_overlap_it(tmp_path):
    """The image is 20 wide and 10 high: its COCO frame is [0, 20] x [0, 10]."""
    sizes = {7: (10, 20), 8: (500, 500)}
    fine = [[-5, -5, 5.5, 5.5], [19.5, 9.5, 100, 100], [-100, -100, 300, 300], [3, 3, 2, 2]]
    entries = [{**ENTRY, "bbox": box} for box in fine]
    assert len(read_detections(write(tmp_path, entries), [7, 8], image_sizes=sizes).box) == 4
    for box in ([-5, 0, 5, 5], [20, 0, 5, 5], [0, -5, 5, 5], [0, 10, 5, 5], [12, 15, 3, 3]):
        path = write(tmp_path, [*entries, {**ENTRY, "bbox": box}])
        line = error_line(path, image_sizes=sizes)
        assert "entry 4, field 'bbox'" in line
        assert "image 7 (width 20, height 10)" in line
        assert "(1 of 5 boxes)" in line
        assert len(read_detections(path, [7]).box) == 5  # nothing to check against
    other = write(tmp_path, [{**ENTRY, "image_id": 8, "bbox": [20, 0, 5, 5]}])
    assert len(read_detections(other, [7, 8], image_sizes=sizes).box) == 1


def test_repeated_detections_are_kept_and_counted_once(tmp_path, caplog):
    other = [{**ENTRY, "score": 0.5}, {**ENTRY, "image_id": 8}, {**ENTRY, "category_id": 2}]
    entries = [ENTRY, *other, ENTRY, {**ENTRY, "bbox": [1, 2.5, 30, 41]}, ENTRY]
    path = write(tmp_path, entries)
    with caplog.at_level(logging.INFO, "keypoint_detection"):
        found = read_detections(path, [7, 8])
    assert len(found.score) == 7
    assert [record.name for record in caplog.records] == ["keypoint_detection"]
    assert "2 of 7 detections repeat another one" in caplog.text


def test_different_detections_are_not_reported(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keypoint_detection"):
        read_detections(write(tmp_path, [ENTRY, {**ENTRY, "score": 0.5}]), [7])
    assert not caplog.records


numbers = st.floats(-1e4, 1e4, width=32)
sides = st.floats(0.125, 1e4, width=32)
entry = st.builds(
    lambda image, category, x, y, width, height, score: {
        "image_id": image,
        "category_id": category,
        "bbox": [x, y, width, height],
        "score": score,
    },
    st.integers(0, 3),
    st.integers(-(2**63), 2**63 - 1),
    numbers,
    numbers,
    sides,
    sides,
    numbers,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(entry, max_size=8))
def test_what_is_written_is_read(tmp_path_factory, entries):
    found = read_detections(write(tmp_path_factory.mktemp("boxes"), entries), range(4))
    assert found.image_id.tolist() == [entry["image_id"] for entry in entries]
    assert found.category_id.tolist() == [entry["category_id"] for entry in entries]
    assert found.box.tolist() == [entry["bbox"] for entry in entries]
    assert found.score.tolist() == [entry["score"] for entry in entries]


def test_many_entries_of_one_image(tmp_path):
    """A hundred thousand entries: the last one is still named when it is wrong."""
    line = json.dumps(ENTRY)
    path = write(tmp_path, "[" + ",".join([line] * 99_999) + "," + line.replace("0.75", "0.5") + "]")
    found = read_detections(path, [7], [1], {7: (10, 20)})
    assert found.score[[0, 99_998, 99_999]].tolist() == [0.75, 0.75, 0.5]
    path = write(tmp_path, "[" + ",".join([line] * 99_999) + "," + line.replace("0.75", "NaN") + "]")
    assert "entry 99999, field 'score'" in error_line(path)
