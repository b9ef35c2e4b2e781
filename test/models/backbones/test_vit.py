import functools
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from keypoint_detection.models.backbones.backbone_factory import backbone_options, create_backbone
from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.backbones.timm_encoder import (
    encoder_configuration,
    load_network,
    pretrained_file,
)
from keypoint_detection.models.backbones.vit import _PLAIN, NAMES_IN_TIMM, ViT

HALF = (0.5, 0.5, 0.5)


@pytest.fixture
def shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build encoders of two blocks, so that tests of what surrounds them are quick."""
    small = functools.partial(load_network, depth=2)
    monkeypatch.setattr("keypoint_detection.models.backbones.vit.load_network", small)


def build(seed: int = 0, **options) -> ViT:
    torch.manual_seed(seed)
    return ViT(**{"encoder": "ViT-Ti_16", "n_channels": 16, **options})


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def by_hand(width: int, depth: int, patch: int) -> int:
    """Count the parameters of a ViT: embedding, class token, positions of 224 px, blocks, final norm."""
    embedding = 3 * patch**2 * width + width
    block = 12 * width**2 + 13 * width  # attention 4 w^2 + 4 w, perceptron 8 w^2 + 5 w, two norms 4 w
    return embedding + width + ((224 // patch) ** 2 + 1) * width + depth * block + 2 * width


@pytest.mark.parametrize(
    ("name", "width", "depth", "patch"),
    [
        ("ViT-Ti_16", 192, 12, 16),
        ("ViT-S_16", 384, 12, 16),
        ("ViT-B_16", 768, 12, 16),
        ("ViT-B_32", 768, 12, 32),
        ("ViT-L_16", 1024, 24, 16),
        ("ViT-L_32", 1024, 24, 32),
        ("ViT-H_14", 1280, 32, 14),
    ],
)
def test_presets_by_hand(name: str, width: int, depth: int, patch: int) -> None:
    with torch.device("meta"):
        backbone = create_backbone(name)
        assert backbone(torch.empty(1, 3, 224, 224)).shape == (1, 256, 56, 56)
    decoder = width * 256 + 2 * 256 + 9 * 256**2 + 2 * 256 + 256**2 + 2 * 256
    assert parameters(backbone) == by_hand(width, depth, patch) + decoder
    assert parameters(HeatmapConv(backbone.out_channels, 1)) == 9 * 256 + 1
    assert backbone.size_multiple == {14: 28}.get(patch, patch)
    assert "encoder" not in backbone_options(name)


def test_published_size_of_direct_regression() -> None:
    with torch.device("meta"):
        backbone = create_backbone("ViT-B_16", class_token=True)
        assert parameters(backbone) == 85_798_656
        assert parameters(backbone) + parameters(nn.Linear(backbone.out_channels, 24)) == 85_817_112


def test_hybrid_size() -> None:
    with torch.device("meta"):
        backbone = create_backbone("R50-ViT-B_16", class_token=True)
        resnet = parameters(backbone.encoder.patch_embed.backbone)  # pyright: ignore
    plain = by_hand(768, 12, 16) - (3 * 16**2 * 768 + 768)
    assert parameters(backbone) == plain + resnet + 1024 * 768 + 768
    assert (backbone.stride, backbone.size_multiple) == (16, 16)


@pytest.mark.usefixtures("shallow")
def test_every_plain_vit_of_timm_is_offered_and_has_no_unused_part() -> None:
    names = [name for name in timm.list_models("vit_*") if _PLAIN.fullmatch(name)]
    assert {"vit_base_patch8_224", "vit_base_patch16_384", "vit_large_r50_s32_224"} <= set(names)
    for name in names:
        with torch.device("meta"):
            backbone = ViT(encoder=name, class_token=True)
        encoder = backbone.encoder
        assert backbone.stride == encoder.patch_embed.feat_ratio(), name
        assert isinstance(encoder.norm, nn.LayerNorm), name
        assert encoder.has_class_token, name
        for unused in (encoder.norm_pre, encoder.fc_norm, encoder.head):
            assert isinstance(unused, nn.Identity), name
        assert encoder.attn_pool is None, name


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("decoder", ["bilinear", "deconv"])
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
def test_any_size_and_stride(decoder: str, stride: int) -> None:
    backbone = build(decoder=decoder, output_stride=stride)
    for height, width in [(65, 97), (1, 1), (32, 48)]:
        features = backbone(torch.randn(1, 3, height, width))
        assert features.shape == (1, 16, -(-height // stride), -(-width // stride))
        assert features.isfinite().all()
    assert 0.2 < (features < 0).float().mean() < 0.8
    assert (backbone.stride, backbone.size_multiple) == (stride, 16)


@pytest.mark.usefixtures("shallow")
def test_a_large_image() -> None:
    assert build().eval()(torch.randn(1, 3, 480, 640)).shape == (1, 16, 120, 160)


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoder": "deconv"},
        {"decoder": "deconv", "output_stride": 16},
        {"class_token": True},
        {"n_channels_in": 1},
    ],
)
def test_gradient_reaches_every_parameter(options: dict) -> None:
    backbone = build(**options)
    backbone(torch.randn(2, backbone.in_channels, 65, 97)).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.usefixtures("shallow")
def test_hybrid_trains_on_one_small_image_and_every_parameter_learns() -> None:
    backbone = build(encoder="R50-ViT-B_16")
    assert backbone(torch.randn(1, 3, 1, 1)).shape == (1, 16, 1, 1)
    backbone(torch.randn(1, 3, 65, 97)).square().sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_tokens_are_those_of_timm_after_the_final_norm() -> None:
    backbone = build(output_stride=16).eval()
    backbone.decoder = nn.Identity()
    image = torch.randn(1, 3, 224, 224)
    tokens = backbone.encoder.forward_features(image)
    expected = tokens[:, 1:].transpose(1, 2).reshape(1, 192, 14, 14)
    assert torch.equal(backbone.forward_features(image), expected)
    image = torch.randn(1, 3, 96, 320)  # another grid: the positions are resampled as timm does
    expected = backbone.encoder.forward_features(image)[:, 1:].transpose(1, 2).reshape(1, 192, 6, 20)
    torch.testing.assert_close(backbone.forward_features(image), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("shallow")
def test_class_token_is_one_vector_per_image() -> None:
    backbone = build(class_token=True).eval()
    image = torch.randn(2, 3, 224, 224)
    features = backbone(image)
    assert features.shape == (2, backbone.out_channels, 1, 1) == (2, 192, 1, 1)
    assert torch.equal(features[:, :, 0, 0], backbone.encoder.forward_features(image)[:, 0])
    assert backbone(torch.randn(1, 3, 65, 97)).shape == (1, 192, 1, 1)
    assert backbone.train()(torch.randn(1, 3, 1, 1)).shape == (1, 192, 1, 1)
    assert (backbone.stride, backbone.decoder) == (16, None)


@pytest.mark.usefixtures("shallow")
def test_encoder_is_timms_own_network_in_the_order_of_its_layers() -> None:
    backbone = build()
    assert type(backbone.encoder) is timm.models.VisionTransformer
    names = [name for name, module in backbone.encoder.named_children() if parameters(module)]
    assert names == ["patch_embed", "blocks", "norm"]
    assert backbone.pretrained_part is backbone.encoder


@pytest.mark.usefixtures("shallow")
def test_drop_path_skips_blocks_in_training_only() -> None:
    backbone = build(drop_path=0.9, class_token=True)
    image = torch.randn(1, 3, 32, 32)
    outputs = torch.cat([backbone(image) for _ in range(20)])
    assert outputs.std(0).max() > 1e-3
    assert torch.equal(backbone.eval()(image), backbone(image))
    assert torch.equal(build(class_token=True)(image), build(class_token=True)(image))


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("options", [{}, {"decoder": "deconv"}, {"class_token": True}])
@pytest.mark.parametrize("image_hw", [(65, 97), (224, 224)])
def test_export_is_equal_and_free_of_antialiasing(options: dict, image_hw: tuple[int, int]) -> None:
    """ONNX's antialiased cubic kernel differs from PyTorch's, so the graph must not hold one."""
    backbone = build(**options).eval()
    image = torch.randn(1, 3, *image_hw)
    program = torch.export.export(backbone, (image,))
    assert "_aa" not in str(program.graph)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(image), backbone(image), rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("shallow")
def test_bf16_autocast() -> None:
    backbone = build().eval()
    image = torch.randn(2, 3, 65, 97)
    expected = backbone(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = backbone(image).float()
    assert (features - expected).square().mean().sqrt() / expected.square().mean().sqrt() < 0.1


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("n_channels_in", [1, 3, 4])
def test_normalisation_is_what_the_weights_expect(n_channels_in: int) -> None:
    backbone = build(n_channels_in=n_channels_in)
    assert backbone.image_mean == backbone.image_std == (0.5,) * n_channels_in
    if n_channels_in == 3:
        imagenet = build(encoder="vit_small_patch16_224.dino")
        assert (imagenet.image_mean, imagenet.image_std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.mark.parametrize("n_channels_in", [3, 1])
def test_pretrained_weights_are_read_from_the_named_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, n_channels_in: int
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    options = {"pretrained": True, "n_channels_in": n_channels_in}
    with pytest.raises(FileNotFoundError, match="no pretrained weights of encoder 'vit_tiny_patch16_224'"):
        build(**options)
    source = timm.create_model("vit_tiny_patch16_224").state_dict()
    path = pretrained_file(encoder_configuration("any", "vit_tiny_patch16_224"))
    path.parent.mkdir(parents=True)
    save_file(source, str(path))
    loaded = build(**options).encoder.state_dict()
    assert source.keys() - loaded.keys() == {"head.weight", "head.bias"}
    assert all(torch.equal(loaded[key], source[key]) for key in loaded if key != "patch_embed.proj.weight")
    kernel = source["patch_embed.proj.weight"]
    torch.testing.assert_close(
        loaded["patch_embed.proj.weight"], kernel if n_channels_in == 3 else kernel.sum(1, keepdim=True)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_channels": 0}, "ViT needs n_channels >= 1, got 0"),
        ({"n_channels_in": 0}, "ViT needs n_channels_in >= 1, got 0"),
        ({"output_stride": 3}, "ViT needs an output_stride of 1, 2, 4, 8, 16, got 3"),
        ({"output_stride": 32}, "ViT needs an output_stride of 1, 2, 4, 8, 16, got 32"),
        ({"encoder": "ViT-H_14", "output_stride": 16}, "output_stride of 1, 2, 4, 8, got 16"),
        ({"decoder": "unet"}, "ViT needs a decoder of bilinear, deconv, got 'unet'"),
        ({"decoder": "biliner"}, "got 'biliner'. Did you mean 'bilinear'"),
        ({"encoder": "ViT-H_14", "decoder": "deconv"}, "needs the decoder bilinear for patches of 14 pixels"),
        ({"drop_path": 1.0}, r"ViT needs a drop_path in \[0, 1\), got 1.0"),
        ({"drop_path": -0.1}, r"ViT needs a drop_path in \[0, 1\), got -0.1"),
        ({"drop_path": float("nan")}, r"ViT needs a drop_path in \[0, 1\), got nan"),
        ({"encoder": "ViT-B16"}, r"ViT has no encoder 'ViT-B16'; known: ViT-Ti_16.*mean 'ViT-B_16'\?"),
        ({"encoder": "vit_base_patch16_siglip_224"}, "ViT has no encoder"),
        ({"encoder": "vit_base_patch17_224"}, "Did you mean 'vit_base_patch1[46]_224'"),
        ({"encoder": "ViT-Ti_16.nothing"}, "has no weights 'nothing'; known: augreg_in21k"),
        ({"pretrained": True, "pretrained_dir": "a.npz"}, "needs one source of weights"),
        ({"encoder": "vit_small_patch16_224.dino", "pretrained_dir": "a.npz"}, "mean and standard deviation"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build(**options)
    assert "\n" not in str(caught.value)


def test_names_of_the_publication_are_those_of_timm() -> None:
    for name in NAMES_IN_TIMM.values():
        configuration = encoder_configuration("ViT", name)
        assert (tuple(configuration.mean), tuple(configuration.std)) == (HALF, HALF)
        assert timm.list_pretrained(f"{name}.*"), name
