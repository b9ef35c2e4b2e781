import json
from pathlib import Path

import pytest

from keypoint_detection.data.coco_parser import CocoKeypoints
from keypoint_detection.predict_coco import CocoTarget, coco_target, image_ids, write_coco_results
from keypoint_detection.predict_store import Record

CHANNELS = [["nose"], ["left_ear"], ["right_ear"]]


def coco(categories: list[dict], file_names: tuple[str, ...] = ()) -> CocoKeypoints:
    images = [{"id": 5 + i, "file_name": name, "width": 9, "height": 9} for i, name in enumerate(file_names)]
    return CocoKeypoints.model_validate({"images": images, "categories": categories, "annotations": []})


MOUSE = {"id": 4, "name": "mouse", "keypoints": ["right_ear", "nose"]}


def test_the_channels_are_category_1_without_a_file() -> None:
    target = coco_target(CHANNELS)
    assert target == CocoTarget(1, ("nose", "left_ear", "right_ear"))
    assert [target.image_id(index) for index in (0, 7)] == [1, 8]


def test_the_category_is_the_one_whose_keypoints_have_channels() -> None:
    cat = {"id": 2, "name": "cat", "keypoints": ["nose", "tail"]}
    empty = {"id": 1, "name": "animal", "keypoints": []}
    assert coco_target(CHANNELS, coco([empty, cat, MOUSE])) == CocoTarget(4, ("right_ear", "nose"))
    with pytest.raises(ValueError, match=r"got cat \(tail missing\)"):
        coco_target(CHANNELS, coco([empty, cat]))
    with pytest.raises(ValueError, match="got mouse, rat; give a file with one"):
        coco_target(CHANNELS, coco([MOUSE, {"id": 3, "name": "rat", "keypoints": ["nose"]}]))


def test_a_channel_of_several_keypoints_is_refused() -> None:
    with pytest.raises(ValueError, match="COCO results need one keypoint per channel, got a = b in one"):
        coco_target([["nose"], ["a", "b"]])


def test_images_are_found_by_path_and_else_by_name(tmp_path: Path) -> None:
    labels = coco([MOUSE], ("a/1.png", "b/1.png", "b/2.png"))
    paths = [tmp_path / "b" / "1.png", tmp_path / "elsewhere" / "2.png", tmp_path / "a" / "1.png"]
    assert image_ids(paths, labels, tmp_path / "labels.json") == (6, 7, 5)
    with pytest.raises(ValueError, match=r"found 1\.png 2 times"):
        image_ids([tmp_path / "c" / "1.png"], labels, tmp_path / "labels.json")
    with pytest.raises(ValueError, match=r"found 3\.png 0 times"):
        image_ids([tmp_path / "a" / "3.png"], labels, tmp_path / "labels.json")


def point(x: float, y: float, score: float) -> dict[str, float]:
    return {"x": x, "y": y, "score": score}


def test_entries_have_the_best_points_and_zeros_for_missing_ones(tmp_path: Path) -> None:
    found = {"nose": [point(1.5, 2.5, 0.75), point(8.0, 8.0, 0.5)], "left_ear": [], "right_ear": []}
    nothing = {name: [] for name in found}
    records = [Record(index, {"keypoints": k}) for index, k in enumerate([found, nothing, found])]
    write_coco_results(tmp_path / "r.json", iter(records), CocoTarget(4, ("right_ear", "nose"), (30, 31, 9)))
    written = json.loads((tmp_path / "r.json").read_text())
    keypoints = [0.0, 0.0, 0.0, 1.5, 2.5, 0.75]
    assert written == [
        {"image_id": image_id, "category_id": 4, "keypoints": keypoints, "score": 0.375}
        for image_id in (30, 9)
    ]
    write_coco_results(tmp_path / "r.json", iter([]), CocoTarget(4, ("nose",)))
    assert json.loads((tmp_path / "r.json").read_text()) == []


def test_numbered_entries_say_which_image_they_are_of(tmp_path: Path) -> None:
    keypoints = {"nose": [point(1, 2, 0.5)]}
    image, frame = ({"source": "v/a.png", "keypoints": keypoints}, {"source": "v.mp4", "frame": 6})
    records = [Record(3, image), Record(6, {**frame, "keypoints": keypoints})]
    write_coco_results(tmp_path / "r.json", records, CocoTarget(1, ("nose",)))
    entries = json.loads((tmp_path / "r.json").read_text())
    assert [(entry["image_id"], entry.get("file_name")) for entry in entries] == [(4, "v/a.png"), (7, None)]
    write_coco_results(tmp_path / "r.json", records[:1], CocoTarget(1, ("nose",), (0, 0, 0, 8)))
    assert list(json.loads((tmp_path / "r.json").read_text())[0]) == [
        *("image_id", "category_id", "keypoints", "score")
    ]


def test_flags_take_the_place_of_the_scores_where_they_are_known(tmp_path: Path) -> None:
    seen, hidden = {**point(1, 2, 0.75), "p_visible": 0.9}, {**point(3, 4, 0.25), "visibility": 1}
    found = {"nose": [seen], "left_ear": [{**hidden, "p_visible": 0.125}], "right_ear": []}
    target = CocoTarget(4, ("right_ear", "left_ear", "nose"), (30,))
    write_coco_results(tmp_path / "r.json", [Record(0, {"keypoints": found})], target, has_flags=True)
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert entry["keypoints"] == [0, 0, 0, 3, 4, 1, 1, 2, 2]
    assert entry["keypoint_scores"] == [0, 0.25, 0.75]
    assert entry["p_visible"] == [None, 0.125, 0.9]
    assert entry["score"] == pytest.approx(1 / 3)
    signs = {"nose": [point(1, 2, 0.75)], "left_ear": [hidden], "right_ear": []}  # of signed heatmaps
    write_coco_results(tmp_path / "r.json", [Record(0, {"keypoints": signs})], target, has_flags=True)
    (entry,) = json.loads((tmp_path / "r.json").read_text())
    assert entry["keypoints"][2::3] == [0, 1, 2]
    assert "p_visible" not in entry
