import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import mean_of_logits
from keypoint_detection.models.heads import HeatmapHead
from keypoint_detection.models.heads_signed import (
    SignedHeatmapHead,
    check_same_occlusion,
    create_occlusion_head,
)
from keypoint_detection.models.inference import (
    InferenceOptions,
    decode_batch,
    decode_instances,
    predict_batch,
    to_predictions,
)
from keypoint_detection.utils.init_weights import init_weights

NAN = float("nan")
SETTINGS = {"required_visibility": 1, "sigma_px": 1.5, "mask_excluded": False}
CHANNELS = [["left"], ["right"]]


class TinyBackbone(Backbone):
    """One strided convolution and one more."""

    def __init__(self, stride: int = 2) -> None:
        super().__init__(3, 8, stride, stride)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, stride, stride=stride), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1)
        )

    def forward_features(self, image: Tensor) -> Tensor:
        return self.layers(image)


def logits_of(maps: Tensor) -> Tensor:
    return 2 * maps.clamp(-1 + 1e-6, 1 - 1e-6).atanh()


def make_batch(keypoints: list, visibility: list) -> dict[str, Tensor]:
    return {
        "image": torch.zeros(len(keypoints), 3, 32, 48, dtype=torch.uint8),
        "keypoints": torch.tensor(keypoints),
        "visibility": torch.tensor(visibility, dtype=torch.uint8),
    }


BATCH = make_batch([[[[10.25, 20.5], [36.5, 9.75]], [[30.0, 8.0], [NAN, NAN]]]], [[[1, 2], [1, 0]]])


@pytest.fixture
def detector() -> KeypointDetector:
    torch.manual_seed(0)
    return KeypointDetector(CHANNELS, "Unet", {"n_channels": 4}, occlusion="signed", max_keypoints=3).eval()


def giving(detector: KeypointDetector, targets: Tensor) -> KeypointDetector:
    """Return the detector with a head that answers the same logits, whatever it is shown."""
    fixed = copy.deepcopy(detector)
    fixed.head.forward = lambda features: logits_of(targets).expand(len(features), -1, -1, -1)
    return fixed


def test_the_maps_start_at_no_keypoint_anywhere() -> None:
    torch.manual_seed(0)
    head = SignedHeatmapHead(TinyBackbone(), 3)
    logits = head(torch.randn(2, 8, 9, 11))
    assert logits.shape == (2, 3, 9, 11)
    assert head.maps(logits).abs().max() < 0.2
    assert head.maps(logits).std() > 1e-3


@pytest.mark.parametrize(
    ("name", "options"),
    [("CPM", {"n_stages": 2}), ("Hourglass", {"n_hourglasses": 2, "n_hg_blocks": 2, "n_channels": 8})],
)
def test_earlier_stages_start_at_no_keypoint_too(name: str, options: dict) -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    for occlusion, is_low in (("signed", False), ("ignore", True)):
        stages = KeypointDetector(CHANNELS, name, options, occlusion=occlusion).eval().forward_stages(image)
        assert len(stages) == 2
        for logits in stages:
            assert (float(logits.detach().mean()) < -3) == is_low
            assert is_low or logits.detach().abs().mean() < 1


@pytest.mark.parametrize(
    ("name", "options", "stage"),
    [
        ("CPM", {"n_stages": 2}, "heads.0"),
        ("Hourglass", {"n_hourglasses": 2, "n_hg_blocks": 2, "n_channels": 8}, "feed_backs.0.head"),
    ],
)
def test_weights_of_no_stage_are_taken_for_another_kind_of_map(
    name: str, options: dict, stage: str, tmp_path: Path
) -> None:
    made = {
        occlusion: KeypointDetector(CHANNELS, name, options, occlusion=occlusion)
        for occlusion in ("ignore", "signed")
    }
    plain = {f"{place}.{part}" for place in (f"backbone.{stage}", "head") for part in ("weight", "bias")}
    signed = {name.replace(".weight", ".signed.weight").replace(".bias", ".signed.bias") for name in plain}
    for occlusion, here, there in (("signed", signed, plain), ("ignore", plain, signed)):
        other = made["ignore" if occlusion == "signed" else "signed"]
        torch.save(other.state_dict(), tmp_path / "x.pt")
        detector = made[occlusion]
        before = {name: tensor.clone() for name, tensor in detector.state_dict().items()}
        match = init_weights(detector, tmp_path / "x.pt")
        assert ({*match.missing}, {*match.unused}, match.mismatched) == (here, there, [])
        assert {*match.loaded} == {*before} - here
        assert all(torch.equal(detector.state_dict()[name], before[name]) for name in here)


