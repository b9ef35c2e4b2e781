from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pytorch_lightning.loggers import WandbLogger

from keypoint_detection.callbacks_images import ImageLogger, _grid, _maps, _prediction
from keypoint_detection.records import Keypoint


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


def test_occluded_keypoints_of_signed_heatmaps_are_drawn_as_bright_as_visible_ones() -> None:
    import torch

    from keypoint_detection.models.detector import KeypointDetector

    detector = KeypointDetector([["a"]], "Unet", {"n_channels": 4}, occlusion="signed")
    batch = {
        "keypoints": torch.tensor([[[[4.0, 3.0], [11.0, 8.0]]]]),
        "visibility": torch.tensor([[[1, 2]]], dtype=torch.uint8),
    }
    logits = torch.zeros(1, 1, 12, 16)
    logits[0, 0, 3, 4], logits[0, 0, 8, 11] = -2.0, 2.0
    predicted, targets = _maps(detector, batch, logits.requires_grad_())
    expected = np.zeros((1, 1, 12, 16))
    expected[0, 0, [3, 8], [4, 11]] = np.tanh(1.0)
    np.testing.assert_allclose(predicted, expected, atol=1e-6)
    assert targets.min() >= 0
    assert targets[0, 0, [3, 8], [4, 11]] == pytest.approx([1.0, 1.0])


def test_points_that_are_told_to_be_occluded_are_drawn_as_such() -> None:
    import torch

    from keypoint_detection.models.detector import KeypointDetector

    detector = KeypointDetector([["a"]], "Unet", {"n_channels": 4}, occlusion="signed")
    logits = torch.zeros(1, 1, 32, 32)
    batch = {
        "image": torch.full((1, 3, 32, 32), 90, dtype=torch.uint8),
        "keypoints": torch.tensor([[[[16.0, 16.0]]]]),
        "visibility": torch.tensor([[[1]]], dtype=torch.uint8),
        "to_image": torch.eye(3, dtype=torch.float64)[None, :2],
        "input_hw": torch.tensor([[32, 32]]),
    }
    tops = []
    for sign in (1.0, -1.0):
        logits[0, 0, 16, 16] = 4.0 * sign
        detector.forward = lambda _: logits  # pyright: ignore
        grid = ImageLogger(every_n_epochs=1).grids(detector, batch)["all_channels"]
        tops.append(grid[: grid.shape[0] // 3])
    assert not np.array_equal(*tops)  # a dashed ring, and one with a dot in it
    record = _prediction(np.array([[[4.0, 5.0]]]), np.array([[-0.7]]), ("a",), np.zeros((8, 8, 3), np.uint8))
    assert record.keypoints == ((Keypoint(4.0, 5.0, 0.7, visibility=1),),)


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


def due_epochs(callback: ImageLogger, epochs: list[int], **trainer_state: object) -> list[int]:
    """Return the epochs whose validation sends pictures."""
    sent: list[int] = []
    logger = WandbLogger(experiment=SimpleNamespace())  # pyright: ignore[reportArgumentType]
    logger.log_image = lambda *picture, **named: sent.append(named["step"])  # pyright: ignore
    callback.grids = lambda *_: {"a": np.zeros((4, 4, 3), np.uint8)}  # pyright: ignore
    state = {"sanity_checking": False, "state": SimpleNamespace(fn="fit"), "is_global_zero": True}
    for epoch in epochs:
        trainer: Any = SimpleNamespace(**{**state, **trainer_state}, loggers=[logger], global_step=epoch)
        for batch_idx in (0, 1):
            callback.on_validation_batch_end(
                trainer, SimpleNamespace(current_epoch=epoch), None, None, batch_idx
            )
    return sent


def test_pictures_come_in_time_wherever_the_validations_are() -> None:
    assert due_epochs(ImageLogger(4), [9, 12, 14, 19, 24]) == [9, 14, 19, 24]
    assert due_epochs(ImageLogger(5), list(range(12))) == [0, 5, 10]


def test_a_resumed_run_remembers_its_last_pictures() -> None:
    first, second = ImageLogger(5), ImageLogger(5)
    assert due_epochs(first, [0, 1, 2]) == [0]
    second.load_state_dict(first.state_dict())
    assert due_epochs(second, [3, 4, 5]) == [5]


@pytest.mark.parametrize(
    "state",
    [{"sanity_checking": True}, {"state": SimpleNamespace(fn="validate")}, {"is_global_zero": False}],
)
def test_only_the_first_process_of_a_training_sends_pictures(state: dict) -> None:
    assert due_epochs(ImageLogger(1), [0, 1], **state) == []
