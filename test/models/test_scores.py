import math

import pytest
import torch

from keypoint_detection.models.scores import NUM_NEW, DetectionScores

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


def test_pck_divides_by_the_length_of_each_keypoint() -> None:
    scores = DetectionScores(["a"], [2.0], alphas=[0.1])
    points = torch.tensor([[[[10.0, 10.0], [40.0, 40.0]]]])
    batch = batch_of(points, torch.tensor([[[2, 2]]])) | {"keypoint_length": torch.tensor([[[50.0, 30.0]]])}
    scores.update(points + torch.tensor([4.0, 0.0]), torch.tensor([[[0.9, 0.8]]]), batch, 1)  # pyright: ignore
    values = scores.compute()
    assert values["pck@0.1"] == 0.5  # 4 px are below 5 px, not below 3 px
    assert values["nme"] == pytest.approx((4 / 50 + 4 / 30) / 2)
    without = DetectionScores(["a"], [2.0], alphas=[0.1])
    without.update(points, torch.tensor([[[0.9, 0.8]]]), batch_of(points, torch.tensor([[[2, 2]]])), 1)  # pyright: ignore
    assert math.isnan(without.compute()["pck@0.1"])


def test_detections_on_excluded_points_and_in_crowds_are_not_false() -> None:
    points = torch.tensor([[[[5.0, 5.0], [40.0, 40.0], [80.0, 80.0]]]])
    confidence = torch.tensor([[[0.7, 0.8, 0.9]]])
    labels = batch_of(points[:, :, :2], torch.tensor([[[2, 1]]]))
    crowd = {"crowd_box": [torch.tensor([[75.0, 75.0, 10.0, 10.0]])]}
    for batch, required, expected in ((labels, 1, 0.6667), (labels, 2, 0.5), (labels | crowd, 2, 1.0)):
        scores = DetectionScores(["a"], [2.0])
        scores.update(points, confidence, batch, required)  # pyright: ignore
        assert scores.compute()["map"] == pytest.approx(expected, abs=1e-4)


def test_statistics_give_the_numbers_of_compute() -> None:
    scores = DetectionScores(["a", "b"], [2.0, 4.0], "101", [0.1])
    points = torch.rand(5, 2, 3, 2, generator=torch.Generator().manual_seed(1)) * 50
    noise = torch.randn(points.shape, generator=torch.Generator().manual_seed(2)) * 2
    batch = batch_of(points, torch.full((5, 2, 3), 2)) | {"keypoint_length": torch.full((5, 2, 3), 20.0)}
    scores.update(points + noise, torch.rand(5, 2, 3), batch, 1)  # pyright: ignore
    expected = scores.compute()
    found = {}
    for statistic in scores.statistics():
        found |= dict(zip(statistic.columns, statistic.value().tolist(), strict=True))
    assert found == pytest.approx(expected)
    assert list(found) == list(expected)
    assert DetectionScores.options({"pck_alpha": [0.3], "ap_interpolation": "101", "oks_sigmas": None}) == {
        "alphas": [0.3],
        "interpolation": "101",
    }


def test_samples_that_another_process_has_scored_are_left_out() -> None:
    points = torch.tensor([[[[10.0, 10.0]]], [[[40.0, 40.0]]]])
    batch = batch_of(points, torch.full((2, 1, 1), 2)) | {"crowd_box": [torch.zeros(0, 4)] * 2}
    found, confidence = points + torch.tensor([[3.0, 0.0]]), torch.ones(2, 1, 1)
    found[1] = math.nan
    for num_new, missed in ((2, 1.0), (1, 0.0), (0, 0.0)):
        scores = DetectionScores(["a"], [4.0])
        scores.update(found, confidence, batch | {NUM_NEW: num_new}, 1)  # pyright: ignore
        values = scores.compute()
        assert values["missed"] == missed
        assert math.isnan(values["mean_error_px"]) == (num_new == 0)


def test_crops_of_one_image_are_one_image() -> None:
    points = torch.zeros(3, 1, 1, 2)
    batch = batch_of(points, torch.full((3, 1, 1), 2)) | {"image_id": torch.tensor([5, 8, 5])}
    found = torch.tensor([3.0, 5.0, 4.0])[:, None, None, None] * torch.tensor([1.0, 0.0])
    scores = DetectionScores(["a"], [4.0])
    scores.update(found, torch.ones(3, 1, 1), batch, 1)  # pyright: ignore
    assert scores.compute()["image_rmse_px"] == pytest.approx((math.sqrt(12.5) + 5) / 2)


@pytest.mark.parametrize(
    ("thresholds", "alphas"), [([2.0, 2.0], [0.1]), ([2.0], [0.1, 0.1]), ([2.0], [0.1, 0.10000001])]
)
def test_two_numbers_have_two_names(thresholds: list[float], alphas: list[float]) -> None:
    with pytest.raises(ValueError, match="differ in their first six digits"):
        DetectionScores(["a"], thresholds, alphas=alphas)
