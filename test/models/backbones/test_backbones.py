"""One behaviour suite for every registered backbone: a new one is tested the moment it is registered."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from keypoint_detection.models.backbones.backbone_factory import (
    BACKBONES,
    DETECTOR_OPTIONS,
    backbone_class,
    backbone_options,
    create_backbone,
    list_backbones,
)
from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.backbones.decoder import HeatmapConv

NAMES = [name for name in list_backbones() if BACKBONES[name] is backbone_class(name)]
PRESETS = [name for name in list_backbones() if name not in NAMES]

# The lightest form of a family: this suite is about behaviour, which does not depend on the size.
SMALL = {
    "ConvNeXtUnet": {"encoder": "convnext_atto"},
    "CPM": {"n_stages": 2},
    "HRNet": {"encoder": "hrnet_w18_small"},
    "Hourglass": {"n_hourglasses": 2, "n_hg_blocks": 2},
    "MaxVitUnet": {"encoder": "maxvit_rmlp_pico_rw_256"},
    "ResNetDeconv": {"encoder": "resnet10t", "n_channels": 32},
    "ResNetUnet": {"encoder": "resnet10t"},
    "TimmUnet": {"encoder": "resnet10t"},
    "ViT": {"encoder": "ViT-Ti_16"},
}

# Position embeddings and windows belong to places in the image.
NOT_SHIFTABLE = {"DinoV2Up", "MaxVitUnet", "ViT"}
# A point sees the borders of a 256 px image, whose padding does not shift with it.
WIDE = {"CPM", "HRNet", "MobileNetV3", "ResNetDeconv", "ResNetUnet", "TimmUnet"}
# The first, and published weights with strided 3x3 kernels, which no pixel of the next level is centred on.
NOT_MIRRORABLE = {*NOT_SHIFTABLE, "HRNet", "MobileNetV3", "ResNetDeconv", "ResNetUnet", "TimmUnet"}


def strides(name: str) -> list[int | None]:
    """Return the strides to test; None for a family that has only one."""
    return [1, 2, 4] if "output_stride" in backbone_options(name) else [None]


LIGHT = [name for name in NAMES if "decoder_width" in backbone_options(name)]


STRIDED = [(name, stride) for name in NAMES for stride in strides(name)]


def build(name: str, seed: int = 0, *, output_stride: int | None = None, **options) -> Backbone:
    torch.manual_seed(seed)
    stride = {} if output_stride is None else {"output_stride": output_stride}
    return create_backbone(name, **{**SMALL.get(name, {}), **stride, **options})


def randomized(name: str, **options) -> Backbone:
    """Return a backbone in eval mode whose running statistics and scales are not the trivial initial ones."""
    backbone = build(name, **options)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # pyright: ignore[reportArgumentType]
            nn.init.uniform_(module.weight, -1.0, 1.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return backbone.eval()


@pytest.mark.parametrize(("name", "stride"), STRIDED)
@pytest.mark.parametrize("image_hw", [(64, 96), (65, 97), (33, 64)])
def test_shape_and_stride(name: str, stride: int | None, image_hw: tuple[int, int]) -> None:
    backbone = build(name, output_stride=stride)
    features = backbone(torch.randn(2, 3, *image_hw))
    height, width = (math.ceil(side / backbone.stride) for side in image_hw)
    assert features.shape == (2, backbone.out_channels, height, width)
    assert stride in {None, backbone.stride}
    assert backbone.size_multiple % backbone.stride == 0
    assert features.isfinite().all()
    assert features.std() > 1e-3


@pytest.mark.parametrize(("name", "stride"), STRIDED)
def test_gradient_reaches_every_parameter(name: str, stride: int | None) -> None:
    backbone = build(name, output_stride=stride)
    backbone(torch.randn(2, 3, 64, 96)).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("stride", [1, 4])
def test_a_light_decoder_has_fewer_parameters_and_all_of_them_learn(name: str, stride: int) -> None:
    backbone, wide = (build(name, output_stride=stride, decoder_width=width) for width in (8, 0))
    features = backbone(torch.randn(2, 3, 64, 96))
    assert features.shape[1] == backbone.out_channels == 8
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    light, full = (sum(p.numel() for p in each.decoder.parameters()) for each in (backbone, wide))
    assert light < full / 4


def test_the_backbones_with_skip_connections_take_a_light_decoder() -> None:
    assert set(LIGHT) >= {"ConvNeXtUnet", "MaxVitUnet", "MobileNetV3", "ResNetUnet", "TimmUnet"}
    with pytest.raises(ValueError, match="decoder_width"):
        build("ConvNeXtUnet", decoder_width=-1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_channels_in", [1, 3, 4])
def test_channels_of_the_image(name: str, n_channels_in: int) -> None:
    backbone = build(name, n_channels_in=n_channels_in)
    assert backbone(torch.randn(1, n_channels_in, 64, 64)).shape[1] == backbone.out_channels
    assert backbone.in_channels == len(backbone.image_mean) == len(backbone.image_std) == n_channels_in
    assert all(deviation > 0 for deviation in backbone.image_std)


@pytest.mark.parametrize("name", NAMES)
def test_one_small_image_in_training(name: str) -> None:
    assert build(name)(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_padding_continues_the_image(name: str) -> None:
    backbone = randomized(name)
    image = torch.randn(1, 3, 65, 97)
    below, right = (-side % backbone.size_multiple for side in (65, 97))
    padded = nn.functional.pad(image, (0, right, 0, below), mode="replicate")
    height, width = (math.ceil(side / backbone.stride) for side in (65, 97))
    torch.testing.assert_close(backbone(image), backbone(padded)[:, :, :height, :width])


@pytest.mark.parametrize("name", NAMES)
def test_eval_is_deterministic_and_independent_of_the_batch(name: str) -> None:
    backbone = randomized(name)
    images = torch.randn(3, 3, 64, 64)
    together = backbone(images)
    assert torch.equal(together, backbone(images))
    torch.testing.assert_close(together[1:2], backbone(images[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_save_and_load_is_bit_equal(name: str, tmp_path: Path) -> None:
    first, second = randomized(name), build(name, seed=1).eval()
    image = torch.randn(1, 3, 64, 64)
    assert not torch.equal(first(image), second(image))
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(first(image), second(image))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_channels_last_changes_nothing(name: str, training: bool) -> None:
    backbone = randomized(name).train(training)
    image = torch.randn(2, 3, 64, 96)
    torch.manual_seed(1)  # dropout
    expected = backbone(image)
    torch.manual_seed(1)
    backbone.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    features = backbone(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_bf16_autocast(name: str, training: bool) -> None:
    backbone = randomized(name).train(training)
    image = torch.randn(2, 3, 65, 97)
    torch.manual_seed(1)  # dropout
    expected = backbone(image)
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = backbone(image)
    assert features.isfinite().all()
    error = (features.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.1
    if training:
        features.float().square().sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "stride"), [pair for pair in STRIDED if pair[0] not in NOT_SHIFTABLE])
def test_a_shift_by_the_size_multiple_shifts_the_features(name: str, stride: int | None) -> None:
    made = build if name in WIDE else randomized  # random scales fade what a deep encoder sees
    backbone = made(name, output_stride=stride).eval()
    shift, side, stride = backbone.size_multiple, 256, backbone.stride
    canvas = torch.zeros(1, 3, side, side + shift)
    canvas[..., 96:160, 96:160] = torch.randn(1, 3, 64, 64)
    features, shifted = backbone(canvas[..., :side]), backbone(canvas.roll(shift, -1)[..., :side])
    near, far, step = 96 // stride, 160 // stride, shift // stride
    inside = features[..., near:far, near:far]
    aligned, unaligned = (
        (shifted[..., near:far, near + offset : far + offset] - inside).square().mean().sqrt()
        for offset in (step, 0)
    )
    assert unaligned > 1e-4
    assert aligned < (0.5 if name in WIDE else 1e-3) * unaligned


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_MIRRORABLE])
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(name: str) -> None:
    """Fails where a change of size is not symmetric about pixel centres, as a strided 3x3 kernel is not."""
    stride = strides(name)[-1]
    backbone, mirrored = randomized(name, output_stride=stride), build(name, output_stride=stride).eval()
    mirrored.load_state_dict(backbone.state_dict())
    for module in mirrored.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.flip(-1)
    image = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(mirrored(image.flip(-1)).flip(-1), backbone(image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_features_take_both_signs(name: str) -> None:
    features = build(name)(torch.randn(2, 3, 64, 64))
    assert 0.2 < (features < 0).float().mean() < 0.8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("shape", "came"),
    [
        ((3, 64, 64), r"got \[3, 64, 64\]; give a batch"),
        ((1, 1, 64, 64), r"got \[1, 1, 64, 64\]; load images with 3 channels .* --n_channels_in 1"),
        ((1, 3, 0, 64), r"got \[1, 3, 0, 64\]; the image has no pixels"),
    ],
)
def test_wrong_shapes_are_one_clear_line(name: str, shape: tuple[int, ...], came: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} needs images of shape \[n, 3, h, w\].*{came}") as caught:
        build(name)(torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_options_are_typed_plain_values(name: str) -> None:
    for option, default in backbone_options(name).items():
        assert type(default) in {bool, int, float, str}, option
    assert set(backbone_options(name)) & set(DETECTOR_OPTIONS) >= {"n_channels_in"}


@pytest.mark.parametrize("name", [name for name in NAMES if strides(name) != [None]])
@pytest.mark.parametrize("stride", [0, 3, 64])
def test_impossible_strides_are_refused(name: str, stride: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} needs an output_stride of 1, 2, 4.*got {stride}"):
        build(name, output_stride=stride)


@pytest.mark.parametrize("name", list_backbones())
def test_unknown_option_names_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' has no option 'n_channels_inn'.*mean 'n_channels_in'\?"):
        create_backbone(name, n_channels_inn=1)


@pytest.mark.parametrize("name", NAMES)
def test_a_photograph_of_any_size(name: str) -> None:
    backbone = build(name).eval()
    with torch.inference_mode():
        features = backbone(torch.randn(1, 3, 480, 640))
    stride = backbone.stride
    assert features.shape == (1, backbone.out_channels, math.ceil(480 / stride), math.ceil(640 / stride))
    assert features.isfinite().all()


@pytest.mark.parametrize("name", list_backbones())
def test_default_form_of_every_name(name: str) -> None:
    """Shapes only: without memory or time, so that the largest are built as well."""
    with torch.device("meta"):
        backbone = create_backbone(name)
        features = backbone(torch.empty(1, 3, 65, 97))
    height, width = (math.ceil(side / backbone.stride) for side in (65, 97))
    assert features.shape == (1, backbone.out_channels, height, width)
    assert backbone.when_to_use, "the table of backbones shows it"
    assert len(backbone.when_to_use) <= 80


@pytest.mark.parametrize("name", NAMES)
def test_earlier_stages_predict_heatmaps_of_the_declared_stride(name: str) -> None:
    n_heatmaps = {"n_heatmaps": 5} if "n_heatmaps" in backbone_options(name) else {}
    backbone = build(name, **n_heatmaps)
    features, earlier = backbone.forward_stages(torch.randn(1, 3, 65, 97))
    assert bool(earlier) == bool(n_heatmaps)
    for logits in earlier:
        assert logits.shape == (1, 5, *features.shape[-2:])
        assert 0.01 < logits.sigmoid().mean() < 0.03


@pytest.mark.parametrize("name", NAMES)
def test_torch_export_equals_eager(name: str) -> None:
    backbone, image = randomized(name), torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        exported = torch.export.export(backbone, (image,)).module()
        torch.testing.assert_close(exported(image), backbone(image), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter and onnxscript, about themselves
@pytest.mark.parametrize("name", NAMES)
def test_onnx_equals_eager(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    backbone, image = randomized(name), torch.randn(1, 3, 64, 96)
    torch.onnx.export(backbone, (image,), tmp_path / "backbone.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "backbone.onnx", providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(features), backbone(image), rtol=1e-4, atol=1e-4)


# Name, options, heatmaps, parameters in millions as published, share that ours may differ by.
PUBLISHED = [
    ("Unet", {"n_resnet_blocks": 3, "n_downsampling_layers": 2}, 1, 0.112, 0.02),
    ("Unet", {"n_resnet_blocks": 4, "n_downsampling_layers": 2}, 1, 0.130, 0.02),
    ("DilatedCnn", {}, 1, 0.102, 0.02),
    ("S3K", {}, 1, 0.113, 0.02),
    ("MobileNetV3", {}, 1, 3.4, 0.15),
    ("Hourglass", {"n_hourglasses": 1, "n_hg_blocks": 4}, 1, 3.6, 0.15),
    ("Hourglass", {"n_hourglasses": 2, "n_hg_blocks": 4}, 1, 7.4, 0.15),
    ("Hourglass", {"n_hourglasses": 2, "n_hg_blocks": 5}, 1, 28.9, 0.15),
    ("Hourglass", {"n_hourglasses": 4, "n_hg_blocks": 2}, 1, 1.4, 0.15),
    ("ConvNeXtUnet", {"encoder": "convnext_femto"}, 1, 5.8, 0.15),
    ("ConvNeXtUnet", {"encoder": "convnext_nano"}, 1, 17.7, 0.15),
    ("MaxVitUnet", {}, 1, 16.8, 0.15),
    ("CPM", {}, 16, 40.2, 0.15),
]


@pytest.mark.parametrize(("name", "options", "n_heatmaps", "published", "tolerance"), PUBLISHED)
def test_parameters_are_those_published(
    name: str, options: dict, n_heatmaps: int, published: float, tolerance: float
) -> None:
    filled = {"n_heatmaps": n_heatmaps} if "n_heatmaps" in backbone_options(name) else {}
    with torch.device("meta"):
        backbone = create_backbone(name, **options, **filled)
        head = HeatmapConv(backbone.out_channels, n_heatmaps)
    millions = sum(p.numel() for part in (backbone, head) for p in part.parameters()) / 1e6
    chosen = " ".join(f"{option}={value}" for option, value in options.items())
    print(f"{name:14}{chosen:46}{millions:8.3f} M, published {published:6.3f} M ({tolerance:.0%})")
    assert millions == pytest.approx(published, rel=tolerance)