def test_the_target_is_negative_where_a_keypoint_is_occluded() -> None:
    head = SignedHeatmapHead(TinyBackbone(), 2)
    target, weight = head.targets(BATCH, torch.zeros(1, 2, 16, 24), **SETTINGS)
    y, x = np.mgrid[:16, :24]
    gaussians = [
        np.exp(-((x - (px + 0.5) / 2 + 0.5) ** 2 + (y - (py + 0.5) / 2 + 0.5) ** 2) / (2 * 1.5**2))
        for px, py in ((10.25, 20.5), (36.5, 9.75), (30.0, 8.0))
    ]
    assert weight is None
    first = np.where(gaussians[0] > gaussians[1], -gaussians[0], gaussians[1])
    np.testing.assert_allclose(target[0], [first, -gaussians[2]], atol=1e-5)
    torch.testing.assert_close(head.probabilities(target), (target + 1) / 2)


def test_leaving_occluded_keypoints_out_is_refused() -> None:
    head = SignedHeatmapHead(TinyBackbone(), 2)
    with pytest.raises(
        ValueError, match=r"^--occlusion signed expects occluded keypoints in training, got --d"
    ):
        head.targets(BATCH, torch.zeros(1, 2, 16, 24), **{**SETTINGS, "required_visibility": 2})


def test_points_and_signs_come_back_from_the_target() -> None:
    head = SignedHeatmapHead(TinyBackbone(), 2)
    target, _ = head.targets(BATCH, torch.zeros(1, 2, 16, 24), **SETTINGS)
    decode = {"input_hw": (32, 48), "max_keypoints": 3, "min_distance_px": 1, "threshold": 0.01}
    points, signed = head.decode_signed(logits_of(target).requires_grad_(), **decode)
    same, scores = head.decode(logits_of(target), **decode)
    assert not points.requires_grad
    assert torch.equal(same.nan_to_num(), points.nan_to_num())
    assert torch.equal(scores, signed.abs())
    order = points[0, 0, :2, 0].argsort()
    assert np.allclose(points[0, 0, order], BATCH["keypoints"][0, 0], atol=0.04)
    assert signed[0, 0, order].sign().tolist() == [-1, 1]
    assert points[0, 1, 0].tolist() == pytest.approx([30.0, 8.0], abs=0.04)
    assert signed[0, 1].sign().tolist() == [-1, 0, 0]


@pytest.mark.parametrize("loss", ["BCE", "MSE", "SmoothL1"])
def test_every_parameter_and_the_features_get_a_gradient(loss: str) -> None:
    backbone = TinyBackbone()
    head = SignedHeatmapHead(backbone, 2)
    features = backbone(torch.randn(1, 3, 32, 48)).detach().requires_grad_()
    output = head(features)
    target, weight = head.targets(BATCH, output, **SETTINGS)
    head.losses[loss](output, target, weight).sum().backward()
    for values in (features, *head.parameters()):
        assert values.grad is not None
        assert values.grad.isfinite().all()
        assert values.grad.abs().max() > 0


def test_what_is_exported_equals_eager() -> None:
    backbone = TinyBackbone()
    model = nn.Sequential(backbone, SignedHeatmapHead(backbone, 3)).eval()
    image = torch.randn(1, 3, 28, 36)
    torch.testing.assert_close(torch.export.export(model, (image,)).module()(image), model(image))


def test_the_mean_of_two_maps_is_the_mean_of_their_logits_as_the_flip_test_takes_it() -> None:
    head = SignedHeatmapHead(TinyBackbone(), 1)
    one, other = torch.randn(1, 1, 5, 6) * 4, torch.randn(1, 1, 5, 6) * 4
    torch.testing.assert_close(head.maps(mean_of_logits(one, other)), (head.maps(one) + head.maps(other)) / 2)


def test_weights_of_either_kind_of_map_do_not_pass_for_the_other() -> None:
    backbone = TinyBackbone()
    signed, plain = SignedHeatmapHead(backbone, 2), HeatmapHead(backbone, 2)
    assert set(signed.state_dict()) == {"signed.weight", "signed.bias"}
    assert not set(signed.state_dict()) & set(plain.state_dict())


