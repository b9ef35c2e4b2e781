"""Kill a training at random moments, resume it each time, and compare its end with an undisturbed one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

POLL_S = 0.002
COMPARED = ("state_dict", "optimizer_states", "lr_schedulers", "global_step")


@dataclass(frozen=True)
class Kill:
    """Say when a training was killed.

    Attributes:
        after_s: Seconds since this part of the training made its first step.
        step: Optimiser steps in the checkpoint that it left; None if there was none.
        in_checkpoint: True if a checkpoint was being written.
    """

    after_s: float
    step: int | None
    in_checkpoint: bool


class KillTest:
    """Train once undisturbed, and once with kills.

    Args:
        flags: Flags of `keypoint-detection train`, without those of the run's folder and its checkpoint.
        root: Folder of both runs.
        seed: Seed of the moments.
    """

    def __init__(self, flags: Sequence[str], root: Path, seed: int = 0) -> None:
        self.flags, self.root, self.random = list(flags), root, np.random.default_rng(seed)
        self.duration_s = 0.0

    def whole(self) -> dict[str, Any]:
        """Train undisturbed; note how long that takes, and return the last checkpoint."""
        with self._start("whole") as process:
            self._wait_for_steps("whole", process)
            start = time.monotonic()
            self._check(process.wait())
        self.duration_s = time.monotonic() - start
        return self._last("whole")

    def kills(self, count: int) -> Iterator[Kill]:
        """Start or resume the second run, kill it at a random moment, and yield when that was.

        Every third kill waits for the next checkpoint and strikes while it is being written. The moments are
        such that about three quarters of the run are over after the last one.
        """
        for number in range(count):
            with self._start("killed") as process:
                self._wait_for_steps("killed", process)
                start = time.monotonic()
                time.sleep(self.random.uniform(0, 1.5 * self.duration_s / count))
                in_checkpoint = self._strike(process, at_checkpoint=number % 3 == 2)
                after_s = time.monotonic() - start
                process.wait()
            if process.returncode == 0:
                return  # it had ended before
            path = self._path("killed")
            yield Kill(
                after_s, self._last("killed")["global_step"] if path.is_file() else None, in_checkpoint
            )

    def finish(self) -> dict[str, Any]:
        """Let the second run come to its end and return the last checkpoint."""
        with self._start("killed") as process:
            self._check(process.wait())
        return self._last("killed")

    def _strike(self, process: subprocess.Popen, *, at_checkpoint: bool) -> bool:
        """Send SIGKILL to the training and its loaders; return whether a checkpoint was being written."""
        folder = self._path("killed").parent
        while at_checkpoint and process.poll() is None and not _is_writing(folder):
            time.sleep(POLL_S / 10)
        in_checkpoint = _is_writing(folder)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return in_checkpoint and _is_writing(folder)  # what was not finished is still there

    def _start(self, name: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "keypoint_detection", "train", *self.flags]
        command += ["--default_root_dir", str(self.root), "--run_name", name, "--ckpt_path", "last"]
        (self.root / name).mkdir(parents=True, exist_ok=True)
        with (self.root / f"{name}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def _wait_for_steps(self, name: str, process: subprocess.Popen) -> None:
        """Wait until this part of the run has written something: then it is making steps."""
        start = time.time_ns()
        watched = [self._path(name), self.root / name / "metrics.csv"]
        while process.poll() is None:
            if any(path.exists() and path.stat().st_mtime_ns > start for path in watched):
                return
            time.sleep(POLL_S)

    def _check(self, code: int) -> None:
        if code != 0:
            raise RuntimeError(
                f"expected a training that ends well, got exit code {code}; see {self.root}/*.log"
            )

    def _path(self, name: str) -> Path:
        return self.root / name / "checkpoints" / "last.ckpt"

    def _last(self, name: str) -> dict[str, Any]:
        return torch.load(self._path(name), map_location="cpu", weights_only=True)


def _is_writing(folder: Path) -> bool:
    return any(True for _ in folder.glob(".*.ckpt")) if folder.is_dir() else False


def differences(first: Any, second: Any, name: str = "") -> Iterator[str]:
    """Yield the names of the tensors and values in which two nested values differ, if only in a bit."""
    if isinstance(first, dict) and isinstance(second, dict):
        for key in first.keys() | second.keys():
            yield from differences(first.get(key), second.get(key), f"{name}/{key}")
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple) and len(first) == len(second):
        for index, pair in enumerate(zip(first, second, strict=True)):
            yield from differences(*pair, f"{name}/{index}")
    elif isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        if first.dtype != second.dtype or not torch.equal(first, second):
            yield name
    elif type(first) is not type(second) or first != second:
        yield name


def different_parts(first: dict[str, Any], second: dict[str, Any]) -> list[str]:
    """Return where two checkpoints differ in weights, optimiser, schedule or steps."""
    return [found for part in COMPARED for found in differences(first[part], second[part], part)]
