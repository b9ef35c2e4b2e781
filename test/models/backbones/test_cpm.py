import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.cpm import CPM, NORMALIZATIONS, GroupNorm
from keypoint_detection.models.backbones.decoder import HeatmapConv


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_parameters_are_those_published() -> None:
    with torch.device("meta"):
        backbone = CPM(n_heatmaps=16)
        head = HeatmapConv(backbone.out_channels, 16)
    assert (parameters(backbone) + parameters(head)) / 1e6 == pytest.approx(40.2, rel=0.02)


def test_parameters_by_hand() -> None:
    trunk = 81 * (3 + 128 + 128) * 128 + 3 * 256
    first = 25 * 128 * 32 + 64 + 81 * 32 * 512 + 1024 + 512 * 512 + 1024
    later = 25 * 128 * 64 + 128 + 121 * (64 + 16 + 128 + 128) * 128 + 128 * 128 + 4 * 256
    heads = [512 * 16 + 16, 128 * 16 + 16]
    for n_stages, expected in [
        (1, trunk + first),
        (2, 2 * trunk + first + later + heads[0]),
        (4, 2 * trunk + first + 3 * later + heads[0] + 2 * heads[1]),
    ]:
        with torch.device("meta"):
            assert parameters(CPM(n_stages=n_stages, n_heatmaps=16)) == expected