def test_other_heads_and_words_are_refused_in_one_line() -> None:
    backbone = TinyBackbone()
    assert isinstance(create_occlusion_head("heatmap", "ignore", backbone, 1), HeatmapHead)
    assert isinstance(create_occlusion_head("heatmap", "signed", backbone, 1), SignedHeatmapHead)
    with pytest.raises(
        ValueError, match=r"^--occlusion: expected ignore, or signed with .*, got signed with -"
    ):
        create_occlusion_head("regression", "signed", backbone, 1)
    with pytest.raises(
        ValueError, match=r"^--occlusion: expected ignore, or .*, got sign with --head heatmap"
    ):
        create_occlusion_head("heatmap", "sign", backbone, 1)
    with pytest.raises(
        ValueError, match="unknown loss of --occlusion signed 'KL'; known: BCE, MSE, SmoothL1"
    ):
        KeypointDetector(CHANNELS, "Unet", {"n_channels": 4}, occlusion="signed", loss_function="KL")


def test_a_run_goes_on_with_maps_of_the_same_meaning() -> None:
    check_same_occlusion({"hyper_parameters": {"occlusion": "signed"}}, "signed")
    check_same_occlusion({"hyper_parameters": {}}, "ignore")  # of a version that had no other
    with pytest.raises(
        ValueError, match="expected a run with --occlusion signed, got one with --occlusion ig"
    ):
        check_same_occlusion({"hyper_parameters": {}}, "signed")


def test_definitions_name_the_sign() -> None:
    head = SignedHeatmapHead(TinyBackbone(), 1)
    assert head.contract() == {"head": "heatmap", "refinement": "Gaussian fit", "occlusion": "signed"}
    assert head.is_signed
    assert not HeatmapHead(TinyBackbone(), 1).is_signed


def test_predictions_carry_the_flag_and_a_score_without_sign(detector: KeypointDetector) -> None:
    sample = prepare_image(np.zeros((32, 48, 3), np.uint8), None)
    batch = collate_unlabeled([sample])
    stride = detector.backbone.stride
    output = torch.zeros(1, 2, 32 // stride, 48 // stride)
    target, _ = detector.head.targets(BATCH, output, **SETTINGS)
    fixed = giving(detector, target)
    prediction = predict_batch(fixed, batch)[0]
    left, right = prediction["left"], prediction["right"]
    assert {(round(p.x), round(p.y)): p.visibility for p in left} == {(10, 20): 1, (36, 10): 2}
    assert [(p.visibility, p.score > 0.5) for p in right] == [(1, True)]
    plain = to_predictions(fixed, *decode_batch(fixed, logits_of(target), batch), batch)[0]
    assert {p.visibility for p in plain["left"]} == {2}
    best, signed = decode_instances(fixed, logits_of(target), batch, signed=True)
    assert best.shape == (1, 2, 2)
    assert signed[0, 1] < -0.5
    assert torch.equal(decode_instances(fixed, logits_of(target), batch)[1], signed.abs())


def test_an_instance_without_any_peak_is_at_the_centre_and_not_occluded(detector: KeypointDetector) -> None:
    batch = collate_unlabeled([prepare_image(np.zeros((32, 48, 3), np.uint8), None)])
    points, signed = decode_instances(detector, torch.zeros(1, 2, 32, 48), batch, signed=True)
    assert points[0].tolist() == [[23.5, 15.5], [23.5, 15.5]]
    assert signed.tolist() == [[0.0, 0.0]]


def test_flip_test_and_tiles_keep_the_signs(detector: KeypointDetector) -> None:
    image = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    batch = collate_unlabeled([prepare_image(image, None)])
    seen = {}
    for name, options in {
        "whole": InferenceOptions(),
        "tiles": InferenceOptions(tile_px=64, overlap_px=32),
        "flipped": InferenceOptions(mirrored=[1, 0]),
    }.items():
        points = [
            point for channel in predict_batch(detector, batch, options)[0].keypoints for point in channel
        ]
        seen[name] = {point.visibility for point in points}
        assert all(0 < point.score < 1 for point in points)
    assert seen["whole"] == seen["tiles"] == {1, 2}  # random maps about 0 have peaks of both signs
    mirrored = collate_unlabeled([prepare_image(np.ascontiguousarray(image[:, ::-1]), None)])
    options = InferenceOptions(mirrored=[1, 0])
    here, there = predict_batch(detector, batch, options)[0], predict_batch(detector, mirrored, options)[0]
    one = sorted((95 - p.x, p.y, p.visibility) for p in here["left"])
    other = sorted((p.x, p.y, p.visibility) for p in there["right"])
    assert np.allclose(one, other, atol=0.01)
