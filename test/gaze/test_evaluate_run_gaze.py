import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged import QUICK, part_of, people, tiny_follower

from keypoint_detection.gaze.evaluate_read import read_evaluation
from keypoint_detection.gaze.evaluate_run import evaluate_to_folder, scores_text
from keypoint_detection.gaze.people_data import GazePart


@pytest.mark.parametrize("decoder", ["diffusion", "direct"])
def test_everything_is_written(tmp_path: Path, decoder: str) -> None:
    follower, part = tiny_follower(decoder), part_of(people(), tmp_path)
    content = evaluate_to_folder(
        follower,
        part,
        tmp_path / "run" / "eval",
        samples=2,
        about={"checkpoint": "last.ckpt", "unknown": None},
        resampling=QUICK,
    )
    folder = tmp_path / "run" / "eval"
    names = {"metrics.json", "people.json", "per_person.csv", "predictions.json", "report.html"}
    assert {path.name for path in folder.iterdir()} == names
    assert json.loads((folder / "metrics.json").read_text()) == content
    about = {"decoder": decoder, "seed": 0, "batch_size": 16, "checkpoint": "last.ckpt"}
    assert content["about"] == about
    assert content["samples"] == (2 if decoder == "diffusion" else 1)
    assert "<title>Gaze: run</title>" in (folder / "report.html").read_text(encoding="utf-8")
    assert scores_text(content).splitlines()[1].startswith(decoder)
    assert len(read_evaluation(folder).judged.predictions) == 4


def test_one_person_can_be_evaluated(tmp_path: Path) -> None:
    part = part_of(people(), tmp_path)
    for row in range(4):
        one = GazePart(part.table.select([row]), tmp_path)
        content = evaluate_to_folder(
            tiny_follower("direct"), one, tmp_path / "eval", resampling=QUICK, batch_size=1
        )
        is_inside = part.table.in_frame[row] == 1
        assert (content["metrics"]["min_distance"]["value"] is None) == (not is_inside)
        assert content["metrics"]["in_out_ap"]["value"] is None
        assert "in/out AP" in scores_text(content)


def test_pictures_of_odd_sizes(tmp_path: Path) -> None:
    table = replace(people().select([1]), image_hw=np.array([[101, 333]], np.int64))
    content = evaluate_to_folder(
        tiny_follower(), part_of(table, tmp_path), tmp_path / "eval", samples=2, resampling=QUICK
    )
    assert 0 <= content["metrics"]["auc"]["value"] <= 1
    assert content["contract"]["n_people"] == 1


def test_others_of_other_people_are_refused_before_the_time_is_spent(tmp_path: Path) -> None:
    follower, part = tiny_follower("direct"), part_of(people(), tmp_path)
    fewer = GazePart(part.table.select([0, 1]), tmp_path)
    other = evaluate_to_folder(follower, fewer, tmp_path / "a", resampling=QUICK, has_page=False)
    assert not (tmp_path / "a" / "report.html").exists()
    with pytest.raises(ValueError, match="direct and theirs are scored by different definitions"):
        evaluate_to_folder(follower, part, tmp_path / "b", others={"theirs": other})
    assert not (tmp_path / "b").exists()


def test_a_folder_that_cannot_be_made_is_told_before_the_time_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = part_of(people(), tmp_path)
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setattr("keypoint_detection.gaze.evaluate_run.evaluate_people", None)
    with pytest.raises(OSError, match="taken"):
        evaluate_to_folder(tiny_follower("direct"), part, tmp_path / "taken")


def test_one_person_is_not_people(tmp_path: Path) -> None:
    one = GazePart(part_of(people(), tmp_path).table.select([0]), tmp_path)
    content = evaluate_to_folder(
        tiny_follower("direct"), one, tmp_path / "eval", resampling=QUICK, has_page=False
    )
    assert "1 person in 1 image (" in scores_text(content)
