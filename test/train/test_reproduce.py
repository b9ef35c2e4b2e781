import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from configuration import small_config

from keypoint_detection.commands_reproduce import run_reproduce
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.reproduce import (
    Reproduction,
    Row,
    compare_metrics,
    plan_reproduction,
    reproduction_text,
)
from keypoint_detection.train.train import train


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run of two epochs, with its data in `data` beside it."""
    root = tmp_path_factory.mktemp("finished")
    json_path = make_dataset("boxes", root / "data", 8, (64, 64), seed=5)
    return train(small_config(json_path, root / "runs")).run_dir


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """Return a run whose data and record may be changed."""
    shutil.copytree(finished.parents[1], tmp_path / "copy")
    run = tmp_path / "copy" / "runs" / "run"
    text = (run / "run.json").read_text()
    (run / "run.json").write_text(text.replace(str(finished.parents[1]), str(tmp_path / "copy")))
    return run


def change(run: Path, **changes: Any) -> None:
    content = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("row", "inside"),
    [
        (Row("map", 0.5, (0.4, 0.6), 0.41), True),
        (Row("map", 0.5, (0.4, 0.6), 0.61), False),
        (Row("map", 1.0, (1.0, 1.0), 1.0 - 1e-12), True),
        (Row("map", 1.0, None, 1.0), True),
        (Row("map", 1.0, None, 0.9), False),
        (Row("map", 1.0, (0.9, 1.0), None), False),
    ],
)
def test_inside_is_between_the_ends_or_the_same(row: Row, inside: bool) -> None:
    assert row.is_inside is inside


def test_numbers_are_paired_by_name() -> None:
    old = {
        "map": {"value": 0.5, "interval": [0.4, 0.6]},
        "oks_ap": {"value": None, "interval": None},
        "gone": {"value": 1.0, "interval": None},
    }
    rows = compare_metrics(old, {"map": {"value": 0.55}, "oks_ap": {"value": None}})
    assert [(row.metric, row.new) for row in rows] == [("map", 0.55), ("gone", None)]
    assert rows[0].difference == pytest.approx(0.05)


def test_the_verdict_names_what_is_outside() -> None:
    rows = (Row("map", 0.5, (0.4, 0.6), 0.7), Row("missed", 2.0, (1.0, 3.0), 2.0))
    text = reproduction_text(Reproduction(Path("x"), False, rows, ()))
    assert text.endswith("not reproduced: outside of the interval of the old run: map")
    assert "[0.4, 0.6]" in text
    assert "bit by bit" in reproduction_text(Reproduction(Path("x"), True, rows[1:], ()))
    assert Reproduction(Path("x"), False, rows[1:], ()).succeeded


def test_a_run_comes_out_again_bit_by_bit(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "again"
    assert run_reproduce([str(finished), "--output", str(output), "--n_resamples", "50"]) == 0
    said = capsys.readouterr().out
    assert "the weights are identical, bit by bit" in said
    report = json.loads((output / "reproduction.json").read_text())
    assert report["identical"]
    assert all(row["inside"] for row in report["metrics"].values())
    assert report["metrics"]["map"]["old"] == report["metrics"]["map"]["new"]
    assert (
        json.loads((output / "run.json").read_text())["steps"]
        == json.loads((finished / "run.json").read_text())["steps"]
    )
    assert not (finished / "eval").exists(), "nothing is written into the old run"
    # eight images, a quarter of them to validate on
    assert len(json.loads((output / "validation_images.json").read_text())["images"]) == 2


def test_changed_data_end_it_before_it_starts(copy: Path, tmp_path: Path) -> None:
    assert not plan_reproduction(copy, tmp_path / "x").notes
    labels = copy.parents[1] / "data" / "annotations.json"
    labels.write_text(labels.read_text() + "\n")
    with pytest.raises(ValueError, match=r"annotations\.json has changed.*--force") as caught:
        plan_reproduction(copy, tmp_path / "x")
    assert "\n" not in str(caught.value)
    (note,) = plan_reproduction(copy, tmp_path / "x", force=True).notes
    assert "has changed" in note
    assert not (tmp_path / "x").exists()


def test_another_environment_is_said(copy: Path, tmp_path: Path) -> None:
    content = json.loads((copy / "run.json").read_text())
    content["environment"]["versions"]["torch"] = "1.0"
    content["environment"]["hardware"]["gpus"] = ["A", "B"]
    change(copy, environment=content["environment"])
    notes = plan_reproduction(copy, tmp_path / "x").notes
    assert notes[0].startswith("hardware.gpus: A, B then, ")
    assert notes[1].startswith("versions.torch: 1.0 then, ")


def test_a_time_limit_becomes_the_steps_that_were_made(copy: Path, tmp_path: Path) -> None:
    content = json.loads((copy / "run.json").read_text())
    config = {**content["config"], "max_time": "00:00:20:00", "max_epochs": None}
    change(copy, config=config, steps=37)
    plan = plan_reproduction(copy, tmp_path / "x")
    assert plan.config.max_time is None
    assert plan.config.trainer == {"enable_progress_bar": False, "max_steps": 37}
    assert "37 steps instead of --max_time 00:00:20:00" in plan.notes[0]


def test_a_resumed_run_is_repeated_in_one_go(copy: Path, tmp_path: Path) -> None:
    content = json.loads((copy / "run.json").read_text())
    part, last = content["parts"][0], str(copy / "checkpoints" / "last.ckpt")
    change(copy, parts=[part, {**part, "ckpt_path": last}], config={**content["config"], "ckpt_path": last})
    plan = plan_reproduction(copy, tmp_path / "x")
    assert plan.config.ckpt_path is None
    assert "resumed 1 times" in plan.notes[0]


def test_weights_that_it_started_from_are_checked(copy: Path, tmp_path: Path) -> None:
    started_from = {"init_weights": {"path": str(tmp_path / "gone.ckpt"), "sha256": "0"}}
    change(copy, started_from=started_from)
    with pytest.raises(ValueError, match=r"the weights .*gone\.ckpt have changed"):
        plan_reproduction(copy, tmp_path / "x")


def test_an_unfinished_run_is_one_line(copy: Path, tmp_path: Path) -> None:
    change(copy, ended=None)
    with pytest.raises(ValueError, match="expected a finished run"):
        plan_reproduction(copy, tmp_path / "x")
    with pytest.raises(FileNotFoundError, match=r"run\.json"):
        plan_reproduction(tmp_path, tmp_path / "x")


def test_data_may_lie_elsewhere(copy: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    (copy.parents[1] / "data").rename(moved)
    place = {"json_dataset_path": str(moved / "annotations.json"), "num_workers": "0"}
    plan = plan_reproduction(copy, tmp_path / "x", place)
    assert plan.config.json_dataset_path == str(moved / "annotations.json")
    assert not plan.notes
