"""Declared symmetries: contradictions are errors, the mirror test follows them, --fix writes proposals."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.symmetry import read_symmetry
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.doctor import examine, report_json, report_text
from keypoint_detection.doctor_entries import CategoryEntry
from keypoint_detection.doctor_fix import fix_dataset
from keypoint_detection.doctor_symmetry import proposed_pairs, side_pairs

NAMES = ("nose", "left_ear", "right_ear", "tail")


def entry(**symmetries: Any) -> CategoryEntry:
    """Return a category with these declarations."""
    return CategoryEntry(1, "'mouse'", NAMES, symmetries)


def write_mice(path: Path, names: list[str], swapped: list[int], **symmetries: Any) -> Path:
    """Write 40 mice at random angles, the second and third point of some exchanged."""
    rng = np.random.default_rng(0)
    shape = np.array([[20.0, 0.0], [10.0, -6.0], [10.0, 6.0], [-30.0, 0.0]])
    annotations = []
    for number in range(40):
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        xy = shape @ turn.T + 200
        xy = xy[[0, 2, 1, 3]] if number in swapped else xy
        keypoints = [value for x, y in xy.tolist() for value in (x, y, 2)]
        annotations.append(
            {
                "id": number + 1,
                "image_id": number + 1,
                "category_id": 1,
                "keypoints": keypoints,
                "area": 900,
                "bbox": [160, 160, 80, 80],
            }
        )
    images = [{"id": i + 1, "file_name": f"{i}.png", "width": 400, "height": 400} for i in range(40)]
    category = {"id": 1, "name": "mouse", "keypoints": names, **symmetries}
    path.write_text(json.dumps({"images": images, "categories": [category], "annotations": annotations}))
    return path


def test_declared_pairs_come_before_names() -> None:
    assert side_pairs(entry()) == [("left_ear", "right_ear")]
    assert side_pairs(entry(symmetric_keypoints=[["nose", "tail"]])) == [("nose", "tail")]
    assert side_pairs(entry(symmetric_keypoints=[])) == []
    assert side_pairs(entry(interchangeable_keypoints=[["left_ear", "right_ear"]])) == []
    assert side_pairs(entry(symmetric_keypoints=[["nose", "nosy"]])) == [("left_ear", "right_ear")]


def test_only_what_is_not_declared_is_proposed() -> None:
    assert proposed_pairs(entry()) == [("left_ear", "right_ear")]
    assert proposed_pairs(entry(symmetric_keypoints=[])) == []
    assert proposed_pairs(entry(symmetric_keypoints=[["nose", "tail"]])) == []
    assert proposed_pairs(entry(cyclic_keypoints=[["nose", "left_ear", "tail"]])) == []
    assert proposed_pairs(entry(cyclic_keypoints="nose")) == []


@pytest.mark.parametrize(
    ("symmetries", "said"),
    [
        ({"symmetric_keypoints": [["left_ear", "rigth_ear"]]}, "'rigth_ear'"),
        ({"symmetric_keypoints": [["left_ear", "right_ear", "tail"]]}, "expected two names"),
        ({"symmetric_keypoints": "left_ear"}, "expected a list of lists"),
        ({"symmetric_keypoints": [[{"a": 1}, None]]}, "expected keypoint names"),
        ({"cyclic_keypoints": [["nose", "tail"]]}, "expected 3 names or more"),
        (
            {"symmetric_keypoints": [["nose", "tail"]], "interchangeable_keypoints": [["nose", "left_ear"]]},
            "'nose' twice",
        ),
    ],
)
def test_a_contradiction_is_an_error_of_one_line(
    symmetries: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write_mice(tmp_path / "mice.json", list(NAMES), [], **symmetries)
    found = [f for f in examine([path], images=False).findings if f.code == "symmetry-inconsistent"]
    assert [finding.severity for finding in found] == ["error"]
    assert said in found[0].message
    assert found[0].message.startswith("category 1 ('mouse'), field ")
    assert "\n" not in found[0].message


def test_clean_declarations_are_no_finding(tmp_path: Path) -> None:
    path = write_mice(
        tmp_path / "mice.json", list(NAMES), [], symmetric_keypoints=[["left_ear", "right_ear"]]
    )
    examination = examine([path], images=False)
    assert examination.findings == ()
    assert examination.proposals == ()


def test_the_mirror_test_takes_declared_sides(tmp_path: Path) -> None:
    names = ["a", "b", "c", "d"]
    path = write_mice(tmp_path / "named.json", names, [6], symmetric_keypoints=[["b", "c"]])
    found = examine([path], images=False).findings
    assert [(finding.code, finding.annotation_id) for finding in found] == [("sides-swapped", 7)]
    assert "'b'/'c'" in found[0].message
    path = write_mice(tmp_path / "none.json", list(NAMES), [6], symmetric_keypoints=[])
    assert examine([path], images=False).findings == ()


def test_a_proposal_is_one_line_and_no_finding(tmp_path: Path) -> None:
    path = write_mice(tmp_path / "mice.json", list(NAMES), [])
    examination = examine([path], images=False)
    assert examination.findings == ()
    lines = [line for line in report_text(examination).splitlines() if "symmetric_keypoints" in line]
    assert len(lines) == 1
    assert "'left_ear'/'right_ear'" in lines[0]
    assert report_json(examination)["proposals"] == list(examination.proposals)
    assert "nothing found" in report_text(examination)


def test_two_parts_of_a_data_set_make_one_proposal(tmp_path: Path) -> None:
    paths = [write_mice(tmp_path / name, list(NAMES), []) for name in ("a.json", "b.json")]
    assert len(examine(paths, images=False).proposals) == 1


def test_fix_declares_what_it_proposes(tmp_path: Path) -> None:
    path = make_dataset("boxes", tmp_path / "set", 4, (64, 64), seed=0)
    content = json.loads(path.read_text())
    names = content["categories"][0]["keypoints"]
    renamed = ["left_a", "right_a", *names[2:]]
    content["categories"][0]["keypoints"] = renamed
    path.write_text(json.dumps(content))
    notes = fix_dataset(path, tmp_path / "fixed.json")
    assert any("symmetric_keypoints" in note for note in notes)
    pairs = read_symmetry(read_coco(tmp_path / "fixed.json")).pairs
    assert pairs is not None
    assert ("left_a", "right_a") in pairs
    assert not any("symmetric" in note for note in fix_dataset(tmp_path / "fixed.json", tmp_path / "2.json"))
    assert examine([tmp_path / "fixed.json"], images=False).proposals == ()


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_dataset("boxes", tmp_path / "set", 4, (64, 64), seed=0)
    content = json.loads(path.read_text())
    content["categories"][0]["symmetric_keypoints"] = [["none", "such"]]
    path.write_text(json.dumps(content))
    assert main(["doctor", str(path)]) == 1
    assert "error symmetry-inconsistent: category 1 " in capsys.readouterr().out
