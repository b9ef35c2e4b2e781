import pytest
import torch

from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.feature_cache import FrozenEncoder, backbones_with_encoder

CASES = [
    ("ConvNeXtUnet", {"encoder": "convnext_atto"}),
    ("ConvNeXtUnet", {"encoder": "convnext_atto", "output_stride": 4}),
    ("MobileNetV3", {"output_stride": 2}),
    ("ResNetDeconv", {"encoder": "resnet10t"}),
    ("ViT-Ti_16", {}),
    ("ViT-Ti_16", {"decoder": "deconv", "n_channels": 8}),
    ("ViT-Ti_16", {"class_token": True}),
]


def made(name: str, options: dict[str, object]) -> Backbone:
    torch.manual_seed(0)
    backbone = create_backbone(name, **options)
    backbone.pretrained_part.requires_grad_(False).eval()
    return backbone


@pytest.mark.parametrize(("name", "options"), CASES)
def test_kept_features_give_what_the_encoder_gives(name: str, options: dict[str, object]) -> None:
    backbone = made(name, options).eval()
    encoder = FrozenEncoder(backbone)
    images = torch.randn(2, 3, 50, 40, generator=torch.Generator().manual_seed(1))
    expected = backbone(images)
    kept = encoder.record(images)
    assert all(level.dtype == torch.float16 for level in kept)
    with encoder.replaced():
        torch.testing.assert_close(backbone(images), expected)  # without features the encoder runs
        encoder.features = kept
        found = backbone(images)
    size = expected.abs().max().item()
    torch.testing.assert_close(found, expected, atol=3e-3 * size, rtol=0)
    encoder.features = None
    torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize(("name", "options"), CASES[:1] + CASES[4:5])
def test_the_encoder_does_not_run_and_the_decoder_learns(name: str, options: dict[str, object]) -> None:
    backbone = made(name, options)
    encoder = FrozenEncoder(backbone)
    images = torch.randn(2, 3, 32, 32)
    kept = encoder.record(images)
    for parameter in backbone.pretrained_part.parameters():
        parameter.data.fill_(torch.nan)  # were it run, everything would be NaN
    with encoder.replaced():
        encoder.features = kept
        backbone(images).sum().backward()
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)


def test_recording_changes_neither_modes_nor_statistics() -> None:
    backbone = made("ResNetUnet", {"encoder": "resnet10t"})
    modes = [module.training for module in backbone.modules()]
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    FrozenEncoder(backbone).record(torch.randn(2, 3, 32, 32))
    assert [module.training for module in backbone.modules()] == modes
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_values_beyond_half_precision_are_cut_off() -> None:
    backbone = made("ViT-Ti_16", {"class_token": True})
    encoder = FrozenEncoder(backbone)
    backbone.encoder.norm.weight.data.fill_(1e6)
    (kept,) = encoder.record(torch.randn(1, 3, 32, 32))
    assert kept.isfinite().all()
    assert kept.abs().max() == 65504


def test_a_backbone_without_encoder_is_refused_with_the_names_of_those_that_have_one() -> None:
    with pytest.raises(ValueError, match="got Unet; those with one: ") as error:
        FrozenEncoder(create_backbone("Unet"))
    assert "\n" not in str(error.value)
    for name in ("ConvNeXtUnet", "ViT-S_16", "TimmUnet", "HRNet"):
        assert name in str(error.value)
    names = backbones_with_encoder()
    assert "Hourglass" not in names
    assert "Unet" not in names
