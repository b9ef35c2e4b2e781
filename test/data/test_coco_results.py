import contextlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from keypoint_detection.data.coco_results import keypoint_results, read_results, write_results

POINTS = [[[1.5, 2], [3, 4]], [[5, 6], [-7, 8.25]]]
COLUMNS = {
    "image_ids": [7, 8],
    "category_ids": [1, 1],
    "keypoints": POINTS,
    "keypoint_scores": [[0.5, 1], [0, 0.25]],
    "scores": [0.75, 0.5],
}
ENTRIES = [
    {"image_id": 7, "category_id": 1, "keypoints": [1.5, 2, 0.5, 3, 4, 1], "score": 0.75},
    {"image_id": 8, "category_id": 1, "keypoints": [5, 6, 0, -7, 8.25, 0.25], "score": 0.5},
]


def results(extra=None, **changes):
    return keypoint_results(**{**COLUMNS, **changes}, extra=extra)


def test_entries_by_hand():
    entries = results()
    assert entries == ENTRIES
    assert [list(entry) for entry in entries] == [["image_id", "category_id", "keypoints", "score"]] * 2
    assert isinstance(entries[0]["image_id"], int)


def test_no_instances():
    empty = np.empty(0, np.int64)
    assert keypoint_results(empty, [], np.empty((0, 3, 2)), np.empty((0, 3)), []) == []


def test_further_fields_are_merged():
    entries = results(extra=[{"area": 4}, {"name": "b", "rank": 2}])
    assert entries[0] == {**ENTRIES[0], "area": 4}
    assert entries[1] == {**ENTRIES[1], "name": "b", "rank": 2}


@pytest.mark.parametrize("name", ["image_id", "score", "keypoints", "bbox", "segmentation", "caption"])
def test_a_field_is_never_overwritten(name):
    with pytest.raises(ValueError, match=f"entry 1: expected further fields other than .*, got '{name}'"):
        results(extra=[{}, {name: 0}])


def test_further_fields_for_every_entry():
    with pytest.raises(ValueError, match="each of 2 entries, got 1"):
        results(extra=[{}])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_first_number_that_is_not_finite_is_named(bad):
    points = np.array(POINTS)
    points[1, 0, 1] = bad
    with pytest.raises(ValueError, match="entry 1, keypoint 0: expected finite x, y, score") as caught:
        results(keypoints=points)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="entry 0, keypoint 1"):
        results(keypoint_scores=[[0.5, bad], [bad, bad]])
    with pytest.raises(ValueError, match="entry 1: expected a finite score"):
        results(scores=[0.5, bad])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": [7]}, r"expected image_ids of shape \[2\] .*, got \[1\]"),
        ({"category_ids": [[1, 1]]}, r"expected category_ids of shape \[2\] .*, got \[1, 2\]"),
        ({"keypoints": np.zeros((2, 3, 2))}, r"expected keypoints of shape \[2, 2, 2\]"),
        ({"keypoint_scores": np.zeros((3, 2))}, r"expected keypoint_scores of shape \[2, 2\]"),
        ({"image_ids": [7.0, 8.0]}, "expected integers as image_ids, got float64"),
    ],
)
def test_a_wrong_column(change, message):
    with pytest.raises(ValueError, match=message):
        results(**change)


def test_one_entry_a_line_and_nothing_left_beside(tmp_path):
    path = tmp_path / "new folder" / "results.json"
    write_results(path, ENTRIES)
    lines = path.read_text().splitlines()
    assert [lines[0], lines[-1], len(lines)] == ["[", "]", 4]
    assert json.loads(lines[1].removesuffix(",")) == ENTRIES[0]
    assert json.loads(path.read_text()) == ENTRIES
    assert list(path.parent.iterdir()) == [path]
    write_results(path, [])
    assert json.loads(path.read_text()) == []


def test_what_is_no_json_is_not_written(tmp_path):
    path = tmp_path / "results.json"
    write_results(path, ENTRIES)
    with pytest.raises(ValueError, match="entry 1, field 'loss': expected finite numbers, got nan"):
        write_results(path, [ENTRIES[0], {**ENTRIES[1], "name": "Infinity", "loss": math.nan}])
    assert json.loads(path.read_text()) == ENTRIES


finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 4), st.integers(0, 5))
def test_a_reader_gets_every_bit(tmp_path_factory, data, q, k):
    values = data.draw(hnp.arrays(np.float64, (q, k, 3), elements=finite))
    scores = data.draw(hnp.arrays(np.float64, q, elements=finite))
    ids = data.draw(hnp.arrays(np.int64, q, elements=st.integers(-(2**63), 2**63 - 1)))
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_results(path, keypoint_results(ids, ids, values[..., :2], values[..., 2], scores))
    found = read_results(path, ids.tolist(), k)
    assert found.keypoints.tobytes() == np.ascontiguousarray(values[..., :2]).tobytes()
    assert found.keypoint_scores.tobytes() == np.ascontiguousarray(values[..., 2]).tobytes()
    assert found.scores.tobytes() == scores.tobytes()
    assert found.image_id.tolist() == found.category_id.tolist() == ids.tolist()
    assert found.keypoints.shape == (q, k, 2)


