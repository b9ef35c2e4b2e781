from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from keypoint_detection.models.backbones.convnext_unet import (
    ConvNeXtUnet,
    encoder_configuration,
    pretrained_file,
)


def parameters(backbone: ConvNeXtUnet) -> int:
    return sum(parameter.numel() for parameter in backbone.parameters())


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Cut off the model hub and its cache, and give torch an empty folder for weights."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))


def test_femto_keeps_its_size() -> None:
    assert 5.8e6 < parameters(ConvNeXtUnet()) < 6.2e6


def test_another_encoder_and_its_widths() -> None:
    backbone = ConvNeXtUnet(encoder="convnext_atto")
    assert parameters(backbone) < parameters(ConvNeXtUnet())
    assert backbone(torch.randn(1, 3, 32, 32)).shape == (1, backbone.out_channels, 32, 32)
    assert ConvNeXtUnet(encoder="convnext_atto", output_stride=4).out_channels == 40


def test_finer_strides_see_every_pixel_of_the_image() -> None:
    backbone = ConvNeXtUnet(encoder="convnext_atto", output_stride=2).eval()
    image = torch.randn(1, 3, 32, 32, requires_grad=True)
    backbone(image)[0, :, 8, 8].sum().backward()
    assert image.grad is not None
    assert (image.grad[0, :, 16:18, 16:18].abs() > 0).all()


def test_offline_pretrained_is_one_line_that_names_the_file(no_network: None) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"https://huggingface.co/timm/convnext_atto\.d2_in1k"
    ) as caught:
        ConvNeXtUnet(pretrained=True, encoder="convnext_atto")
    assert str(pretrained_file("convnext_atto")) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("n_channels_in", [3, 1])
def test_pretrained_weights_are_read_from_the_named_file(no_network: None, n_channels_in: int) -> None:
    torch.manual_seed(0)
    source = timm.create_model("convnext_atto", pretrained=False)
    path = pretrained_file("convnext_atto")
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
    assert encoder_configuration("convnext_tiny.in12k").hf_hub_id == "timm/convnext_tiny.in12k"
    assert pretrained_file("convnext_tiny.in12k").name == "convnext_tiny.in12k.safetensors"
    assert pretrained_file("convnext_femto").name == "convnext_femto.d1_in1k.safetensors"
