from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keypoint_detection.callbacks import ImageLogger, RelativeEarlyStopping


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


@pytest.mark.parametrize("stride", [1, 4])
def test_pictures_show_predictions_above_targets(stride: int) -> None:
    import torch

    from keypoint_detection.models.detector import KeypointDetector

    detector = KeypointDetector([["a"], ["b"]], "Unet", {"n_channels": 8, "output_stride": stride})
    keypoints = torch.full((2, 2, 1, 2), 20.0)
    batch = {
        "image": torch.zeros(2, 3, 40, 48, dtype=torch.uint8),
        "keypoints": keypoints,
        "visibility": torch.full((2, 2, 1), 2, dtype=torch.uint8),
        "to_image": torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]).repeat(2, 1, 1),
        "image_hw": torch.tensor([[360, 432]] * 2),
        "input_hw": torch.tensor([[40, 48]] * 2),
    }
    with torch.no_grad():
        grids = ImageLogger(1).grids(detector, batch)
    assert set(grids) == {"a", "b"}
    assert grids["a"].shape == (80, 96, 3)
    assert grids["a"].dtype == np.uint8
    below = grids["a"][40:, :48].astype(int).sum(-1)
    assert np.unravel_index(below.argmax(), below.shape) == pytest.approx((20, 20), abs=1)
