import pytest
import torch
from torch import nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.backbones.s3k import S3K, DoubleBlock


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def convolution(in_channels: int, out_channels: int) -> int:
    """Return the parameters of a 3x3 convolution without bias and its normalisation."""
    return 9 * in_channels * out_channels + 2 * out_channels


def test_parameters_by_hand() -> None:
    coarse = convolution(3, 3) + convolution(3, 16) + convolution(16, 32) + 7 * convolution(32, 32)
    middle = convolution(32, 32) + convolution(32 + 16, 32)
    fine = convolution(32, 32) + convolution(32 + 3, 32)
    assert parameters(S3K(output_stride=4)) == coarse
    assert parameters(S3K(output_stride=2)) == coarse + middle
    assert parameters(S3K()) == coarse + middle + fine


def test_parameters_are_those_published() -> None:
    assert parameters(S3K()) == pytest.approx(112_730, rel=0.02)
    assert parameters(S3K()) + parameters(HeatmapConv(32, 1)) == pytest.approx(113_000, rel=0.02)


def test_the_shape_of_the_image_is_kept_at_every_stride() -> None:
    for stride in (1, 2, 4):
        features = S3K(output_stride=stride)(torch.randn(2, 3, 65, 97))
        assert features.shape == (2, 32, -(-65 // stride), -(-97 // stride))


def test_doubling_copies_each_pixel_to_2x2() -> None:
    block = DoubleBlock(1, 1).eval()
    for kernel in (block.smooth.conv, block.mix.conv):
        nn.init.zeros_(kernel.weight)
        kernel.weight.data[:, 0, 1, 1] = 1
    features, skip = torch.rand(1, 1, 3, 4), torch.rand(1, 1, 6, 8)
    expected = features.repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(block(features, skip), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_skip_connection_is_used(stride: int) -> None:
    torch.manual_seed(0)
    backbone = S3K(output_stride=stride).eval()
    received = []
    for block in backbone.up_blocks:
        block.mix.register_forward_pre_hook(lambda _, inputs: received.append(inputs[0].shape))  # pyright: ignore
    backbone(torch.randn(1, 3, 16, 16))
    assert received == [(1, 48, 8, 8), (1, 35, 16, 16)][: 2 - (stride // 2)]


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("axis", [-1, -2])
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(stride: int, axis: int) -> None:
    torch.manual_seed(0)
    backbone, mirrored = S3K(output_stride=stride).eval(), S3K(output_stride=stride).eval()
    for own, other in zip(backbone.parameters(), mirrored.parameters(), strict=True):
        other.data = own.data.flip(axis) if own.ndim == 4 else own.data
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(mirrored(image.flip(axis)).flip(axis), backbone(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_one_image_with_dots_is_learnt(stride: int) -> None:
    torch.manual_seed(0)
    backbone = S3K(output_stride=stride)
    head = HeatmapConv(32, 1)
    image, target = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32 // stride, 32 // stride)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    side = 32 // stride
    for x, y in (torch.rand(3, 2) * 31).tolist():
        image += torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
        u, v = (x + 0.5) / stride - 0.5, (y + 0.5) / stride - 0.5
        squared = (columns[:side, :side] - u) ** 2 + (rows[:side, :side] - v) ** 2
        target = torch.maximum(target, torch.exp(-squared / 2))
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3)
    floor = F.binary_cross_entropy(target, target).item()
    above_floor = []
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(head(backbone(image)), target)
        above_floor.append(loss.item() - floor)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert above_floor[-1] < 0.5 * above_floor[0]


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^S3K needs n_channels_in >= 1, got 0"):
        S3K(n_channels_in=0)
    with pytest.raises(ValueError, match=r"^S3K needs an output_stride of 1, 2, 4, got 8"):
        S3K(output_stride=8)
