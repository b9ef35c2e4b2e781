import json
import subprocess
import sys
from pathlib import Path

import pytest
from configuration import small_config

import keypoint_detection
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.run_record import begin_record, finish_record, git_revision, read_record


def test_a_record_holds_what_it_takes_to_repeat_a_run(boxes_json: Path, tmp_path: Path) -> None:
    config = small_config(boxes_json, tmp_path)
    begin_record(config, tmp_path)
    content = read_record(tmp_path)
    assert TrainConfig(**content["config"]) == config
    assert content["seeds"] == {"seed": 2022, "deterministic": False}
    assert content["environment"]["versions"]["keypoint_detection"] == keypoint_detection.__version__
    assert content["environment"]["versions"]["python"].startswith(f"3.{sys.version_info.minor}.")
    assert all(content["environment"]["versions"][name] for name in ("torch", "pytorch-lightning", "opencv"))
    assert content["environment"]["hardware"]["cpu"]
    assert content["data"]["json_dataset_path"]["images"] == 6
    assert content["parts"][0]["command"] == sys.argv
    assert content["ended"] is None
    finish_record(tmp_path, steps=7, epochs=2, scores={"validation": {"map": 0.5, "x": float("nan")}})
    content = read_record(tmp_path)
    assert (content["steps"], content["epochs"]) == (7, 2)
    assert content["scores"] == {"validation": {"map": 0.5, "x": None}}
    assert content["ended"] >= content["parts"][0]["time"]


def test_a_resumed_run_keeps_its_first_part(boxes_json: Path, tmp_path: Path) -> None:
    weights = tmp_path / "first.ckpt"
    weights.write_bytes(b"weights")
    begin_record(small_config(boxes_json, tmp_path, init_weights=str(weights)), tmp_path)
    last = tmp_path / "checkpoints" / "last.ckpt"
    begin_record(small_config(boxes_json, tmp_path, ckpt_path=str(last)), tmp_path)
    content = read_record(tmp_path)
    assert [part["ckpt_path"] for part in content["parts"]] == [None, str(last)]
    assert list(content["started_from"]) == ["init_weights"]


def test_the_revision_of_a_folder_under_git(tmp_path: Path) -> None:
    assert git_revision(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "a.txt").write_text("one")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "first"], check=True)
    found = git_revision(tmp_path)
    assert found is not None
    assert len(found["revision"]) == 40
    assert found["changed_files"] == 0
    (tmp_path / "a.txt").write_text("two")
    changed = git_revision(tmp_path)
    assert changed is not None
    assert changed["changed_files"] == 1


def test_a_record_that_is_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"expected the folder of a run with run\.json"):
        read_record(tmp_path)
    for content in ("{", "[]", json.dumps({"format": "x"}), json.dumps({"version": 1})):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(ValueError, match="expected the record of a run") as caught:
            read_record(tmp_path)
        assert "\n" not in str(caught.value)
