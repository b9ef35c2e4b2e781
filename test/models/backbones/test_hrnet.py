from pathlib import Path

import pytest
import torch
from reference.timm_encoders import assert_gradients, assert_pretrained_asks_for, millions

from keypoint_detection.models.backbones.backbone_factory import backbone_options, create_backbone
from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.hrnet import HRNet

SMALL = "hrnet_w18_small"


@pytest.mark.parametrize(
    ("name", "published"), [("HRNet-W18", 9.3), ("HRNet-W32", 28.5), ("HRNet-W48", 65.9)]
)
def test_published_sizes(name: str, published: float) -> None:
    """Published for faces (W18) and street scenes (W48), and for poses (W32), which drops the last fusion."""
    assert millions(lambda: create_backbone(name)) == pytest.approx(published, rel=0.04)


def test_presets_fix_the_encoder() -> None:
    assert "encoder" not in backbone_options("HRNet-W18")
    assert backbone_options("HRNet")["encoder"] == "hrnet_w32"
    with torch.device("meta"):
        assert create_backbone("HRNet-W18").out_channels == 18 * (1 + 2 + 4 + 8)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_stride_learns_everywhere(stride: int) -> None:
    torch.manual_seed(0)
    backbone = HRNet(encoder=SMALL, output_stride=stride)
    features = assert_gradients(backbone, torch.randn(2, 3, 64, 96))
    assert features.shape == (2, backbone.out_channels, 64 // stride, 96 // stride)
    assert (backbone.stride, backbone.size_multiple) == (stride, 32)
    assert 0.2 < (features < 0).float().mean() < 0.8


def test_the_encoder_gives_its_raw_branches() -> None:
    backbone = HRNet(encoder=SMALL)
    branches = backbone.encoder(torch.randn(1, 3, 64, 96))
    assert [list(branch.shape[1:]) for branch in branches] == [
        [16, 16, 24],
        [32, 8, 12],
        [64, 4, 6],
        [128, 2, 3],
    ]
    assert not [name for name, _ in backbone.named_modules() if "incre" in name]


@pytest.mark.parametrize(("branch", "cell"), [(0, 1), (1, 2), (2, 4), (3, 8)])
def test_a_pixel_of_a_branch_covers_the_pixels_below_it(
    branch: int, cell: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = HRNet(encoder=SMALL).eval()
    branches = [
        torch.zeros(1, width, 16 >> level, 16 >> level) for level, width in enumerate((16, 32, 64, 128))
    ]
    changed = [level.clone() for level in branches]
    changed[branch][..., 1, 1] = 1.0
    image, results = torch.zeros(1, 3, 64, 64), []
    for given in (branches, changed):
        monkeypatch.setattr(backbone.encoder, "forward", lambda _, given=given: given)
        results.append(backbone(image))
    differs = (results[1] - results[0])[0].abs().amax(0) > 0
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[cell : 2 * cell, cell : 2 * cell] = True
    assert torch.equal(differs, expected)


def test_another_number_of_channels() -> None:
    backbone = HRNet(encoder=SMALL, n_channels_in=1)
    assert backbone(torch.randn(1, 1, 33, 40)).shape == (1, 240, 9, 10)
    assert backbone.image_mean == (0.5,)


def test_normalization_is_that_of_the_weights() -> None:
    backbone = HRNet(encoder=SMALL)
    assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_one_pixel_in_training() -> None:
    assert HRNet(encoder=SMALL)(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


def test_pretrained_asks_for_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert_pretrained_asks_for(SMALL, lambda: HRNet(encoder=SMALL, pretrained=True), monkeypatch, tmp_path)


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="HRNet needs an output_stride of 1, 2, 4, got 8"):
        HRNet(output_stride=8)
    with pytest.raises(ValueError, match="HRNet needs n_channels_in >= 1, got 0"):
        HRNet(n_channels_in=0)
    with pytest.raises(ValueError, match=r"HRNet has no encoder 'hrnet_w33'.*Did you mean 'hrnet_w3"):
        HRNet(encoder="hrnet_w33")
