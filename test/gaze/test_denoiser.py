"""The denoiser: size, zero start, gradients, time, tokens, places."""

from pathlib import Path

import pytest
import torch
from torch import nn

from keypoint_detection.gaze.denoiser import Denoiser
from keypoint_detection.gaze.denoiser_attention import TokenOverlay
from keypoint_detection.gaze.denoiser_blocks import Halve, TimedResidual, TimeEmbedding, group_norm

SMALL = {
    "map_hw": 16,
    "base_width": 8,
    "multipliers": (1, 2),
    "attention_strides": (2,),
    "context_dim": 12,
    "token_grid_hw": (4, 4),
}


def small(**options) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(**{**SMALL, **options})


def randomized(**options) -> Denoiser:
    denoiser = small(**options)
    nn.init.normal_(denoiser.leave.weight, std=0.1)
    return denoiser.eval()


def inputs(n: int = 2, map_hw: tuple[int, int] = (16, 16)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.randn(n, 1, *map_hw), torch.randint(0, 1000, (n,)), torch.randn(n, 20, 12)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({}, 0.87),
        ({"attention_strides": (2, 4), "scale_shift": False}, 0.60),
        ({"base_width": 32, "transformer_layers": 2}, 11.5),
    ],
)
def test_published_sizes(options: dict, millions: float) -> None:
    assert count(Denoiser(**options)) / 1e6 == pytest.approx(millions, rel=0.02)


@pytest.mark.parametrize("n", [1, 3])
def test_an_untrained_denoiser_predicts_zero(n: int) -> None:
    denoised = small()(*inputs(n))
    assert denoised.shape == (n, 1, 16, 16)
    assert not denoised.any()


VARIANTS = [
    {},
    {"scale_shift": False},
    {"overlay": True},
    {"n_blocks": 2, "transformer_layers": 2, "dropout": 0.1},
    {"attention_strides": (1, 2), "multipliers": (1, 2, 3)},
]


@pytest.mark.parametrize("options", VARIANTS)
def test_after_one_step_a_gradient_reaches_every_parameter(options: dict) -> None:
    denoiser = small(**options)
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=0.1)
    x, t, tokens = inputs()
    for _ in range(2):
        optimizer.zero_grad()
        (denoiser(x, t, tokens) - torch.randn_like(x)).square().mean().backward()
        optimizer.step()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 1e-9, name


@torch.no_grad()
@pytest.mark.parametrize("options", VARIANTS)
def test_time_and_every_token_and_the_map_matter(options: dict) -> None:
    denoiser, (x, t, tokens) = randomized(**options), inputs()
    expected = denoiser(x, t, tokens)
    assert (denoiser(x, t + 100, tokens) - expected).abs().max() > 1e-4
    assert (denoiser(x + 0.5 * torch.randn_like(x), t, tokens) - expected).abs().max() > 1e-3
    for index in (0, 19):
        changed = tokens.clone()
        changed[:, index] += 5 * torch.randn(12)
        assert (denoiser(x, t, changed) - expected).abs().max() > 1e-6, index


