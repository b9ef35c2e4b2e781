"""What a cross-validation cannot do: said before the first training, and nothing is lost or left."""

import json
from pathlib import Path

import pytest
from test_cross_validation import RESAMPLING, SPLIT, Calls, calls, data_json, files_of, make_config

from keypoint_detection.train import cross_validation
from keypoint_detection.train.cross_validation import cross_validate
from keypoint_detection.train.cross_validation_plan import FoldSplit

__all__ = ["calls", "data_json"]  # fixtures


def test_a_fold_without_labels_to_train_on_is_named(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    content = json.loads(data_json.read_text())
    kept = {image["id"] for image in content["images"] if image["video"] == 0}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    path = data_json.with_name("one_video.json")
    path.write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"^the training of 0 would fail: .*expected annotations with labelled"
    ):
        cross_validate(make_config(path), tmp_path / "out", FoldSplit(None, True, "video"), RESAMPLING)
    assert not calls.trained


def test_what_began_before_is_kept_when_its_data_are_damaged(
    calls: Calls, data_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, config = tmp_path / "out", make_config(data_json)
    calls.break_training_of = "fold2"
    with pytest.raises(RuntimeError, match="killed"):
        cross_validate(config, output, SPLIT, RESAMPLING)
    before = files_of(output / "fold1")

    def refuse(*_: object) -> None:
        raise ValueError("an image is gone")

    monkeypatch.setattr(cross_validation, "build_data_module", refuse)
    with pytest.raises(ValueError, match="an image is gone"):
        cross_validate(config, output, SPLIT, RESAMPLING)
    assert files_of(output / "fold1") == before
    assert (output / "fold2" / "checkpoints" / "last.ckpt").is_file()


def test_a_file_in_the_place_of_the_folder_is_one_line(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match="--output: expected a folder, got the file"):
        cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_with_other_files_is_refused(calls: Calls, data_json: Path, tmp_path: Path) -> None:
    (tmp_path / "fold1").mkdir()
    with pytest.raises(ValueError, match="expected a new or empty folder"):
        cross_validate(make_config(data_json), tmp_path, SPLIT, RESAMPLING)
    assert not calls.trained


def test_what_is_wrong_with_the_last_fold_is_said_before_the_first_training(
    calls: Calls, data_json: Path, tmp_path: Path
) -> None:
    content = json.loads(data_json.read_text())
    for number, image in enumerate(content["images"]):
        image["camera"] = number // 3
    kept = {image["id"] for image in content["images"] if image["camera"] < 2}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    path = data_json.with_name("two_thirds.json")
    path.write_text(json.dumps(content))
    split = FoldSplit(None, True, "camera")
    with pytest.raises(
        ValueError, match=r"^2: expected labelled keypoints in the 3 images to score, got none"
    ):
        cross_validate(make_config(path), tmp_path / "out", split, RESAMPLING)
    assert not calls.trained
    # What cannot begin leaves nothing in the way of the next try.
    assert list((tmp_path / "out").iterdir()) == []
    cross_validate(make_config(data_json), tmp_path / "out", SPLIT, RESAMPLING)
