import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from configuration import small_flags

from keypoint_detection.train import sweep, sweep_trial
from keypoint_detection.train.sweep import SweepInterrupted, run_trials
from keypoint_detection.train.sweep_plan import SweepPlan
from keypoint_detection.train.sweep_space import Parameter
from keypoint_detection.train.sweep_study import STUDY_FILE, SweepStudy
from keypoint_detection.train.sweep_trial import trial_folder

FAKE = [sys.executable, str(Path(__file__).with_name("fake_training.py"))]
SWEEP = """
method: random
metric: {name: checkpoint/validation_map, goal: maximize}
parameters:
  learning_rate: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}
  max_epochs: {value: 12}
"""


def plan(*parameters: Parameter, method: str = "grid", target: float | None = None) -> SweepPlan:
    return SweepPlan(method, "checkpoint/validation_map", "maximize", target, parameters, None)


def rates(*values: float) -> Parameter:
    return Parameter("learning_rate", "categorical", values)


@pytest.fixture(autouse=True)
def fake_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_trial, "training_program", lambda: FAKE)


def calls(output: Path, number: int) -> list[str]:
    return (trial_folder(output, number) / "calls.txt").read_text().splitlines()


def test_each_trial_is_a_training_in_a_folder_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    study = run_trials(plan(rates(0.1, 0.3, 0.2)), tmp_path)
    assert [trial.score for trial in study.trials()] == [0.1, 0.3, 0.2]
    assert "--learning_rate=0.3" in calls(tmp_path, 1)[0]
    assert "--run_name=trial-001" in calls(tmp_path, 1)[0]
    assert (
        "trial 2 of 3: finished, checkpoint/validation_map 0.3; learning_rate=0.3" in capsys.readouterr().out
    )
    with (tmp_path / "sweep.csv").open() as file:
        assert [row["learning_rate"] for row in csv.DictReader(file)] == ["0.1", "0.3", "0.2"]
    assert "--learning_rate=0.3" in (tmp_path / "sweep.html").read_text()


def test_a_trial_that_crashes_is_failed_and_the_sweep_goes_on(tmp_path: Path) -> None:
    study = run_trials(plan(rates(0.1, 0.9, 0.2)), tmp_path)
    trials = study.trials()
    assert [trial.state for trial in trials] == ["finished", "failed", "finished"]
    assert trials[1].reason == "out of memory in the fake"


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on_to_six_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = plan(Parameter("batch_size", "categorical", (3, 4)), rates(0.1, 0.2, 0.3))
    waiting = trial_folder(tmp_path, 0) / "waits"

    pressed = []

    def interrupt(seconds: float) -> None:
        if waiting.exists() and not pressed:
            pressed.append(seconds)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sweep.time, "sleep", interrupt)
        with pytest.raises(SweepInterrupted, match="the same command goes on"):
            run_trials(chosen, tmp_path)
    assert [trial.state for trial in SweepStudy(tmp_path, chosen).trials()] == ["running"]
    # what its training would have left: a checkpoint to go on from
    last = trial_folder(tmp_path, 0) / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    last.touch()
    (tmp_path / "trials" / "go_on").touch()
    study = run_trials(chosen, tmp_path)
    assert [trial.state for trial in study.trials()] == ["finished"] * 6
    assert [f"--ckpt_path={last}" in call for call in calls(tmp_path, 0)] == [False, True]
    assert run_trials(chosen, tmp_path).trials() == study.trials()


def test_what_a_killed_sweep_left_is_counted_once(tmp_path: Path) -> None:
    chosen = plan(Parameter("learning_rate", "log", low=1e-4, high=1e-2), method="random")
    study = SweepStudy(tmp_path, chosen)
    finished, begun = study.ask(), study.ask()
    for number in (0, 1):
        trial_folder(tmp_path, number).mkdir(parents=True)
    places = [f"--default_root_dir={tmp_path}/trials", "--run_name=trial-000"]
    subprocess.run([*FAKE, "--learning_rate=0.25", *places], check=True)
    (trial_folder(tmp_path, 1) / "metrics.csv").write_text("half of a run")
    trials = run_trials(chosen, tmp_path, count=6).trials()
    assert [trial.state for trial in trials] == ["finished"] * 6
    assert trials[finished.number].score == 0.25, "its training had ended: it is not trained again"
    assert trials[begun.number].values == begun.values
    assert not (trial_folder(tmp_path, 1) / "metrics.csv").exists()
    assert len(calls(tmp_path, 0)) == len(calls(tmp_path, 1)) == 1


def test_more_trials_may_be_asked_for_and_several_at_a_time(tmp_path: Path) -> None:
    chosen = plan(Parameter("learning_rate", "float", low=0.1, high=0.2), method="random")
    first = run_trials(chosen, tmp_path, count=2).trials()
    study = run_trials(chosen, tmp_path, count=6, jobs=3)
    assert len(study.trials()) == 6
    assert study.trials()[:2] == first
    assert {trial.state for trial in study.trials()} == {"finished"}


def test_a_target_ends_the_sweep(tmp_path: Path) -> None:
    assert len(run_trials(plan(rates(0.1, 0.3, 0.2), target=0.25), tmp_path).trials()) == 2


def test_a_search_without_an_end_needs_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --count, or run_cap"):
        run_trials(plan(Parameter("learning_rate", "float", low=0.1, high=0.2), method="random"), tmp_path)


def test_two_sweeps_in_one_folder_are_refused(tmp_path: Path) -> None:
    with sweep._only_sweep(tmp_path), pytest.raises(ValueError, match="another sweep runs in this folder"):
        run_trials(plan(rates(0.1)), tmp_path)


@pytest.mark.slow
def test_a_sweep_that_is_killed_and_started_again_ends_with_six_trials(
    boxes_json: Path, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    flags = [
        text
        for text in small_flags(boxes_json)
        if text.split("=")[0] not in ("--learning_rate", "--max_epochs")
    ]
    command = [
        sys.executable,
        "-c",
        "import sys; from keypoint_detection.commands_sweep import run_sweep as r; sys.exit(r(sys.argv[1:]))",
        str(tmp_path / "sweep.yaml"),
        "--count",
        "6",
        *flags,
    ]
    output = tmp_path / "out"
    command += ["--output", str(output)]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    last = trial_folder(output, 1) / "checkpoints" / "last.ckpt"
    end = time.monotonic() + 300
    while not last.exists():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode == 0
    assert (output / STUDY_FILE).is_file()
    with (output / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished"] * 6
    assert [row["validations"] for row in rows] == ["12"] * 6, "the killed one went on where it was"
    assert len(list((output / "trials").iterdir())) == 6
