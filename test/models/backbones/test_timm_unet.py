from pathlib import Path

import pytest
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.resnet_unet import ResNetUnet
from keypoint_detection.models.backbones.timm_unet import TimmUnet

LIGHT = ["resnet10t", "efficientnet_b0", "convnext_atto", "regnety_002", "pvt_v2_b0"]


def test_the_default_is_resnet_unet() -> None:
    assert millions(TimmUnet) == millions(ResNetUnet)


@pytest.mark.parametrize("encoder", LIGHT)
def test_encoders_of_many_families_learn_everywhere(encoder: str) -> None:
    torch.manual_seed(0)
    backbone = TimmUnet(encoder=encoder)
    features = assert_gradients(backbone, torch.randn(1, 3, 64, 96))
    assert features.shape == (1, backbone.out_channels, 64, 96)
    assert features.min() < 0 < features.max()


@pytest.mark.parametrize("encoder", [*LIGHT, "vgg11"])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_strides(encoder: str, stride: int) -> None:
    with torch.device("meta"):
        backbone = TimmUnet(encoder=encoder, output_stride=stride)
        features = backbone(torch.empty(1, 3, 65, 96))
    assert features.shape == (1, backbone.out_channels, -(-65 // stride), 96 // stride)
    assert backbone.stride == stride


def test_no_parameter_belongs_to_a_map_that_is_not_used() -> None:
    for encoder in ("resnet10t", "hrnet_w18_small"):
        assert_gradients(TimmUnet(encoder=encoder, output_stride=4), torch.randn(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("encoder", "reason"),
    [
        ("vit_tiny_patch16_224", "takes images of one size only"),
        ("swin_tiny_patch4_window7_224", "takes images of one size only"),
        ("maxvit_nano_rw_256", "takes images of one size only"),
        ("convmixer_768_32", r"has strides \[7, 7, 7\]"),
        ("mambaout_femto", r"has strides \[4, 8, 16, 32\] and maps \[1, 3, 64, 96\] to \[1, 16, 24, 48\]"),
        ("inception_v3", r"gives no feature maps \(RuntimeError\)"),
    ],
)
def test_encoders_that_a_u_net_cannot_use_are_refused(encoder: str, reason: str) -> None:
    message = rf"TimmUnet needs .* '{encoder}' {reason}.*; use a convolutional encoder .* or the backbone ViT"
    with pytest.raises(ValueError, match=message) as caught:
        TimmUnet(encoder=encoder)
    assert "\n" not in str(caught.value)


def test_another_number_of_channels() -> None:
    backbone = TimmUnet(encoder="resnet10t", n_channels_in=4)
    assert backbone(torch.randn(1, 4, 33, 40)).shape == (1, backbone.out_channels, 33, 40)
    assert backbone.image_mean == (0.5,) * 4


def test_normalization_is_that_of_the_weights() -> None:
    with torch.device("meta"):
        backbone, other = TimmUnet(encoder="resnet10t"), TimmUnet(encoder="tf_efficientnet_lite0")
    assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)
    assert (other.image_mean, other.image_std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("encoder", ["resnet10t", "efficientnet_lite0", "regnety_002"])
def test_one_pixel_in_training(encoder: str) -> None:
    assert TimmUnet(encoder=encoder)(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    encoder = "efficientnet_lite0"
    assert_pretrained_asks_for(
        encoder, lambda: TimmUnet(encoder=encoder, pretrained=True), monkeypatch, tmp_path
    )


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="TimmUnet needs an output_stride of 1, 2, 4, got 5"):
        TimmUnet(output_stride=5)
    with pytest.raises(ValueError, match="TimmUnet needs n_channels_in >= 1, got 0"):
        TimmUnet(n_channels_in=0)
    with pytest.raises(ValueError, match=r"no encoder 'resnet19'; see timm.list_models\(\)\. Did you mean"):
        TimmUnet(encoder="resnet19")
