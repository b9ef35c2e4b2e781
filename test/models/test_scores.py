import math

import pytest
import torch

from keypoint_detection.models.scores import DetectionScores

IDENTITY = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
DOUBLE = torch.tensor([[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]])


def batch_of(keypoints: torch.Tensor, visibility: torch.Tensor, to_image: torch.Tensor = IDENTITY) -> dict:
    return {
        "keypoints": keypoints,
        "visibility": visibility,
        "to_image": to_image.repeat(len(keypoints), 1, 1),
    }


def test_distances_are_measured_in_original_pixels() -> None:
    scores = DetectionScores(["a"], [2.0])
    batch = batch_of(torch.tensor([[[[10.0, 10.0]]]]), torch.tensor([[[2]]]), DOUBLE)
    scores.update(torch.tensor([[[[20.5, 23.5]]]]), torch.tensor([[[0.9]]]), batch, 1)  # pyright: ignore
    values = scores.compute()
    assert values["mean_error_px"] == pytest.approx(3.0)
    assert values["rmse_px"] == pytest.approx(3.0)
    assert values["ap@2px"] == 0.0
    assert values["a/ap@2px"] == 0.0


def test_occluded_points_count_only_when_asked_for() -> None:
    for required, expected in ((1, 2.0), (2, 1.0)):
        scores = DetectionScores(["a"], [2.0])
        batch = batch_of(torch.tensor([[[[5.0, 5.0], [40.0, 40.0]]]]), torch.tensor([[[2, 1]]]))
        nothing = torch.full((1, 1, 1, 2), math.nan)
        scores.update(nothing, torch.zeros(1, 1, 1), batch, required)  # pyright: ignore
        assert scores.compute()["missed"] == expected


def test_names_follow_the_kind_of_threshold() -> None:
    assert DetectionScores(["a"], [2.0, 4.5]).ap_name(4.5) == "ap@4.5px"
    assert DetectionScores(["a"], [0.5, 0.75]).ap_name(0.75) == "ap@oks0.75"


def test_reset_forgets() -> None:
    scores = DetectionScores(["a"], [2.0])
    batch = batch_of(torch.tensor([[[[10.0, 10.0]]]]), torch.tensor([[[2]]]))
    scores.update(torch.tensor([[[[10.0, 10.0]]]]), torch.tensor([[[0.9]]]), batch, 1)  # pyright: ignore
    assert scores.compute()["map"] == 1.0
    scores.reset()
    nothing = batch_of(torch.full((1, 1, 1, 2), math.nan), torch.tensor([[[0]]]))
    scores.update(torch.full((1, 1, 1, 2), math.nan), torch.zeros(1, 1, 1), nothing, 1)  # pyright: ignore
    assert math.isnan(scores.compute()["map"])
