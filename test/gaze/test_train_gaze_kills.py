"""A training that SIGKILL ends at any time, and that is started again, ends as an uninterrupted one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gaze_runs import TINY, draw_people


def command(people: Path, root: Path) -> list[str]:
    values = {**TINY, "max_epochs": 4, "dropout": 0.2, "ema_decay": 0.9, "checkpoint_every": "1 steps"}
    values |= {"data": people, "default_root_dir": root, "run_name": "run", "ckpt_path": "last"}
    flags = [
        (f"--{name}", " ".join(map(str, value)) if isinstance(value, list) else str(value))
        for name, value in values.items()
    ]
    return [
        sys.executable,
        "-m",
        "keypoint_detection",
        "gaze",
        "train",
        *(part for flag in flags for part in flag),
    ]


def killed_after(argv: list[str], last: Path, n_checkpoints: int) -> bool:
    """Start a training and kill it once it has written some checkpoints; False if it came to its end."""
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        seen = {last.stat().st_mtime_ns} if last.is_file() else set()
        n_before = len(seen)
        while process.poll() is None:
            if last.is_file():
                seen.add(last.stat().st_mtime_ns)
            if len(seen) - n_before >= n_checkpoints:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return True
            time.sleep(0.002)
    return False


@pytest.mark.slow
def test_kills_leave_no_trace(tmp_path: Path) -> None:
    people = draw_people(tmp_path / "people")
    subprocess.run(command(people, tmp_path / "whole"), check=True, capture_output=True)
    argv, last = command(people, tmp_path / "parts"), tmp_path / "parts" / "run" / "checkpoints" / "last.ckpt"
    assert [killed_after(argv, last, number) for number in (1, 3)] == [True, True]
    subprocess.run(argv, check=True, capture_output=True)
    whole, parts = (
        torch.load(tmp_path / name / "run" / "checkpoints" / "last.ckpt", weights_only=True)
        for name in ("whole", "parts")
    )
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[key][name], parts[key][name]) for name in whole[key])
    assert whole["global_step"] == parts["global_step"]
