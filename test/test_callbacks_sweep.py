import os
import signal
from typing import Any, cast

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.callbacks_signals import StopRequest
from keypoint_detection.callbacks_sweep import TrialReport


class FakeStrategy:
    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        assert not all, "one process decides for all"
        return decision


class FakeTrainer:
    """What the callback asks of a Trainer."""

    def __init__(self, metric: float | None, fn: TrainerFn = TrainerFn.FITTING) -> None:
        self.sanity_checking, self.is_global_zero, self.should_stop = False, True, False
        self.strategy = FakeStrategy()
        self.state, self.current_epoch = type("State", (), {"fn": fn}), 3
        self.callback_metrics = {} if metric is None else {"checkpoint/validation_map": torch.tensor(metric)}


def validate(callback: TrialReport, trainer: FakeTrainer, module: Any = None) -> bool:
    callback.on_validation_end(cast(Any, trainer), module)
    return trainer.should_stop


def test_each_validation_is_reported_once_and_the_answer_stops_the_training() -> None:
    reports: list[tuple[int, float]] = []

    def report(step: int, value: float) -> bool:
        reports.append((step, value))
        return value < 0.3

    callback = TrialReport("checkpoint/validation_map", report)
    assert not validate(callback, FakeTrainer(0.5))
    assert not validate(callback, FakeTrainer(0.1, TrainerFn.VALIDATING)), "the closing validation is none"
    assert not validate(callback, FakeTrainer(float("nan")))
    resumed = TrialReport("checkpoint/validation_map", report)
    resumed.load_state_dict(callback.state_dict())
    assert validate(resumed, FakeTrainer(0.25))
    assert reports == [(1, 0.5), (3, 0.25)]


def test_a_metric_that_nothing_logs_is_named_with_the_nearest_one() -> None:
    callback = TrialReport("checkpoint/validation_mp", lambda step, value: False)
    with pytest.raises(ValueError, match="Did you mean 'checkpoint/validation_map'"):
        validate(callback, FakeTrainer(0.5))


def test_a_score_is_waited_for_until_a_validation_has_scores() -> None:
    reports: list[tuple[int, float]] = []
    callback = TrialReport("checkpoint/validation_map", lambda *report: bool(reports.append(report)))
    without_scores, with_scores = (type("Module", (), {"latest_score_epoch": epoch}) for epoch in (None, 3))
    assert not validate(callback, FakeTrainer(None), without_scores)
    assert not validate(callback, FakeTrainer(0.5), with_scores)
    assert reports == [(1, 0.5)]
    with pytest.raises(ValueError, match="no validation logs 'checkpoint/validation_map'"):
        validate(callback, FakeTrainer(None), with_scores)


@pytest.mark.parametrize(("parent", "ends"), [(os.getppid(), False), (None, False), (-1, True)])
def test_a_training_ends_when_its_sweep_is_gone(parent: int | None, ends: bool) -> None:
    callback = TrialReport("map", lambda step, value: False, parent)
    stop = StopRequest()
    stop.listen()
    try:
        callback.on_train_batch_end(cast(Any, FakeTrainer(0.5)), cast(Any, None), None, None, 0)
    finally:
        stop.give_back()
    assert stop.number == (signal.SIGTERM if ends else None), "it saves a checkpoint, then stops"
