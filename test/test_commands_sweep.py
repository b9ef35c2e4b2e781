import sys
from pathlib import Path

import pytest

from keypoint_detection.commands_sweep import run_sweep
from keypoint_detection.train import sweep_trial
from keypoint_detection.train.cli import UsageError

FAKE = [sys.executable, str(Path(__file__).parent / "train" / "fake_training.py")]
FILE = """
method: grid
metric: {name: checkpoint/validation_map, goal: maximize}
parameters:
  learning_rate: {values: [0.1, 0.3, 0.9]}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sweep_trial, "training_program", lambda: FAKE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(FILE)
    return tmp_path / "my.yaml"


def test_a_sweep_prints_its_table_and_the_best_command(file: Path, capsys: pytest.CaptureFixture) -> None:
    assert run_sweep([str(file), "--json_dataset_path=a.json", "--max_epochs=1"]) == 0
    said = capsys.readouterr().out
    assert "3 trials: 2 finished, 1 failed" in said
    assert "keypoint-detection train --json_dataset_path=a.json --max_epochs=1 --learning_rate=0.3" in said
    assert (file.parent / "sweeps" / "my" / "sweep.html").is_file()


def test_a_sweep_without_a_finished_trial_fails(file: Path) -> None:
    file.write_text(FILE.replace("[0.1, 0.3, 0.9]", "[0.9]"))
    assert run_sweep([str(file), "--json_dataset_path=a.json", "--output", "out"]) == 1


def test_a_wrong_flag_is_named_before_anything_is_written(file: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'json_dataset_path'"):
        run_sweep([str(file), "--json_dataset_pth=a.json"])
    assert [path.name for path in file.parent.iterdir()] == ["my.yaml"]
