from pathlib import Path

import pytest
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.resnet_unet import ResNetUnet


def test_parameters_by_hand() -> None:
    """Five blocks `(in + skip) * 9 * out + 2 * out` on the 11.1765 M of ResNet-18 without its classifier."""
    levels = [(512 + 256, 256), (256 + 128, 128), (128 + 64, 64), (64 + 64, 64), (64 + 3, 32)]
    decoder = sum(9 * inputs * outputs + 2 * outputs for inputs, outputs in levels)
    head = 9 * 32 + 1
    assert millions(ResNetUnet) == (11_176_512 + decoder + head) / 1e6


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_stride_learns_everywhere(stride: int) -> None:
    torch.manual_seed(0)
    backbone = ResNetUnet(encoder="resnet10t", output_stride=stride)
    features = assert_gradients(backbone, torch.randn(2, 3, 64, 96))
    assert features.shape == (2, backbone.out_channels, 64 // stride, 96 // stride)
    assert backbone.stride == stride
    assert features.min() < 0 < features.max()


def test_bottlenecks_and_the_default_learn_everywhere() -> None:
    """Their residual branches end in a scale that timm starts at 0."""
    for encoder in ("resnet18", "resnet26"):
        assert_gradients(ResNetUnet(encoder=encoder), torch.randn(2, 3, 32, 64))


def test_another_number_of_channels() -> None:
    backbone = ResNetUnet(encoder="resnet10t", n_channels_in=4)
    assert backbone(torch.randn(1, 4, 33, 40)).shape == (1, backbone.out_channels, 33, 40)
    assert backbone.image_mean == (0.5,) * 4


def test_normalization_is_that_of_the_weights() -> None:
    backbone = ResNetUnet(encoder="resnet10t")
    assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_one_pixel_in_training() -> None:
    assert ResNetUnet(encoder="resnet10t")(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert_pretrained_asks_for("resnet18", lambda: ResNetUnet(pretrained=True), monkeypatch, tmp_path)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="ResNetUnet needs an output_stride of 1, 2, 4, got 3"):
        ResNetUnet(output_stride=3)
    with pytest.raises(ValueError, match="ResNetUnet needs n_channels_in >= 1, got 0"):
        ResNetUnet(n_channels_in=0)
    with pytest.raises(ValueError, match=r"no encoder 'resnet19'.*Did you mean 'resnet1[0-9]"):
        ResNetUnet(encoder="resnet19")