def columns_seen(n_stages: int, width: int) -> tuple[int, int]:
    """Return the first and the last column of a strip that the feature in its middle depends on."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, width, requires_grad=True)
    features = CPM(n_stages=n_stages, normalization="none")(image)
    features[..., width // 16].sum().backward()
    assert image.grad is not None
    columns = image.grad.abs().amax((0, 1, 2)).nonzero().flatten()
    return int(columns.min()), int(columns.max())


def test_the_first_stage_sees_160_pixels() -> None:
    """By hand: 9, pooled 10, +16 = 26, pooled 28, +32 = 60, pooled 64; then 5x5 and 9x9 at stride 8."""
    assert 64 + 4 * 8 + 8 * 8 == 160
    first, last = columns_seen(1, 8 * 25)
    assert (first + last) / 2 == (12 + 0.5) * 8 - 0.5, "over the middle of the feature's pixel"
    assert last - first + 1 == 160


def test_a_later_stage_sees_240_pixels_more_through_the_heatmaps() -> None:
    first, last = columns_seen(2, 8 * 53)
    assert last - first + 1 == 160 + 3 * 10 * 8


@pytest.mark.parametrize("n_stages", [1, 2, 4])
def test_every_stage_but_the_last_predicts(n_stages: int) -> None:
    with torch.device("meta"):
        backbone = CPM(n_stages=n_stages, n_heatmaps=5)
        features, earlier = backbone.forward_stages(torch.empty(2, 3, 65, 97))
    assert (backbone.stride, backbone.size_multiple) == (8, 8)
    assert features.shape == (2, 512 if n_stages == 1 else 128, 9, 13)
    assert [logits.shape for logits in earlier] == [(2, 5, 9, 13)] * (n_stages - 1)
    assert any("head" in name for name in backbone.state_dict()) == (n_stages > 1)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_trains_on_any_size(normalization: str) -> None:
    torch.manual_seed(0)
    backbone = CPM(n_stages=2, normalization=normalization)
    assert backbone(torch.randn(1, 3, 1, 1)).isfinite().all()
    image = torch.randn(2, 3, 33, 50)
    features = backbone(image)
    assert 0.2 < (features < 0).float().mean() < 0.8
    assert 0.05 < features.std() < 5
    (features * torch.randn(2, 128, 5, 7)).sum().backward()
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    with torch.autocast("cpu", dtype=torch.bfloat16):
        error = (backbone(image).float() - features).square().mean().sqrt() / features.square().mean().sqrt()
    assert error < 0.1


@pytest.mark.parametrize("groups", [2, 8])
def test_group_norm_by_hand(groups: int) -> None:
    torch.manual_seed(0)
    norm, features = GroupNorm(groups, 8), torch.randn(2, 8, 3, 5)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    grouped = features.reshape(2, groups, -1)
    spread = (grouped.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    expected = ((grouped - grouped.mean(-1, keepdim=True)) / spread).reshape_as(features)
    expected = expected * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(features), expected, rtol=1e-4, atol=1e-5)
    single = GroupNorm(8, 8)(torch.randn(1, 8, 1, 1))
    torch.testing.assert_close(single, torch.zeros(1, 8, 1, 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("training", [False, True])
def test_dropout_leaves_the_heatmaps_alone(training: bool) -> None:
    torch.manual_seed(0)
    backbone = CPM(n_stages=2, dropout=0.5, n_heatmaps=3).train(training)
    received: list[Tensor] = []
    backbone.later_stages[0].register_forward_pre_hook(lambda _, inputs: received.extend(inputs))
    _, earlier = backbone.forward_stages(torch.randn(1, 3, 64, 64))
    trunk, beliefs = received
    assert (trunk == 0).float().mean() == pytest.approx(0.5 if training else 0, abs=0.05)
    torch.testing.assert_close(beliefs, 1 / (1 + torch.exp(-earlier[0])))


@pytest.mark.parametrize("axis", [-1, -2])
def test_mirrored_kernels_on_a_mirrored_image_mirror_the_features(axis: int) -> None:
    torch.manual_seed(0)
    backbone, mirrored = CPM(n_stages=2).eval(), CPM(n_stages=2).eval()
    for own, other in zip(backbone.parameters(), mirrored.parameters(), strict=True):
        other.data = own.data.flip(axis) if own.ndim == 4 else own.data
    image = torch.randn(1, 3, 32, 48)
    torch.testing.assert_close(mirrored(image.flip(axis)).flip(axis), backbone(image), rtol=1e-4, atol=1e-4)


def test_a_shift_by_the_size_multiple_shifts_the_features() -> None:
    """Where the view of the first stage ends inside the image; later stages nearly always see its border."""
    torch.manual_seed(0)
    backbone = CPM(n_stages=1, normalization="none")
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None:
            nn.init.uniform_(module.bias, -0.5, 0.5)
    image = torch.randn(1, 3, 16, 8 * 25)
    features, shifted = backbone(image[..., :-8]), backbone(image[..., 8:])
    torch.testing.assert_close(features[..., 11:13], shifted[..., 10:12], rtol=1e-4, atol=1e-4)


def test_one_image_with_dots_is_learnt_by_both_stages() -> None:
    torch.manual_seed(0)
    backbone, head = CPM(n_stages=2), HeatmapConv(128, 1)
    image, target = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 4, 4)
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    for x, y in (torch.rand(3, 2) * 31).tolist():
        image += torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 2)
        u, v = (x + 0.5) / 8 - 0.5, (y + 0.5) / 8 - 0.5
        squared = (columns[:4, :4] - u) ** 2 + (rows[:4, :4] - v) ** 2
        target = torch.maximum(target, torch.exp(-squared))
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3)
    floor = F.binary_cross_entropy(target, target)
    above_floor = []
    for _ in range(8):
        features, earlier = backbone.forward_stages(image)
        losses = [F.binary_cross_entropy_with_logits(logits, target) for logits in [*earlier, head(features)]]
        above_floor.append([(loss - floor).item() for loss in losses])
        optimizer.zero_grad()
        sum(losses, start=torch.zeros(())).backward()
        optimizer.step()
    assert len(above_floor[0]) == 2
    for first, last in zip(above_floor[0], above_floor[-1], strict=True):
        assert last < 0.5 * first


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_stages": 0}, r"n_stages >= 1, got 0"),
        ({"n_channels_in": 0}, r"n_channels_in >= 1, got 0"),
        ({"n_heatmaps": 0}, r"n_heatmaps >= 1, got 0"),
        ({"normalization": "layer"}, r"a normalization of batch, group, instance, none, got 'layer'; use"),
        ({"dropout": 1.0}, r"a dropout in \[0, 1\), got 1.0"),
        ({"dropout": -0.1}, r"a dropout in \[0, 1\), got -0.1"),
        ({"dropout": float("nan")}, r"a dropout in \[0, 1\), got nan"),
    ],
)
def test_bad_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^CPM needs {message}") as caught:
        CPM(**options)
    assert "\n" not in str(caught.value)
