"""One behaviour suite for every registered backbone: a new one is tested the moment it is registered."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from keypoint_detection.models.backbones.backbone_factory import (
    backbone_options,
    create_backbone,
    list_backbones,
)
from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD, Backbone

NAMES = list_backbones()
STRIDED = [(name, stride) for name in NAMES for stride in (1, 2, 4)]


def build(name: str, seed: int = 0, **options) -> Backbone:
    torch.manual_seed(seed)
    return create_backbone(name, **options)


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
def test_shape_and_stride(name: str, stride: int, image_hw: tuple[int, int]) -> None:
    backbone = build(name, output_stride=stride)
    features = backbone(torch.randn(2, 3, *image_hw))
    height, width = (math.ceil(side / stride) for side in image_hw)
    assert features.shape == (2, backbone.out_channels, height, width)
    assert backbone.stride == stride
    assert backbone.size_multiple % stride == 0
    assert features.isfinite().all()
    assert features.std() > 1e-3


@pytest.mark.parametrize(("name", "stride"), STRIDED)
def test_gradient_reaches_every_parameter(name: str, stride: int) -> None:
    backbone = build(name, output_stride=stride)
    backbone(torch.randn(2, 3, 64, 96)).square().sum().backward()
    for parameter_name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n_channels_in", [1, 3, 4])
def test_channels_of_the_image(name: str, n_channels_in: int) -> None:
    backbone = build(name, n_channels_in=n_channels_in)
    assert backbone(torch.randn(1, n_channels_in, 64, 64)).shape[1] == backbone.out_channels
    assert backbone.in_channels == len(backbone.image_mean) == len(backbone.image_std) == n_channels_in
    assert all(deviation > 0 for deviation in backbone.image_std)
    if n_channels_in == 3:
        assert (backbone.image_mean, backbone.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("name", NAMES)
def test_one_small_image_in_training(name: str) -> None:
    assert build(name)(torch.randn(1, 3, 1, 1)).shape[-2:] == (1, 1)


@pytest.mark.parametrize("name", NAMES)
def test_padding_continues_the_image(name: str) -> None:
    backbone = randomized(name)
    image = torch.randn(1, 3, 65, 97)
    below, right = (-side % backbone.size_multiple for side in (65, 97))
    padded = nn.functional.pad(image, (0, right, 0, below), mode="replicate")
    torch.testing.assert_close(backbone(image), backbone(padded)[:, :, :65, :97])


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
    expected = backbone(image)
    backbone.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    features = backbone(image.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [False, True])
def test_bf16_autocast(name: str, training: bool) -> None:
    backbone = randomized(name).train(training)
    image = torch.randn(2, 3, 65, 97)
    expected = backbone(image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = backbone(image)
    assert features.isfinite().all()
    error = (features.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error < 0.1
    if training:
        features.float().square().sum().backward()
        assert all(parameter.grad is not None for parameter in backbone.parameters())


@pytest.mark.parametrize(("name", "stride"), STRIDED)
def test_a_shift_by_the_size_multiple_shifts_the_features(name: str, stride: int) -> None:
    backbone = randomized(name, output_stride=stride)
    shift, side = backbone.size_multiple, 256
    canvas = torch.zeros(1, 3, side, side + shift)
    canvas[..., 96:160, 96:160] = torch.randn(1, 3, 64, 64)
    features, shifted = backbone(canvas[..., :side]), backbone(canvas.roll(shift, -1)[..., :side])
    near, far, step = 96 // stride, 160 // stride, shift // stride
    inside = features[..., near:far, near:far]
    torch.testing.assert_close(shifted[..., near:far, near + step : far + step], inside, rtol=1e-3, atol=1e-3)
    assert inside.std() > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(name: str) -> None:
    """Fails where a change of size is not symmetric about pixel centres, as a strided 3x3 kernel is not."""
    backbone = randomized(name, output_stride=4)
    mirrored = build(name, output_stride=4).eval()
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


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [0, 3, 64])
def test_impossible_strides_are_refused(name: str, stride: int) -> None:
    with pytest.raises(ValueError, match=rf"{name} needs an output_stride of 1, 2, 4, got {stride}"):
        create_backbone(name, output_stride=stride)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_option_names_the_nearest(name: str) -> None:
    with pytest.raises(ValueError, match=rf"'{name}' has no option 'output_strid'.*mean 'output_stride'\?"):
        create_backbone(name, output_strid=1)
