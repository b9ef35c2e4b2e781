import json
import os
import signal
import sys
from pathlib import Path

import pytest

from keypoint_detection.train import sweep_trial
from keypoint_detection.train.sweep_plan import Pruning, SweepPlan
from keypoint_detection.train.sweep_report import sweep_callbacks
from keypoint_detection.train.sweep_study import TrialRecord
from keypoint_detection.train.sweep_trial import (
    environments,
    outcome,
    start_trial,
    trial_flags,
    trial_folder,
    visible_devices,
)

PLAN = SweepPlan("random", "map", "maximize", None, (), Pruning("median", 2), ("--seed", "1"))
RECORD = TrialRecord(0, 1, "running", {"learning_rate": 0.5, "augment_train": True, "a": [2, 4], "b": None})


def test_flags_are_those_that_an_agent_passes() -> None:
    expected = ["--seed", "1", "--learning_rate=0.5", "--augment_train=True", "--a=[2, 4]", "--b=None"]
    assert trial_flags(RECORD, PLAN) == expected


@pytest.mark.parametrize(
    ("return_code", "log", "expected"),
    [
        (1, "epoch 1\nerror: --batch_size: too large\n\n", "--batch_size: too large"),
        (1, "", "exit code 1"),
        (-9, "", "ended by SIGKILL, as where memory runs out"),
        (-11, "", "ended by SIGSEGV"),
        (0, "fine", "no number for map at its end"),
    ],
)
def test_why_a_training_has_no_score(return_code: int, log: str, expected: str, tmp_path: Path) -> None:
    folder = trial_folder(tmp_path, 0)
    folder.mkdir(parents=True)
    (folder / "train.log").write_text(log)
    found = outcome(RECORD, PLAN, tmp_path, return_code)
    assert isinstance(found, str)
    assert found.startswith(expected)


def test_several_trainings_share_cores_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environments(1) == [{}]
    three = environments(3, ["4", "5"])
    assert [one["OMP_NUM_THREADS"] for one in three] == ["2", "2", "2"]
    assert [one["CUDA_VISIBLE_DEVICES"] for one in three] == ["4", "5", "4"]
    assert environments(16)[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert environments(2)[0]["MKL_NUM_THREADS"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 7")
    assert visible_devices() == ["3", "7"]


def test_a_training_knows_that_it_is_a_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweep_callbacks() == []
    code = "import os; print(os.environ['KEYPOINT_DETECTION_TRIAL'])"
    monkeypatch.setattr(sweep_trial, "training_program", lambda: [sys.executable, "-c", code])
    monkeypatch.setenv("WANDB_SWEEP_ID", "of another sweep")
    trial = start_trial(RECORD, PLAN, tmp_path)
    trial.process.wait()
    trial.interrupt()
    path = trial_folder(tmp_path, 0) / "train.log"
    settings = json.loads(Path(path.read_text().strip()).read_text())
    assert settings["pruning"] == {"kind": "median", "first": 2, "factor": 3}
    monkeypatch.setenv("KEYPOINT_DETECTION_TRIAL", path.read_text().strip())
    (callback,) = sweep_callbacks()
    assert (callback.metric, callback.parent) == ("map", os.getpid())  # pyright: ignore


def test_a_training_that_still_runs_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(sweep_trial, "training_program", lambda: sleeper)
    trial = start_trial(RECORD, PLAN, tmp_path)
    monkeypatch.setattr(sweep_trial, "ORPHAN_SECONDS", 0.3)
    with pytest.raises(RuntimeError, match="a training of an earlier sweep still runs"):
        start_trial(RECORD, PLAN, tmp_path)
    trial.lock.close()  # as the kernel does when the sweep is killed: its training holds the lock on
    with pytest.raises(RuntimeError, match="a training of an earlier sweep still runs"):
        start_trial(RECORD, PLAN, tmp_path)
    trial.process.send_signal(signal.SIGTERM)
    trial.process.wait()
    again = start_trial(RECORD, PLAN, tmp_path)
    again.process.kill()
    again.interrupt()
    again.process.wait()


def test_ctrl_c_at_a_terminal_reaches_the_sweep_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(sweep_trial, "training_program", lambda: sleeper)
    trial = start_trial(RECORD, PLAN, tmp_path)
    try:
        assert os.getpgid(trial.process.pid) != os.getpgid(0)
    finally:
        trial.process.kill()
        trial.interrupt()
