from pathlib import Path

import pytest
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.mobilenet_v3 import MobileNetV3

SMALL = "mobilenetv3_small_050"


def test_published_size() -> None:
    assert millions(MobileNetV3) == pytest.approx(3.4, rel=0.02)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_stride_learns_everywhere(stride: int) -> None:
    torch.manual_seed(0)
    backbone = MobileNetV3(output_stride=stride)
    features = assert_gradients(backbone, torch.randn(2, 3, 64, 96))
    assert features.shape == (2, backbone.out_channels, 64 // stride, 96 // stride)
    assert backbone.stride == stride
    assert features.min() < 0 < features.max()


def test_the_bottom_is_narrowed() -> None:
    bottom = MobileNetV3().decoder.bottom
    assert bottom(torch.randn(2, 960, 3, 4)).shape == (2, 128, 3, 4)


def test_another_encoder_and_grey_images() -> None:
    backbone = MobileNetV3(encoder=SMALL, n_channels_in=1)
    assert backbone(torch.randn(1, 1, 33, 40)).shape == (1, backbone.out_channels, 33, 40)
    assert backbone.image_mean == (0.5,)
    assert sum(p.numel() for p in backbone.parameters()) < 1e6


def test_normalization_is_that_of_the_weights() -> None:
    backbone = MobileNetV3(encoder=SMALL)
    assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_one_pixel_in_training() -> None:
    assert MobileNetV3(encoder=SMALL)(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert_pretrained_asks_for(
        SMALL, lambda: MobileNetV3(encoder=SMALL, pretrained=True), monkeypatch, tmp_path
    )


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="MobileNetV3 needs an output_stride of 1, 2, 4, got 8"):
        MobileNetV3(output_stride=8)
    with pytest.raises(ValueError, match="MobileNetV3 needs n_channels_in >= 1, got 0"):
        MobileNetV3(n_channels_in=0)
    with pytest.raises(ValueError, match="MobileNetV3 has no encoder 'resnet18'; known: mobilenetv3_large"):
        MobileNetV3(encoder="resnet18")