@torch.no_grad()
def test_items_do_not_see_each_other() -> None:
    denoiser, (x, t, tokens) = randomized(overlay=True), inputs(3)
    together = denoiser(x, t, tokens)
    torch.testing.assert_close(together[1:2], denoiser(x[1:2], t[1:2], tokens[1:2]), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_pixels_know_their_places() -> None:
    """A constant map: without positions, all pixels far from the border would be alike."""
    denoiser, (_, t, tokens) = randomized(map_hw=32), inputs(1)
    denoised = denoiser(torch.zeros(1, 1, 32, 32), t, tokens)[0, 0]
    assert denoised[14:18, 14:18].std() > 1e-5


@torch.no_grad()
def test_a_bright_token_lights_its_place_of_the_overlay() -> None:
    overlay = TokenOverlay(3, 2, (4, 4))
    nn.init.ones_(overlay.project.weight)
    nn.init.zeros_(overlay.project.bias)
    for row, column in ((0, 0), (1, 2), (3, 3)):
        tokens = torch.zeros(1, 20, 3)
        tokens[0, row * 4 + column] = 1.0
        laid = overlay(torch.zeros(1, 2, 16, 16), tokens)[0, 0]
        ys, xs = torch.nonzero(laid > 0.75 * laid.max(), as_tuple=True)
        assert torch.equal(ys.unique() // 4, torch.full_like(ys.unique(), row))
        assert torch.equal(xs.unique() // 4, torch.full_like(xs.unique(), column))


def test_maps_that_are_not_square() -> None:
    assert small(map_hw=(16, 24))(*inputs(1, (16, 24))).shape == (1, 1, 16, 24)


def test_bf16_autocast_stays_close() -> None:
    denoiser, (x, t, tokens) = randomized(overlay=True), inputs()
    with torch.no_grad():
        expected = denoiser(x, t, tokens)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            halved = denoiser(x, t, tokens)
    assert halved.isfinite().all()
    assert (halved.float() - expected).abs().max() < 0.05 * expected.abs().max()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        denoiser(x, t, tokens).float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in denoiser.parameters())


@torch.no_grad()
def test_channels_last_gives_the_same() -> None:
    denoiser, (x, t, tokens) = randomized(overlay=True), inputs()
    expected = denoiser(x, t, tokens)
    denoiser.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    turned = denoiser(x.contiguous(memory_format=torch.channels_last), t, tokens)
    torch.testing.assert_close(turned, expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_save_and_load_is_bit_equal(tmp_path: Path) -> None:
    first, second = randomized(overlay=True), randomized(overlay=True)
    for parameter in second.parameters():
        parameter.zero_()
    torch.save(first.state_dict(), tmp_path / "weights.pt")
    second.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(first(*inputs()), second(*inputs()))


@torch.no_grad()
def test_the_export_takes_any_batch() -> None:
    denoiser, n = randomized(overlay=True), torch.export.Dim("n", min=1, max=512)
    shapes = {"x": {0: n}, "t": {0: n}, "tokens": {0: n}}
    exported = torch.export.export(denoiser, inputs(4), dynamic_shapes=shapes).module()
    for size in (1, 5):
        torch.testing.assert_close(exported(*inputs(size)), denoiser(*inputs(size)), rtol=1e-4, atol=1e-5)


def test_steps_have_embeddings_of_their_own() -> None:
    torch.manual_seed(0)
    embedded = TimeEmbedding(8, 32)(torch.arange(1000))
    assert embedded.shape == (1000, 32)
    gaps = torch.cdist(embedded[::50], embedded[::50]) + 10 * torch.eye(20)
    assert gaps.min() > 1e-3
    torch.testing.assert_close(TimeEmbedding(8, 32).to(torch.float32)(torch.tensor([3.0])).shape, (1, 32))


@pytest.mark.parametrize("scale_shift", [True, False])
def test_the_time_reaches_the_narrowest_level(scale_shift: bool) -> None:
    """With one channel in a group an added time would be normalised away."""
    torch.manual_seed(0)
    block, features = TimedResidual(8, 8, 16, scale_shift=scale_shift), torch.randn(1, 8, 4, 4)
    first, second = (block(features, 3 * torch.randn(1, 16)) for _ in range(2))
    assert (first - second).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("n_channels", "groups"), [(8, 4), (16, 8), (24, 8), (20, 5), (56, 8), (1, 1), (2, 1)]
)
def test_groups_hold_two_channels_or_more(n_channels: int, groups: int) -> None:
    assert group_norm(n_channels).num_groups == groups


@torch.no_grad()
def test_halving_is_symmetric_about_pixel_centres() -> None:
    block, features = Halve(2), torch.randn(1, 2, 8, 8)
    block.conv.weight.copy_(block.conv.weight + block.conv.weight.flip(3))
    torch.testing.assert_close(block(features.flip(3)), block(features).flip(3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map_hw": 15}, "multiples of 2"),
        ({"base_width": 6}, "multiple of 4"),
        ({"attention_strides": (2, 4)}, "levels of stride 1, 2"),
        ({"multipliers": ()}, "levels >= 1"),
        ({"heads": 5}, "multiples of its heads"),
        ({"n_blocks": 0}, "n_blocks >= 1"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_inputs_of_another_shape_are_refused() -> None:
    x, t, tokens = inputs()
    with pytest.raises(ValueError, match=r"\[n, 1, 16, 16\]"):
        small()(x[..., :8], t, tokens)
    with pytest.raises(ValueError, match="steps"):
        small()(x, t[:1], tokens)
    with pytest.raises(ValueError, match="repeat the conditioning"):
        small()(x, t, tokens[:1])
