import pytest
import torch
from torch import nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.backbones.dilated_cnn import DilatedCnn


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_by_hand() -> None:
    assert parameters(DilatedCnn()) == (27 * 32 + 32) + 11 * (32 * 32 * 9 + 32) == 102_624
    assert parameters(DilatedCnn()) + parameters(HeatmapConv(32, 1)) == pytest.approx(102_000, rel=0.02)
    assert parameters(DilatedCnn(n_channels=8, n_channels_in=1)) == (9 * 8 + 8) + 11 * (8 * 8 * 9 + 8)


def test_features_equal_the_layers_one_by_one() -> None:
    torch.manual_seed(0)
    backbone, image = DilatedCnn(n_channels=4), torch.randn(2, 3, 40, 37)
    convolutions = [module for module in backbone.modules() if isinstance(module, nn.Conv2d)]
    expected = image
    for index, dilation in enumerate([1, 1, 2, 4, 8, 16, 1, 2, 4, 8, 16, 1]):
        padded = F.pad(expected, (dilation,) * 4)
        weight, bias = convolutions[index].weight, convolutions[index].bias
        expected = torch.zeros(2, 4, 40, 37)
        for row in range(3):
            for column in range(3):
                top, left = row * dilation, column * dilation
                shifted = padded[:, :, top : top + 40, left : left + 37]
                expected = expected + torch.einsum("oc,nchw->nohw", weight[:, :, row, column], shifted)
        expected = expected + bias[:, None, None]  # pyright: ignore[reportOptionalSubscript]
        if index < 11:
            expected = torch.where(expected > 0, expected, 0.01 * expected)
    torch.testing.assert_close(backbone(image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_channels", [8, 32, 64])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_features_start_at_a_scale_near_one(n_channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    assert 0.1 < DilatedCnn(n_channels=n_channels)(torch.randn(2, 3, 64, 96)).std() < 2


def test_a_feature_sees_129_pixels() -> None:
    """One row of pixels is enough: each layer adds twice its dilation, 1 + 2 (1 + 1 + 2 + ... + 1) = 129."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, 1, 151, requires_grad=True)
    DilatedCnn(n_channels=8)(image)[..., 75].sum().backward()
    assert image.grad is not None
    columns = image.grad.abs().amax((0, 1, 2)).nonzero().flatten()
    assert (int(columns.min()), int(columns.max())) == (75 - 64, 75 + 64)


@pytest.mark.parametrize("axis", [-1, -2])
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(axis: int) -> None:
    torch.manual_seed(0)
    backbone, mirrored = DilatedCnn(n_channels=8), DilatedCnn(n_channels=8)
    for own, other in zip(backbone.parameters(), mirrored.parameters(), strict=True):
        other.data = own.data.flip(axis) if own.ndim == 4 else own.data
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(mirrored(image.flip(axis)).flip(axis), backbone(image), rtol=1e-4, atol=1e-4)


def test_one_image_with_dots_is_learnt() -> None:
    torch.manual_seed(0)
    backbone = DilatedCnn()
    head = HeatmapConv(32, 1)
    image, target = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32, 32)
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for x, y in (torch.rand(3, 2) * 31).tolist():
        squared = (columns - x) ** 2 + (rows - y) ** 2
        image += torch.exp(-squared / 2)
        target = torch.maximum(target, torch.exp(-squared / 8))
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


@pytest.mark.parametrize("option", ["n_channels", "n_channels_in"])
def test_bad_options_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=rf"^DilatedCnn needs {option} >= 1, got 0; use --{option} 1"):
        DilatedCnn(**{option: 0})
