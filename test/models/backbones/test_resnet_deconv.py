from pathlib import Path

import pytest
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.resnet_deconv import ResNetDeconv, deconvolution


@pytest.mark.parametrize(
    ("encoder", "published"), [("resnet50", 34.0), ("resnet101", 53.0), ("resnet152", 68.6)]
)
def test_published_sizes(encoder: str, published: float) -> None:
    """With the head of the paper: 17 heatmaps by a 1x1 convolution."""
    counted = millions(lambda: ResNetDeconv(encoder=encoder), n_heatmaps=17, kernel_size=1)
    assert counted == pytest.approx(published, rel=0.002)


def test_everything_learns_and_only_the_last_map_leaves_the_encoder() -> None:
    torch.manual_seed(0)
    backbone = ResNetDeconv(encoder="resnet10t", n_channels=24)
    image = torch.randn(2, 3, 64, 96)
    features = assert_gradients(backbone, image)
    assert features.shape == (2, 24, 16, 24)
    assert (backbone.stride, backbone.size_multiple, backbone.out_channels) == (4, 32, 24)
    assert 0.3 < (features < 0).float().mean() < 0.7
    assert [list(level.shape) for level in backbone.encoder(image)] == [[2, 512, 2, 3]]


def test_a_deconvolution_by_hand() -> None:
    """A pixel spreads over 4x4 pixels about its centre: pixel (1, 1) over columns and rows 1 to 4."""
    layer = deconvolution(1, 1)
    layer.weight.data = torch.arange(16.0).reshape(1, 1, 4, 4)
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 1
    expected = torch.zeros(6, 6)
    expected[1:5, 1:5] = torch.arange(16.0).reshape(4, 4)
    assert torch.equal(layer(image)[0, 0], expected)


def test_a_deconvolution_keeps_the_variance_of_rectified_features() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        spread = deconvolution(256, 64)(torch.randn(1, 256, 32, 32).relu())[..., 2:-2, 2:-2]
    assert spread.square().mean() == pytest.approx(1.0, rel=0.1)


def test_another_number_of_channels() -> None:
    backbone = ResNetDeconv(encoder="resnet10t", n_channels=8, n_channels_in=1)
    assert backbone(torch.randn(1, 1, 33, 40)).shape == (1, 8, 9, 10)
    assert backbone.image_mean == (0.5,)


def test_normalization_is_that_of_the_weights() -> None:
    backbone = ResNetDeconv(encoder="resnet10t")
    assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_one_pixel_in_training() -> None:
    assert ResNetDeconv(encoder="resnet10t")(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert_pretrained_asks_for("resnet50", lambda: ResNetDeconv(pretrained=True), monkeypatch, tmp_path)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="ResNetDeconv needs n_channels >= 1, got 0"):
        ResNetDeconv(n_channels=0)
    with pytest.raises(ValueError, match="ResNetDeconv needs n_channels_in >= 1, got 0"):
        ResNetDeconv(n_channels_in=0)
    with pytest.raises(ValueError, match="ResNetDeconv has no encoder 'convnext_atto'"):
        ResNetDeconv(encoder="convnext_atto")
