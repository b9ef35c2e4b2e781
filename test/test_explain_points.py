"""The numbers that stand for a keypoint."""

import numpy as np
import pytest
import torch

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.explain_points import best_points, keypoint_scalars, run_network
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import predict_batch


def small_detector(**options) -> KeypointDetector:
    torch.manual_seed(0)
    return KeypointDetector([["a"], ["b"]], "Unet", {"n_channels": 4}, **options).eval()


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("head", ["heatmap", "regression"])
def test_float_pixels_give_what_forward_gives(head: str) -> None:
    detector = small_detector(head=head)
    image = torch.from_numpy(noise(37, 50)).permute(2, 0, 1)[None]
    assert torch.equal(run_network(detector, image.float()), detector(image))


@pytest.mark.parametrize(
    ("head", "image_size"), [("heatmap", None), ("heatmap", [64, 40]), ("regression", None)]
)
def test_the_best_point_is_the_first_that_is_predicted(head: str, image_size: list[int] | None) -> None:
    detector = small_detector(head=head, image_size=image_size)
    size = (image_size[0], image_size[1]) if image_size else None
    batch = collate_unlabeled([prepare_image(noise(37, 50), size)])
    points, scores = best_points(detector, detector(batch["image"]), dict(batch))
    to_image = batch["to_image"][0].numpy()
    for channel, found in enumerate(predict_batch(detector, batch)[0].keypoints):
        x, y = to_image[:, :2] @ points[channel].numpy() + to_image[:, 2]
        assert (x, y) == pytest.approx((found[0].x, found[0].y), abs=1e-3)
        assert float(scores[channel]) == pytest.approx(found[0].score, abs=1e-6)


def test_a_map_without_a_peak_gives_the_centre_with_score_0() -> None:
    detector = small_detector()
    batch = collate_unlabeled([prepare_image(noise(20, 30), None)])
    points, scores = best_points(detector, torch.full((1, 2, 20, 30), -200.0), dict(batch))
    assert points.tolist() == [[14.5, 9.5]] * 2
    assert scores.tolist() == [0.0, 0.0]


def test_the_logit_is_bilinear_at_the_point() -> None:
    detector = small_detector()
    output = torch.arange(24.0).view(1, 1, 4, 6).repeat(1, 2, 1, 1)  # 6 y + x
    values = {(2.0, 1.0): 8.0, (2.5, 1.25): 10.0, (0.0, 3.0): 18.0, (5.3, 3.2): 23.0, (-0.4, 0.0): 0.0}
    for (x, y), expected in values.items():
        (scalar,) = keypoint_scalars(detector, output, 1, torch.tensor([x, y]), (4, 6))
        assert float(scalar) == pytest.approx(expected, abs=1e-5)


def test_an_occluded_point_of_signed_heatmaps_has_a_magnitude_that_is_explained() -> None:
    detector = small_detector(occlusion="signed")
    output = (torch.arange(24.0).view(1, 1, 4, 6) - 12.0).repeat(1, 2, 1, 1).requires_grad_()  # 6 y + x - 12
    for (x, y), expected, slope in (((2.0, 1.0), 4.0, -1.0), ((2.0, 3.0), 8.0, 1.0)):
        (scalar,) = keypoint_scalars(detector, output, 1, torch.tensor([x, y]), (4, 6))
        assert float(scalar.detach()) == pytest.approx(expected, abs=1e-5)
        (gradient,) = torch.autograd.grad(scalar, output)
        assert float(gradient[0, 1, int(y), int(x)]) == pytest.approx(slope, abs=1e-5)
        assert float(gradient.abs().sum()) == pytest.approx(1.0, abs=1e-4)


def test_regression_gives_x_then_y_in_pixels() -> None:
    output = torch.tensor([[[0.5, 0.25], [0.1, 0.9]]])
    scalars = keypoint_scalars(small_detector(head="regression"), output, 1, torch.zeros(2), (40, 60))
    assert [float(scalar) for scalar in scalars] == pytest.approx([6.0, 36.0])
