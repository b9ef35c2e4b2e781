"""Explanations of whole images: what each method gives, and where a trained detector looks."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from reference.small_vits import make_vits_small, random_image, vit_detector

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.data.unlabeled_dataset import collate_unlabeled, prepare_image
from keypoint_detection.explain import (
    ExplainOptions,
    chosen_methods,
    explain_image,
    frame_of,
    near_radius_px,
    read_samples,
)
from keypoint_detection.explain_maps import frame_mask
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train
from keypoint_detection.utils.load_checkpoints import load_model


def unet(**options) -> KeypointDetector:
    torch.manual_seed(0)
    return KeypointDetector([["a"], ["b"]], "Unet", {"n_channels": 4}, **options)


def sample(height: int, width: int, image_size: tuple[int, int] | None = None):
    image = random_image(height, width)[0].permute(1, 2, 0).numpy()
    return collate_unlabeled([prepare_image(image, image_size)])


def test_auto_depends_on_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    make_vits_small(monkeypatch)
    assert chosen_methods(unet(), "auto") == ["saliency"]
    assert chosen_methods(vit_detector(), "auto") == ["gradient_rollout", "saliency"]
    assert chosen_methods(vit_detector(), "rollout") == ["rollout"]


@pytest.mark.parametrize("method", ["rollout", "gradient_rollout"])
def test_rollout_needs_attention(method: str) -> None:
    with pytest.raises(ValueError, match=f"--method {method} expects.*got Unet; use --method saliency"):
        explain_image(unet(), sample(32, 32), ExplainOptions(method))  # pyright: ignore


@pytest.mark.parametrize("head", ["heatmap", "regression"])
@pytest.mark.parametrize(("image_hw", "image_size"), [((45, 67), None), ((45, 97), (64, 80))])
def test_maps_lie_on_the_image_and_sum_to_one(
    monkeypatch: pytest.MonkeyPatch, head: str, image_hw: tuple[int, int], image_size: tuple[int, int] | None
) -> None:
    make_vits_small(monkeypatch)
    detector = vit_detector(head=head, image_size=image_size).train()
    batch = sample(*image_hw, image_size)
    found = explain_image(detector, batch, ExplainOptions(discard_ratios=(0.0, 0.5)))
    assert detector.training
    assert [shown.channel for shown in found] == ["point0", "point1"]
    mask = frame_mask(image_size or image_hw, *frame_of(batch))
    for shown in found:
        assert list(shown.maps) == ["gradient_rollout", "gradient_rollout_0.5", "saliency"]
        for values in shown.maps.values():
            assert values.shape == (image_size or image_hw)
            assert values.min() >= 0
            assert values.sum() == pytest.approx(1.0)
            assert (values[~mask] == 0).all()
        assert {*shown.shares} == {*shown.maps}


def test_shares_by_hand() -> None:
    detector = unet(heatmap_sigma=1.0)
    (shown, _) = explain_image(detector, sample(40, 50), ExplainOptions())
    values = shown.maps["saliency"]
    near = np.array([[np.hypot(x - shown.xy[0], y - shown.xy[1]) <= 3 for x in range(50)] for y in range(40)])
    assert shown.shares["saliency"] == pytest.approx(values[near].sum())
    assert shown.area_share == pytest.approx(near.sum() / 2000)
    assert shown.radius_px == pytest.approx(3.0)


def test_the_radius_is_in_pixels_of_the_image() -> None:
    assert near_radius_px(unet()) == 6.0
    assert near_radius_px(unet(variable_heatmap_sigma=1.5)) == 4.5
    assert near_radius_px(unet(head="regression")) == 24.0
    found = explain_image(unet(image_size=(32, 32)), sample(64, 48, (32, 32)), ExplainOptions())
    assert found[0].radius_px == pytest.approx(12.0)  # one pixel of the frame is two of the image


def test_unreadable_images_are_named(tmp_path: Path) -> None:
    for index in range(4):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((20, 20, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"nothing")
    batches, unreadable = read_samples(unet(), [tmp_path], 3)
    assert [Path(batch["path"][0]).name for batch in batches] == ["0.png", "2.png"]
    assert len(unreadable) == 1
    assert "1.png" in unreadable[0]


@pytest.mark.slow
def test_saliency_of_a_trained_detector_points_at_the_keypoint(tmp_path: Path) -> None:
    channels = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"
    result = train(
        TrainConfig(
            json_dataset_path=str(make_dataset("boxes", tmp_path / "train", 120, (64, 64), seed=1)),
            keypoint_channel_configuration=channels,
            default_root_dir=str(tmp_path / "runs"),
            max_epochs=10,
            n_channels=8,
            accelerator="cpu",
            num_workers=0,
            trainer={"enable_progress_bar": False},
        )
    )
    assert result.last_checkpoint is not None
    unseen = make_dataset("boxes", tmp_path / "unseen", 4, (60, 75), seed=2).parent / "images"
    detector = load_model(result.last_checkpoint)
    batches, _ = read_samples(detector, [unseen], 10)
    found = [shown for batch in batches for shown in explain_image(detector, batch, ExplainOptions())]
    found = [shown for shown in found if shown.score >= 0.1]
    assert len(found) >= 6
    share = float(np.mean([shown.shares["saliency"] for shown in found]))
    area = float(np.mean([shown.area_share for shown in found]))
    print(f"share of mass within 3 sigma {share:.3f}, of area {area:.3f}")
    assert share > 5 * area
