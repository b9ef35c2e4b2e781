import pytest
import torch
from torch import nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.backbones.hourglass import FeedBack, Hourglass, HourglassLevel


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("hourglasses", "blocks", "millions"), [(1, 4, 3.6), (2, 4, 7.4), (2, 5, 28.9), (4, 2, 1.4)]
)
def test_parameters_are_those_published(hourglasses: int, blocks: int, millions: float) -> None:
    with torch.device("meta"):
        backbone = Hourglass(n_hourglasses=hourglasses, n_hg_blocks=blocks)
        head = HeatmapConv(backbone.out_channels, 1)
    assert (parameters(backbone) + parameters(head)) / 1e6 == pytest.approx(millions, rel=0.06)


def block(in_channels: int, out_channels: int, kernel_size: int) -> int:
    """Return the parameters of a convolution without bias and its normalisation."""
    return kernel_size**2 * in_channels * out_channels + 2 * out_channels


def bottleneck(width: int) -> int:
    return block(width, width // 4, 1) + block(width // 4, width // 4, 3) + block(width // 4, width, 1)


def test_parameters_by_hand() -> None:
    level, bottom = {}, {}
    for width in (8, 16):
        level[width] = 2 * bottleneck(width) + bottleneck(2 * width)
        level[width] += block(width, 2 * width, 1) + block(2 * width, width, 1)
        bottom[width] = bottleneck(2 * width)
    assert parameters(HourglassLevel(8, 1)) == level[8] + bottom[8]
    assert parameters(HourglassLevel(8, 2)) == level[8] + level[16] + bottom[16]
    outer = 4 * block(8, 8, 3) + block(8, 8, 1)
    stem = block(3, 8, 3) + block(8, 8, 3)
    stage = outer + level[8] + level[16] + bottom[16]
    feed_back = (8 * 5 + 5) + (8 * 8 + 8) + 5 * 8
    options = {"n_channels": 8, "n_hg_blocks": 2, "n_heatmaps": 5}
    assert parameters(Hourglass(n_hourglasses=1, **options)) == stem + stage
    assert parameters(Hourglass(n_hourglasses=3, **options)) == stem + 3 * stage + 2 * feed_back


@pytest.mark.parametrize("hourglasses", [1, 2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_stage_but_the_last_predicts(hourglasses: int, stride: int) -> None:
    torch.manual_seed(0)
    backbone = Hourglass(
        n_channels=8, n_hourglasses=hourglasses, n_hg_blocks=2, output_stride=stride, n_heatmaps=5
    )
    assert backbone.size_multiple == 4 * stride
    features, earlier = backbone.forward_stages(torch.randn(2, 3, 65, 97))
    height, width = -(-65 // stride), -(-97 // stride)
    assert features.shape == (2, 8, height, width)
    assert [logits.shape for logits in earlier] == [(2, 5, height, width)] * (hourglasses - 1)
    assert all(0.01 < logits.sigmoid().mean() < 0.03 for logits in earlier)


@pytest.mark.parametrize("hourglasses", [1, 3])
def test_a_gradient_reaches_every_parameter(hourglasses: int) -> None:
    torch.manual_seed(0)
    backbone = Hourglass(n_channels=16, n_hourglasses=hourglasses, n_hg_blocks=2, n_heatmaps=2)
    assert any(name.endswith("head.weight") for name in backbone.state_dict()) == (hourglasses > 1)
    (backbone(torch.randn(2, 3, 64, 64)) * torch.randn(2, 16, 16, 16)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_next_stage_starts_from_probabilities() -> None:
    torch.manual_seed(0)
    feed_back = FeedBack(4, 2)
    start, features = torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3)
    before, (following, logits) = start.clone(), feed_back(start, features)
    torch.testing.assert_close(logits, feed_back.head(features))
    probabilities = 1 / (1 + torch.exp(-logits))
    weight = feed_back.from_heatmaps.weight[:, :, 0, 0]
    maps = torch.einsum("oc,nchw->nohw", weight, probabilities)
    torch.testing.assert_close(following, before + feed_back.from_features(features) + maps)
    assert torch.equal(start, before)


def test_a_level_adds_the_upsampled_half_to_its_own_size() -> None:
    torch.manual_seed(0)
    level = HourglassLevel(4, 1).eval()
    level.skip = level.before = level.inner = level.after = nn.Identity()  # pyright: ignore
    features = torch.randn(1, 4, 4, 6)
    halved = features.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    lower = level.narrow(level.widen(halved)).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(level(features), features + lower)


@pytest.mark.parametrize("depth", [1, 4, 5])
@pytest.mark.parametrize("batch", [1, 2])
def test_one_pixel_in_training(depth: int, batch: int) -> None:
    backbone = Hourglass(n_channels=4, n_hourglasses=2, n_hg_blocks=depth)
    assert backbone(torch.randn(batch, 3, 1, 1)).shape == (batch, 4, 1, 1)


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("axis", [-1, -2])
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(stride: int, axis: int) -> None:
    torch.manual_seed(0)
    options = {"n_channels": 8, "n_hourglasses": 2, "n_hg_blocks": 2, "output_stride": stride}
    backbone, mirrored = Hourglass(**options).eval(), Hourglass(**options).eval()
    for own, other in zip(backbone.parameters(), mirrored.parameters(), strict=True):
        other.data = own.data.flip(axis) if own.ndim == 4 else own.data
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(mirrored(image.flip(axis)).flip(axis), backbone(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("hourglasses", "stride"), [(1, 4), (3, 4)])
def test_one_image_with_dots_is_learnt_by_every_stage(hourglasses: int, stride: int) -> None:
    torch.manual_seed(0)
    backbone = Hourglass(n_channels=32, n_hourglasses=hourglasses, n_hg_blocks=2, output_stride=stride)
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
    floor = F.binary_cross_entropy(target, target)
    above_floor = []
    for _ in range(60):
        features, earlier = backbone.forward_stages(image)
        losses = [F.binary_cross_entropy_with_logits(logits, target) for logits in [*earlier, head(features)]]
        above_floor.append([(loss - floor).item() for loss in losses])
        optimizer.zero_grad()
        sum(losses, start=torch.zeros(())).backward()
        optimizer.step()
    for first, last in zip(above_floor[0], above_floor[-1], strict=True):
        assert last < 0.5 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_channels": 3}, "n_channels >= 4, got 3"),
        ({"n_channels_in": 0}, "n_channels_in >= 1, got 0"),
        ({"n_hourglasses": 0}, "n_hourglasses >= 1, got 0"),
        ({"n_hg_blocks": 0}, "n_hg_blocks >= 1, got 0"),
        ({"n_heatmaps": 0}, "n_heatmaps >= 1, got 0"),
        ({"output_stride": 8}, "an output_stride of 1, 2, 4, got 8"),
    ],
)
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^Hourglass needs {message}"):
        Hourglass(**options)
