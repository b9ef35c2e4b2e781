import functools
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD
from keypoint_detection.models.backbones.dino import DinoV2Up
from keypoint_detection.models.backbones.timm_encoder import (
    encoder_configuration,
    load_network,
    pretrained_file,
)

V2, V2_REGISTERS, V3 = "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3"
V3_BIAS = "vit_tiny_patch16_dinov3_qkvb"
ENCODERS = [V2, V2_REGISTERS, V3, V3_BIAS, "vit_small_plus_patch16_dinov3"]


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build encoders of five blocks, of which the decoder sees four."""
    small = functools.partial(load_network, depth=5)
    monkeypatch.setattr("keypoint_detection.models.backbones.dino.load_network", small)


def build(encoder: str = V2, seed: int = 0, **options) -> DinoV2Up:
    torch.manual_seed(seed)
    return DinoV2Up(**{"encoder": encoder, "n_channels": 16, **options})


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("class_token", [False, True])
def test_gradient_reaches_every_parameter(encoder: str, class_token: bool) -> None:
    backbone = build(encoder, class_token=class_token)
    backbone(torch.randn(2, 3, 65, 97)).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
@pytest.mark.parametrize(("encoder", "patch"), [(V2, 14), (V3, 16)])
def test_any_size_and_stride(encoder: str, patch: int, stride: int) -> None:
    backbone = build(encoder, output_stride=stride)
    assert backbone.stride == stride
    assert backbone.size_multiple == {14: {1: 14, 2: 14, 4: 28, 8: 56}[stride], 16: 16}[patch]
    for height, width in [(65, 97), (1, 1), (32, 48)]:
        features = backbone(torch.randn(1, 3, height, width))
        assert features.shape == (1, 16, -(-height // stride), -(-width // stride))
        assert features.isfinite().all()
    assert 0.2 < (features < 0).float().mean() < 0.8


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", [V2, V2_REGISTERS, V3])
def test_the_decoder_sees_the_last_four_blocks_after_the_norm(encoder: str) -> None:
    backbone = build(encoder).eval()
    patch = backbone.patch_size
    image = torch.randn(1, 3, 3 * patch, 5 * patch)
    final, maps = backbone.encoder.forward_intermediates(image, [1, 2, 3, 4], norm=True)
    assert backbone.decoder is not None
    with torch.no_grad():
        torch.testing.assert_close(
            backbone.forward_features(image), backbone.decoder(torch.cat(maps, 1)), rtol=1e-3, atol=1e-3
        )
        class_token = build(encoder, class_token=True).eval()
        class_token.encoder.load_state_dict(backbone.encoder.state_dict())
        vector = class_token.forward_features(image)
        torch.testing.assert_close(vector[:, :, 0, 0], final[:, 0], rtol=1e-4, atol=1e-4)
    assert class_token(torch.randn(2, 3, 65, 97)).shape == (2, 384, 1, 1)
    assert (class_token.out_channels, class_token.stride, class_token.decoder) == (384, patch, None)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", [V2_REGISTERS, V3])
def test_export_is_equal_and_free_of_antialiasing(encoder: str) -> None:
    """ONNX's antialiased cubic kernel differs from PyTorch's, so the graph must not hold one."""
    backbone = build(encoder).eval()
    image = torch.randn(1, 3, 65, 97)
    program = torch.export.export(backbone, (image,))
    assert "_aa" not in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image), backbone(image), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", [V2, V3])
def test_a_frozen_encoder_leaves_the_decoder_to_learn(encoder: str) -> None:
    backbone = build(encoder)
    backbone.pretrained_part.requires_grad_(False).eval()
    optimizer = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    image = torch.randn(2, 3, 32, 48)
    target = torch.randn(2, 16, 8, 12)
    losses = []
    for _ in range(5):
        loss = (backbone(image) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is None for parameter in backbone.encoder.parameters())
    assert backbone.decoder is not None
    assert all(parameter.grad is not None for parameter in backbone.decoder.parameters())


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("encoder", [V2, V3])
def test_bf16_autocast(encoder: str) -> None:
    backbone = build(encoder).eval()
    image = torch.randn(2, 3, 65, 97)
    expected = backbone(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = backbone(image).float()
    assert (features - expected).square().mean().sqrt() / expected.square().mean().sqrt() < 0.1


@pytest.mark.usefixtures("shallow")
def test_normalisation_and_channels() -> None:
    assert (build().image_mean, build().image_std) == (IMAGENET_MEAN, IMAGENET_STD)
    grey = build(n_channels_in=1)
    assert grey(torch.randn(1, 1, 28, 28)).shape == (1, 16, 7, 7)
    assert len(grey.image_mean) == 1


@pytest.mark.parametrize(
    ("encoder", "width", "multiple"), [(V2, 384, 28), ("vit_base_patch14_dinov2", 768, 28), (V3, 384, 16)]
)
def test_size_of_the_decoder_by_hand(encoder: str, width: int, multiple: int) -> None:
    with torch.device("meta"):
        backbone = DinoV2Up(encoder=encoder)
        assert backbone(torch.empty(1, 3, 224, 224)).shape == (1, 128, 56, 56)
    assert backbone.decoder is not None
    by_hand = 4 * width * 128 + 2 * 128 + 2 * (9 * 128**2 + 2 * 128)
    assert sum(parameter.numel() for parameter in backbone.decoder.parameters()) == by_hand
    assert backbone.size_multiple == multiple


def test_pretrained_weights_are_read_from_the_named_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    with pytest.raises(FileNotFoundError, match=f"no pretrained weights of encoder '{V3_BIAS}'"):
        build(V3_BIAS, pretrained=True)
    source = timm.create_model(V3_BIAS, num_classes=0).state_dict()
    path = pretrained_file(encoder_configuration("any", V3_BIAS))
    path.parent.mkdir(parents=True)
    save_file(source, str(path))
    loaded = build(V3_BIAS, pretrained=True).encoder.state_dict()
    assert loaded.keys() == source.keys()
    assert all(torch.equal(loaded[key], source[key]) for key in source)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_channels": 0}, "DinoV2Up needs n_channels >= 1, got 0"),
        ({"n_channels_in": 0}, "DinoV2Up needs n_channels_in >= 1, got 0"),
        ({"output_stride": 16}, "DinoV2Up needs an output_stride of 1, 2, 4, 8, got 16"),
        ({"encoder": V3, "output_stride": 32}, "an output_stride of 1, 2, 4, 8, 16, got 32"),
        ({"encoder": "vit_small_patch16_224"}, "has no encoder 'vit_small_patch16_224'; known: .*dinov2"),
        ({"encoder": "vit_smal_patch14_dinov2"}, f"Did you mean '{V2}'"),
        ({"encoder": f"{V2}.nothing"}, "has no weights 'nothing'; known: lvd142m"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)
