from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from keypoint_detection.models.backbones.convnext_unet import ConvNeXtUnet
from keypoint_detection.models.backbones.timm_encoder import (
    check_pyramid,
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


def test_more_arguments_reach_timm() -> None:
    with torch.device("meta"):
        made = create_encoder("any", "hrnet_w18_small", 3, pretrained=False, finest_stride=4)
        raw = create_encoder(
            "any",
            "hrnet_w18_small",
            3,
            pretrained=False,
            finest_stride=4,
            timm_arguments={"feature_location": ""},
        )
    assert made.widths == [128, 256, 512, 1024]
    assert raw.widths == [16, 32, 64, 128]


@pytest.mark.parametrize(("encoder", "side"), [("resnet10t", 176), ("efficientnet_b0", 224)])
def test_the_image_side_of_the_weights(encoder: str, side: int) -> None:
    with torch.device("meta"):
        assert create_encoder("any", encoder, 3, pretrained=False).image_side == side


@pytest.mark.parametrize("encoder", ["resnet10t", "efficientnet_lite0"])
def test_batch_normalization_changes_for_a_single_value_only(encoder: str) -> None:
    """Both kinds, plain and with an activation, agree with timm's own layers on everything else."""
    torch.manual_seed(0)
    network = create_encoder("any", encoder, 3, pretrained=False).network
    original = timm.create_model(encoder, features_only=True)
    original.load_state_dict(network.state_dict())
    for training, image in ((True, torch.randn(2, 3, 64, 64)), (False, torch.randn(1, 3, 32, 32))):
        network.train(training), original.train(training)
        for ours, theirs in zip(network(image), original(image), strict=True):
            assert torch.equal(ours, theirs)
    for name, buffer in original.named_buffers():
        assert torch.equal(buffer, network.get_buffer(name)), name
    single = torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        original.train()(single)
    assert network.train()(single)[-1].isfinite().all()


def test_residual_branches_start_small_but_learn() -> None:
    scales = [
        module.weight
        for name, module in create_encoder("any", "resnet18", 3, pretrained=False).network.named_modules()
        if name.endswith("bn2")
    ]
    assert len(scales) == 8
    assert all((scale == 0.1).all() for scale in scales)


def test_pretrained_scales_of_zero_are_kept(no_network: None) -> None:
    source = timm.create_model("resnet10t", pretrained=False, zero_init_last=False)
    weights = source.state_dict()
    weights["layer1.0.bn2.weight"][3:5] = 0
    path = weights_file("resnet10t")
    path.parent.mkdir(parents=True)
    save_file(weights, str(path))
    loaded = create_encoder("any", "resnet10t", 3, pretrained=True).network.state_dict()
    assert torch.equal(loaded["layer1.0.bn2.weight"], weights["layer1.0.bn2.weight"])


def test_pyramids_that_halve_step_by_step() -> None:
    check_pyramid("TimmUnet", "resnet10t.c3_in1k")
    with pytest.raises(
        ValueError, match=r"'convmixer_768_32' has strides \[7, 7, 7\] and maps \[1, 3, 14, 21\]"
    ):
        check_pyramid("TimmUnet", "convmixer_768_32")
    with pytest.raises(ValueError, match="'vit_tiny_patch16_224' takes images of one size only; use a conv"):
        check_pyramid("TimmUnet", "vit_tiny_patch16_224")
