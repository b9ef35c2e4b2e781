from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from keypoint_detection.callbacks_resume import LastCheckpoint


def wishes(
    callback: LastCheckpoint, steps: list[int], times: list[float], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return the steps before which a callback wants to save, when steps are made at these times."""
    saved = []
    for step, now in zip(steps, times, strict=True):
        monkeypatch.setattr("keypoint_detection.callbacks_resume.time.monotonic", lambda now=now: now)
        trainer: Any = SimpleNamespace(global_step=step, world_size=1)
        if callback._is_agreed(trainer):
            saved.append(step)
            callback._tried_step, callback._tried_at = step, now
    return saved


def test_every_so_many_steps_since_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = LastCheckpoint(Path("last.ckpt"), every_steps=3)
    assert wishes(callback, list(range(10)), [0.0] * 10, monkeypatch) == [3, 6, 9]


def test_every_so_many_seconds_but_not_without_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = LastCheckpoint(Path("last.ckpt"), every_s=10.0)
    assert wishes(callback, [0, 1, 2, 3, 4], [11.0, 12.0, 13.0, 21.0, 22.0], monkeypatch) == [1, 4]


def test_at_once_when_a_signal_came(monkeypatch: pytest.MonkeyPatch) -> None:
    callback = LastCheckpoint(Path("last.ckpt"), every_s=10.0)
    callback.stop.number = 15
    assert wishes(callback, [1], [0.0], monkeypatch) == [1]


def test_processes_ask_each_other_every_tenth_step() -> None:
    asked = []

    def decide(wish: bool, all: bool) -> bool:
        asked.append(trainer.fit_loop.epoch_loop.batch_progress.current.completed)
        return True

    callback, saved = LastCheckpoint(Path("last.ckpt")), []
    progress = SimpleNamespace(current=SimpleNamespace(completed=0))
    trainer: Any = SimpleNamespace(world_size=2, global_step=5, accumulate_grad_batches=1)
    trainer.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=progress))
    trainer.strategy = SimpleNamespace(reduce_boolean_decision=decide)
    for done in range(1, 25):
        progress.current.completed = done
        saved += [done] if callback._is_agreed(trainer) else []
    assert saved == asked == [10, 20]
