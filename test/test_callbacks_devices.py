import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from keypoint_detection import callbacks_devices
from keypoint_detection.callbacks_devices import EndTogether


def fail(world_size: int, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Return the times of grace that begin when a process of so many fails."""
    begun: list[tuple] = []

    def timer(seconds: float, function: Any, arguments: tuple) -> Any:
        begun.append((seconds, arguments))
        return SimpleNamespace(start=lambda: None)

    monkeypatch.setattr(callbacks_devices.threading, "Timer", timer)
    trainer: Any = SimpleNamespace(world_size=world_size, global_rank=1)
    error = ValueError("cannot read")
    EndTogether(7.0).on_exception(trainer, None, error)  # pyright: ignore[reportArgumentType]
    return [(seconds, rank, str(exception)) for seconds, (rank, exception) in begun]


def test_a_process_of_several_has_a_time_of_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fail(2, monkeypatch) == [(7.0, 1, "cannot read")]


def test_a_process_alone_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fail(1, monkeypatch) == []


def test_the_time_of_grace_ends_a_process_that_hangs() -> None:
    code = """
import time
from types import SimpleNamespace
from keypoint_detection.callbacks_devices import EndTogether
trainer = SimpleNamespace(world_size=2, global_rank=1)
EndTogether(0.2).on_exception(trainer, None, ValueError("cannot\\nread"))
time.sleep(60)
"""
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50, env=os.environ
    )
    assert ended.returncode == 1
    assert "[rank: 1] error: cannot read" in ended.stderr
