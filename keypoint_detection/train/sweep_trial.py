"""One trial of a sweep: a training in a process and a run folder of its own."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from keypoint_detection.files import write_json
from keypoint_detection.train.run_record import RECORD_FILE, read_record
from keypoint_detection.train.sweep_plan import SweepPlan, flag
from keypoint_detection.train.sweep_report import TRIAL_VARIABLE
from keypoint_detection.train.sweep_study import TrialRecord

SETTINGS_FILE, LOG_FILE, LOCK_FILE = "trial.json", "train.log", "trial.lock"

ORPHAN_SECONDS = 120
"""How long the training of a killed sweep is waited for: it ends at its next step."""


def trial_folder(output: Path, number: int) -> Path:
    """Return the run folder of a trial."""
    return output / "trials" / f"trial-{number:03d}"


def training_program() -> list[str]:
    """Return the command that trains, without flags."""
    return [sys.executable, "-m", "keypoint_detection", "train"]


@dataclass
class TrialProcess:
    """Hold a training under way.

    Attributes:
        record: The trial.
        process: Its training.
        lock: Open file, whose lock the training holds as long as it lives.
    """

    record: TrialRecord
    process: subprocess.Popen
    lock: IO[str]

    def is_over(self) -> bool:
        """Return whether the training has ended."""
        return self.process.poll() is not None

    def interrupt(self, wait_seconds: float = 60.0) -> None:
        """Let the training save its checkpoint and end; after a while end it without."""
        if not self.is_over():
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(wait_seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.lock.close()


def start_trial(
    record: TrialRecord, plan: SweepPlan, output: Path, variables: dict[str, str] | None = None
) -> TrialProcess:
    """Start the training of a trial, or go on with it from its last checkpoint.

    Args:
        record: The trial.
        plan: Of the sweep.
        output: Folder of the sweep.
        variables: Of the environment: threads and devices.

    Raises:
        RuntimeError: The training of a killed sweep still runs; one line.
    """
    folder = trial_folder(output, record.number)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _wait_for_lock(folder / LOCK_FILE)
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        _clear(folder)
    settings = {
        "sweep": str(output.absolute()),
        "study_id": record.study_id,
        "metric": plan.metric,
        "pruning": None if plan.pruning is None else asdict(plan.pruning),
        "parent": os.getpid(),
    }
    write_json(folder / SETTINGS_FILE, settings)
    resumed = [flag("ckpt_path", last)] if last.is_file() else []
    left_out = ("WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    with (folder / LOG_FILE).open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*training_program(), *trial_flags(record, plan), *_place_flags(folder), *resumed],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **environment,
                **(variables or {}),
                TRIAL_VARIABLE: str((folder / SETTINGS_FILE).absolute()),
            },
            pass_fds=[lock.fileno()],
            process_group=0,  # a Ctrl-C reaches the sweep alone: a second one would not let a trial save
        )
    return TrialProcess(record, process, lock)


def trial_flags(record: TrialRecord, plan: SweepPlan) -> list[str]:
    """Return the flags of a trial, without those that say where its files go."""
    return [*plan.flags, *(flag(name, value) for name, value in record.values.items())]


def outcome(record: TrialRecord, plan: SweepPlan, output: Path, return_code: int = 0) -> float | str:
    """Return the score of a training that has ended, or why it has none.

    Args:
        record: The trial.
        plan: Of the sweep.
        output: Folder of the sweep.
        return_code: Of its process, negative for a signal.
    """
    folder = trial_folder(output, record.number)
    score = finished_score(folder, plan.metric) if return_code == 0 else None
    if score is not None:
        return score
    if return_code < 0:
        name = signal.Signals(-return_code).name
        return f"ended by {name}" + (", as where memory runs out" if name == "SIGKILL" else "")
    path = folder / LOG_FILE
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    said = [line.strip() for line in lines if line.strip()]
    if return_code == 0:
        return f"no number for {plan.metric} at its end; see {path}"
    return said[-1].removeprefix("error: ") if said else f"exit code {return_code}"


def finished_score(folder: Path, metric: str) -> float | None:
    """Return the metric of a finished training; None where it is not finished or has no such number."""
    if not (folder / RECORD_FILE).is_file():
        return None
    content = read_record(folder)
    return content["scores"].get("validation", {}).get(metric) if content["ended"] else None


def _place_flags(folder: Path) -> list[str]:
    return [
        flag("default_root_dir", folder.parent),
        flag("run_name", folder.name),
        flag("enable_progress_bar", False),
    ]


def _clear(folder: Path) -> None:
    """Remove what a training has left that did not come to a checkpoint."""
    for path in folder.iterdir():
        if path.name not in (LOCK_FILE, LOG_FILE):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _wait_for_lock(path: Path) -> IO[str]:
    """Lock a file; the lock goes over to the process that inherits it."""
    file = path.open("a")
    end = time.monotonic() + ORPHAN_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except BlockingIOError:
            if time.monotonic() > end:
                file.close()
                raise RuntimeError(
                    f"{path.parent}: a training of an earlier sweep still runs; end it and start again"
                ) from None
            time.sleep(0.2)


def environments(jobs: int, devices: Sequence[str] = ()) -> list[dict[str, str]]:
    """Return the environment of each of several trainings at a time: a share of the cores, and one device.

    Args:
        jobs: Trainings at a time.
        devices: Names of the GPUs to share out.
    """
    if jobs == 1:
        return [{}]
    cores = len(os.sched_getaffinity(0))
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = max(1, min(cores // jobs, int(given) if given.isdecimal() else cores))
    shared = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return [
        {**shared, **({"CUDA_VISIBLE_DEVICES": devices[job % len(devices)]} if devices else {})}
        for job in range(jobs)
    ]


def visible_devices() -> list[str]:
    """Return the names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip()]
    return [str(number) for number in range(torch.cuda.device_count())]
