from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keypoint_detection.callbacks import ImageLogger, RelativeEarlyStopping, _grid, _prediction


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
def test_pictures_show_predicted_points_and_heatmaps_above_targets(stride: int) -> None:
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
    assert set(grids) == {"all_channels", "a", "b"}
    grid = grids["a"]
    assert grid.dtype == np.uint8
    assert grid.shape[1] == 2 * 48 * 5 + 2  # two images, enlarged
    strip = (grid.shape[0] - 3 * 200 - 4) // 3
    assert 10 < strip < 30
    assert grid.shape[0] == 3 * (strip + 200) + 4
    below = grid[-200:, :240].astype(int).sum(-1)
    assert np.unravel_index(below.argmax(), below.shape) == pytest.approx((102, 102), abs=2.5 * stride)
    assert grids["all_channels"].shape == grid.shape


def test_the_grids_show_the_predicted_points_and_only_the_first_channels_alone() -> None:
    detector: Any = SimpleNamespace(channel_names=["a", "b"], channel_skeleton=[(0, 1)])
    images = np.full((2, 128, 128, 3), 90, np.uint8)
    points = np.array([[[40.0, 50.0]], [[90.0, 100.0]]])
    record = _prediction(points, np.array([[0.9], [0.8]]), tuple(detector.channel_names), images[0])
    maps = np.zeros((2, 2, 32, 32), np.float32)
    with_line = _grid(images, [record, record], maps, maps, detector.channel_skeleton)
    without = _grid(images, [record, record], maps, maps)
    rows, columns = np.nonzero((with_line != without).any(-1))
    top = with_line.shape[0] // 3
    assert rows.max() < top  # the heatmaps below have no lines
    assert 75 < columns.min() < 90
    assert columns.max() > 256  # in both images
