import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from judged import ANSWERS, P_IN, QUICK, judged, people

from keypoint_detection.gaze.evaluate_files import (
    METRICS_FILE,
    PEOPLE_FILE,
    PREDICTIONS_FILE,
    TABLE_FILE,
    people_hash,
    write_evaluation,
)
from keypoint_detection.gaze.evaluate_read import read_evaluation, read_metrics
from keypoint_detection.gaze.evaluate_scores import person_scores


def written(folder: Path, **options) -> Path:
    part, found = judged(folder)
    write_evaluation(folder / "eval", part.table, found, resampling=QUICK, **options)
    return folder / "eval"


def strict(path: Path):
    """Read JSON that has no NaN in it."""

    def refuse(word: str):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_every_number_is_in_the_files(tmp_path: Path) -> None:
    folder = written(tmp_path, about={"checkpoint": "a.ckpt"})
    content = strict(folder / METRICS_FILE)
    assert set(content["baselines"]) == {"centre bias", "chance"}
    assert content["baselines"]["chance"]["auc"]["value"] == 0.5
    assert content["baselines"]["chance"]["in_out_ap"]["value"] == pytest.approx(2 / 3)
    assert content["contract"]["n_inside"] == 2
    assert content["contract"]["n_unknown"] == 1
    assert content["intervals"] == {
        **{"unit": "person", "units": 4, "resamples": 60},
        **{"level": 0.95, "method": "bca", "seed": 0},
    }
    assert content["about"] == {"checkpoint": "a.ckpt"}
    rows = {row["person"]: row for row in csv.DictReader((folder / PEOPLE_FILE).read_text().splitlines())}
    assert list(rows) == list(people().person)
    assert rows["ann"]["annotators"] == "1"
    assert rows["bob"]["annotators"] == "2"
    assert rows["cat"]["in_frame"] == "outside"
    assert rows["cat"]["min_distance"] == rows["dan"]["auc"] == ""
    assert float(rows["cat"]["p_in"]) == pytest.approx(P_IN["cat"])
    assert [mode.split()[2] for mode in rows["ann"]["modes"].split("; ")] == ["0.75", "0.25"]
    mean = np.mean([float(rows[name]["min_distance"]) for name in ("ann", "bob")])
    assert content["metrics"]["min_distance"]["value"] == pytest.approx(mean)


def test_predictions_are_plain_and_in_pixels(tmp_path: Path) -> None:
    content = strict(written(tmp_path) / PREDICTIONS_FILE)
    ann = content["people"][0]
    assert (content["samples"], ann["person"], ann["image"]) == (4, "ann", "a.png")
    assert ann["point"] == pytest.approx([49.5, 49.5], abs=0.3)
    assert [mode["weight"] for mode in ann["modes"]] == [0.75, 0.25]
    assert len(ann["samples"]) == 4


def test_groups_are_drawn_if_asked_for(tmp_path: Path) -> None:
    content = strict(written(tmp_path, by_group=True) / METRICS_FILE)
    assert (content["intervals"]["unit"], content["intervals"]["units"]) == ("group", 2)


def test_the_usual_place_comes_from_the_training(tmp_path: Path) -> None:
    folder = written(tmp_path, training=people().select([0]))
    content = strict(folder / METRICS_FILE)
    assert content["centre_bias"]["mean"] == pytest.approx([0.25, 0.5])
    assert content["centre_bias"]["from"] == "the people that were trained on"
    # right for ann; bob's annotators are 0.25 of the width to the right, and 0.2 of the height off
    expected = (0 + np.hypot(0.25, 0.2)) / 2
    assert content["baselines"]["centre bias"]["min_distance"]["value"] == pytest.approx(expected)


def test_round_trip(tmp_path: Path) -> None:
    part, found = judged(tmp_path)
    write_evaluation(tmp_path / "eval", part.table, found, resampling=QUICK)
    again = read_evaluation(tmp_path / "eval")
    assert again.table.person == part.table.person
    np.testing.assert_array_equal(again.table.gaze_xy, part.table.gaze_xy)
    for one, other in zip(again.judged.predictions, found.predictions, strict=True):
        for name in ("point_xy", "samples_xy", "modes_xy", "weights", "mode_std_px", "p_in", "spread"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, column in person_scores(part.table, found).items():
        np.testing.assert_array_equal(again.scores[name], column, err_msg=name)
    assert again.judged.samples == 4
    assert again.content == read_metrics(tmp_path / "eval")


def test_people_without_targets_can_be_written_and_read(tmp_path: Path) -> None:
    part, found = judged(tmp_path, people().select([2, 3]))
    content = write_evaluation(tmp_path / "eval", part.table, found, resampling=QUICK)
    assert all(number["value"] is None for number in content["metrics"].values())
    strict(tmp_path / "eval" / METRICS_FILE)
    assert len(read_evaluation(tmp_path / "eval").table) == 2


def test_the_hash_stands_for_people_and_truth_in_any_order() -> None:
    table = people()
    assert people_hash(table.select([3, 0, 2, 1])) == people_hash(table)
    for changed in (
        replace(table, gaze_xy=table.gaze_xy + 1e-9),
        replace(table, head_box=table.head_box + 1),
        replace(table, group=("other", *table.group[1:])),
        replace(table, in_frame=np.array([1, 1, -1, -1], np.int8)),
        table.select([0, 1, 2]),
    ):
        assert people_hash(changed) != people_hash(table)


def test_files_of_two_evaluations_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    one = written(tmp_path / "a")
    part, found = judged(tmp_path / "b", places={**ANSWERS, "bob": [(0.1, 0.1)] * 4})
    write_evaluation(tmp_path / "b" / "eval", part.table, found, resampling=QUICK)
    for name in (METRICS_FILE, PREDICTIONS_FILE, PEOPLE_FILE):
        own = (one / name).read_bytes()
        (one / name).write_bytes((tmp_path / "b" / "eval" / name).read_bytes())
        with pytest.raises(ValueError, match="are of two evaluations"):
            read_evaluation(one)
        (one / name).write_bytes(own)
    read_evaluation(one)
    table = json.loads((one / TABLE_FILE).read_text())
    table["people"][0]["head_box"][0] -= 1
    (one / TABLE_FILE).write_text(json.dumps(table))
    with pytest.raises(ValueError, match="are of two evaluations"):
        read_evaluation(one)


@pytest.mark.parametrize("name", [METRICS_FILE, PREDICTIONS_FILE, PEOPLE_FILE, TABLE_FILE])
def test_missing_and_broken_files_are_named(tmp_path: Path, name: str) -> None:
    folder = written(tmp_path)
    (folder / name).write_text("[]")
    with pytest.raises(ValueError, match=name) as raised:
        read_evaluation(folder)
    assert "\n" not in str(raised.value)
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        read_evaluation(folder)


def test_nobody_and_missing_predictions_are_errors(tmp_path: Path) -> None:
    part, found = judged(tmp_path)
    with pytest.raises(ValueError, match="got 4 for 3"):
        write_evaluation(tmp_path / "eval", part.table.select([0, 1, 2]), found)
    with pytest.raises(ValueError, match="got 0 for 0"):
        write_evaluation(tmp_path / "eval", people().select([]), replace(found, predictions=()))
    assert not (tmp_path / "eval").exists()