def test_single_precision_keeps_its_value(tmp_path):
    points = np.array(POINTS, np.float32) / 3
    write_results(tmp_path / "r.json", results(keypoints=points))
    assert (read_results(tmp_path / "r.json", [7, 8], 2).keypoints == points).all()


def test_third_numbers_are_flags_where_the_entry_has_scores_of_its_own(tmp_path):
    flagged = {**ENTRIES[1], "keypoints": [5, 6, 1, -7, 8.25, 2], "keypoint_scores": [0.125, 0.75]}
    write_results(tmp_path / "r.json", [ENTRIES[0], flagged])
    found = read_results(tmp_path / "r.json", [7, 8], 2)
    assert found.keypoint_scores.tolist() == [[0.5, 1], [0.125, 0.75]]
    assert found.keypoints.tolist() == POINTS
    write_results(tmp_path / "r.json", [ENTRIES[0], {**flagged, "keypoint_scores": [0.5]}])
    words = r"entry 1, field 'keypoint_scores': expected 2 numbers, one per keypoint, got 1; write"
    with pytest.raises(ValueError, match=words):
        read_results(tmp_path / "r.json", [7, 8], 2)


def test_several_instances_of_an_image_and_further_fields(tmp_path):
    write_results(tmp_path / "r.json", [ENTRIES[0], {**ENTRIES[0], "bbox": [0, 0, 1, 1]}, ENTRIES[1]])
    found = read_results(tmp_path / "r.json", [7, 8, 9], 2)
    assert found.image_id.tolist() == [7, 7, 8]
    assert found.keypoints[0].tolist() == found.keypoints[1].tolist() == POINTS[0]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"score": math.nan}, "entry 1, field 'score': expected a finite number, got nan"),
        ({"score": None}, "entry 1, field 'score': expected a valid number, got None"),
        ({"image_id": 99}, "entry 1, field 'image_id': expected one of the 2 ids"),
        (
            {"keypoints": [1, 2, 3]},
            "entry 1, field 'keypoints': expected 6 numbers (x, y, score for 2 keypoints)",
        ),
        ({"keypoints": [1, 2, 3, 4, 5, math.inf]}, "entry 1, field 'keypoints[5]': expected a finite number"),
        (
            {"keypoints": [1, 2, 3, 4, "5", 6]},
            "entry 1, field 'keypoints[4]': expected a valid number, got '5'",
        ),
    ],
)
def test_a_wrong_entry(tmp_path, change, expected):
    path = tmp_path / "r.json"
    path.write_text(json.dumps([ENTRIES[0], {**ENTRIES[1], **change}]))
    with pytest.raises(ValueError) as caught:
        read_results(path, [7, 8], 2)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert expected in line
    assert "\n" not in line


def test_a_file_that_is_cut_short_or_missing(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps(ENTRIES)[:60])
    with pytest.raises(ValueError, match="cut short"):
        read_results(path, [7, 8], 2)
    with pytest.raises(FileNotFoundError, match="check the path"):
        read_results(tmp_path / "none.json", [7, 8], 2)


@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_pycocotools_scores_the_file_it_is_given(tmp_path, scale):
    """The labels themselves score AP 1, through a file on the disk; labels far off score 0."""
    names = ["nose", "left eye"]
    truth = {
        "info": {},
        "images": [{"id": i, "file_name": f"{i}.png", "width": 99, "height": 99} for i in (7, 8)],
        "categories": [{"id": 1, "name": "face", "keypoints": names}],
        "annotations": [
            {"id": i, "image_id": 7 + i % 2, "category_id": 1, "iscrowd": 0, "num_keypoints": 2}
            | {"area": 400.0, "bbox": [30 * i, 20, 20, 20], "keypoints": [30 * i, 50, 2, 30 * i + 9, 60, 1]}
            for i in range(1, 4)
        ],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    triples = np.array([entry["keypoints"] for entry in truth["annotations"]], float).reshape(3, 2, 3)
    images = [entry["image_id"] for entry in truth["annotations"]]
    entries = keypoint_results(images, [1, 1, 1], triples[..., :2] * scale, np.ones((3, 2)), [0.9, 0.8, 0.7])
    write_results(tmp_path / "r.json", entries)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tmp_path / "truth.json"))
        evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "r.json")), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.array([0.1, 0.1])
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]
    assert precision.mean() == pytest.approx(1.0 if scale == 1 else 0.0)
