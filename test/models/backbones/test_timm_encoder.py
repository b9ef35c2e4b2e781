from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from keypoint_detection.models.backbones.convnext_unet import ConvNeXtUnet
from keypoint_detection.models.backbones.timm_encoder import (
    create_encoder,
    encoder_configuration,
    pretrained_file,
)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cut off the model hub and its cache, and give torch an empty folder for weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))


def weights_file(encoder: str) -> Path:
    return pretrained_file(encoder_configuration("any", encoder))


def test_offline_pretrained_is_one_line_that_names_the_file(no_network: None) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"https://huggingface.co/timm/convnext_atto\.d2_in1k"
    ) as caught:
        ConvNeXtUnet(pretrained=True, encoder="convnext_atto")
    assert str(weights_file("convnext_atto")) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_channels_in", [3, 1])
def test_pretrained_weights_are_read_from_the_named_file(no_network: None, n_channels_in: int) -> None:
    torch.manual_seed(0)
    source = timm.create_model("convnext_atto", pretrained=False)
    path = weights_file("convnext_atto")
    path.parent.mkdir(parents=True)
    save_file(source.state_dict(), str(path))
    backbone = ConvNeXtUnet(pretrained=True, encoder="convnext_atto", n_channels_in=n_channels_in)
    loaded = backbone.encoder.state_dict()
    assert torch.equal(
        loaded["stages_2.blocks.1.mlp.fc1.weight"], source.state_dict()["stages.2.blocks.1.mlp.fc1.weight"]
    )
    stem = source.state_dict()["stem.0.weight"]
    torch.testing.assert_close(
        loaded["stem_0.weight"], stem if n_channels_in == 3 else stem.sum(1, keepdim=True)
    )


def test_building_without_pretrained_never_asks_for_weights(
    no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object, **_named: object) -> None:
        raise AssertionError("weights were asked for")

    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    ConvNeXtUnet(encoder="convnext_atto")


def test_unknown_encoders_name_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no encoder 'convnext_femmto'.*Did you mean 'convnext_femto'\?"):
        ConvNeXtUnet(encoder="convnext_femmto")
    with pytest.raises(ValueError, match="no encoder 'resnet18'"):
        ConvNeXtUnet(encoder="resnet18")
    with pytest.raises(ValueError, match=r"'convnext_femto' has no weights 'd1'.*d1_in1k"):
        ConvNeXtUnet(encoder="convnext_femto.d1")


def test_weights_are_chosen_by_their_tag() -> None:
    assert encoder_configuration("any", "convnext_tiny.in12k").hf_hub_id == "timm/convnext_tiny.in12k"
    assert weights_file("convnext_tiny.in12k").name == "convnext_tiny.in12k.safetensors"
    assert weights_file("convnext_femto").name == "convnext_femto.d1_in1k.safetensors"


@pytest.mark.parametrize(
    ("finest", "strides"), [(1, [2, 4, 8, 16, 32]), (4, [4, 8, 16, 32]), (8, [8, 16, 32])]
)
def test_feature_maps_finer_than_needed_are_left_out(finest: int, strides: list[int]) -> None:
    made = create_encoder("any", "resnet10t", 3, pretrained=False, finest_stride=finest)
    pyramid = made.network(torch.randn(1, 3, 64, 64))
    assert made.strides == strides
    assert [list(features.shape[1:]) for features in pyramid] == [
        [width, 64 // stride, 64 // stride] for width, stride in zip(made.widths, strides, strict=True)
    ]


def test_any_name_of_timm_without_listing_all() -> None:
    with pytest.raises(ValueError, match=r"no encoder 'resnet19'; see timm.list_models\(\)\. Did you mean"):
        create_encoder("TimmUnet", "resnet19", 3, pretrained=False)
