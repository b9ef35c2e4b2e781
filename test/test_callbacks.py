from types import SimpleNamespace
from typing import Any

from keypoint_detection.callbacks import RelativeEarlyStopping


def run(callback: RelativeEarlyStopping, losses: list[float]) -> int:
    """Return after how many validations the callback stops, 0 for never."""
    trainer: Any = SimpleNamespace(sanity_checking=False, should_stop=False, state=SimpleNamespace(fn="fit"))
    for count, loss in enumerate(losses, start=1):
        trainer.callback_metrics = {"validation/loss": loss}
        callback.on_validation_end(trainer, None)  # pyright: ignore[reportArgumentType]
        if trainer.should_stop:
            return count
    return 0


def test_stops_after_validations_without_a_relative_gain() -> None:
    assert run(RelativeEarlyStopping(0.1, patience=3), [1.0, 0.95, 0.94, 0.93, 0.1]) == 4


def test_goes_on_while_the_loss_falls_enough() -> None:
    assert run(RelativeEarlyStopping(0.1, patience=2), [1.0, 0.8, 0.7, 0.6, 0.5]) == 0


def test_a_resumed_run_remembers_what_it_waited() -> None:
    first = RelativeEarlyStopping(0.1, patience=3)
    run(first, [1.0, 1.0, 1.0])
    second = RelativeEarlyStopping(0.1, patience=3)
    second.load_state_dict(first.state_dict())
    assert run(second, [1.0]) == 1
