import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.losses import channel_means, pixel_entropy, pixel_loss
from torch import Tensor, nn

from keypoint_detection.models.backbones.unet import Unet
from keypoint_detection.models.losses import LOSSES, entropy_floor, foreground_weight
from keypoint_detection.utils.heatmap import generate_heatmaps

NAMES = LOSSES.names()
INITIAL_LOGIT = -4.0


def maps(
    seed: int, weighted: bool, shape: tuple[int, ...] = (2, 3, 4, 5)
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return random logits, targets with exact zeros and ones among them, and weights with zeros."""
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(shape, generator=generator)
    target = (3 * torch.rand(shape, generator=generator) - 1).clamp(0, 1)
    weight = (2 * torch.rand(shape, generator=generator) - 0.5).clamp(min=0)
    return logits, target, weight if weighted else None


def array(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.double().numpy()


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 9999), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_equals_slow_reference(name: str, seed: int, weighted: bool) -> None:
    logits, target, weight = maps(seed, weighted)
    values = np.vectorize(lambda logit, t: pixel_loss(name, logit, t))(logits.double(), target.double())
    assert LOSSES[name](logits, target, weight).tolist() == pytest.approx(
        channel_means(values, array(weight)), rel=1e-4, abs=1e-6
    )


@given(seed=st.integers(0, 9999), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_entropy_floor_equals_slow_reference(seed: int, weighted: bool) -> None:
    _, target, weight = maps(seed, weighted)
    values = np.vectorize(pixel_entropy)(target.double())
    assert entropy_floor(target, weight).tolist() == pytest.approx(
        channel_means(values, array(weight)), rel=1e-4, abs=1e-6
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [("BCE", math.log(2)), ("MSE", 0.0), ("SmoothL1", 0.0)],
)
def test_by_hand_at_a_half(name: str, expected: float) -> None:
    half = torch.full((1, 1, 2, 2), 0.5)
    assert float(LOSSES[name](torch.zeros_like(half), half)) == pytest.approx(expected, abs=1e-6)
    assert float(entropy_floor(half)) == pytest.approx(math.log(2))


def test_by_hand_on_background() -> None:
    zero = torch.zeros(1, 1, 1, 1)
    assert float(LOSSES["BCE"](zero, zero)) == pytest.approx(0.693147, abs=1e-5)
    assert float(LOSSES["MSE"](zero, zero)) == pytest.approx(28 * 0.25)
    assert float(LOSSES["SmoothL1"](zero, zero)) == pytest.approx(28 * 0.45)


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_the_minimum(name: str) -> None:
    target = torch.rand(2, 3, 4, 4) * 0.98 + 0.01
    logits = target.logit().requires_grad_()
    least = LOSSES[name](logits, target)
    least.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-5
    assert (LOSSES[name](logits.detach() + 0.3, target) > least).all()
    assert (LOSSES[name](logits.detach() - 0.3, target) > least).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_floor_is_what_the_cross_entropy_reaches(weighted: bool) -> None:
    target = torch.rand(2, 3, 4, 4) * 0.98 + 0.01
    weight = torch.rand(2, 3, 4, 4) if weighted else None
    reached = LOSSES["BCE"](target.logit(), target, weight)
    torch.testing.assert_close(reached, entropy_floor(target, weight), rtol=1e-4, atol=1e-6)


def test_entropy_floor_of_certain_and_faint_targets() -> None:
    certain = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    assert entropy_floor(certain).tolist() == [0.0, 0.0]
    faint = 1e-10
    exact = -faint * math.log(faint) + faint
    assert float(entropy_floor(torch.full((1, 1, 1, 1), faint))) == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_weights_leave_pixels_out(name: str) -> None:
    logits, target, _ = maps(0, False)
    weight = torch.ones_like(target)
    weight[..., 0] = 0.0
    spoiled = logits.clone()
    spoiled[..., 0] = 50.0
    torch.testing.assert_close(
        LOSSES[name](spoiled, target, weight), LOSSES[name](logits[..., 1:], target[..., 1:])
    )
    torch.testing.assert_close(LOSSES[name](logits, target, 7 * weight), LOSSES[name](logits, target, weight))


@pytest.mark.parametrize("name", NAMES)
def test_a_channel_without_weight_is_zero_and_has_no_gradient(name: str) -> None:
    logits, target, _ = maps(0, False)
    weight = torch.ones_like(target)
    weight[:, 1] = 0.0
    logits.requires_grad_()
    value = LOSSES[name](logits, target, weight)
    value.sum().backward()
    assert value[1] == 0
    assert (value[[0, 2]] > 0).all()
    assert logits.grad is not None
    assert (logits.grad[:, 1] == 0).all()
    assert entropy_floor(target, weight)[1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_stay_finite(name: str) -> None:
    logits = torch.tensor([-1e4, 1e4]).reshape(1, 1, 1, 2).requires_grad_()
    value = LOSSES[name](logits, torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2))
    value.sum().backward()
    assert value.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits, target, weight = maps(1, True)
    assert weight is not None
    logits, target, weight = logits.to(dtype), target.to(dtype), weight.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](logits, target, weight)
    assert value.dtype == torch.float32
    expected = LOSSES[name](logits.float(), target.float(), weight.float())
    assert torch.equal(value, expected)


@pytest.mark.parametrize("name", NAMES)
def test_memory_order_changes_nothing(name: str) -> None:
    logits, target, weight = maps(2, True)
    moved = logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(LOSSES[name](moved, target, weight), LOSSES[name](logits, target, weight))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_must_agree(name: str) -> None:
    logits, target, _ = maps(0, False)
    with pytest.raises(ValueError, match=r"logits and target need the same shape .*got \[2, 1, 4, 5\] and"):
        LOSSES[name](logits[:, :1], target)
    with pytest.raises(ValueError, match="weight and target need the same shape"):
        LOSSES[name](logits, target, torch.ones(4, 5))


def test_unknown_loss_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown loss 'smoothl1'; known: .*Did you mean 'SmoothL1'\?"):
        LOSSES["smoothl1"]


def test_foreground_weight() -> None:
    weight = foreground_weight(torch.tensor([0.0, 0.5, 1.0]), gain=10.0)
    assert weight.tolist() == [1.0, 6.0, 11.0]


@pytest.mark.parametrize(("target", "ratio"), [(0.0, 1.0), (1.0, 21.0)])
def test_squared_error_starts_with_the_gradient_of_cross_entropy(target: float, ratio: float) -> None:
    slopes = []
    for name in ("BCE", "MSE"):
        logit = torch.full((1, 1, 1, 1), INITIAL_LOGIT, requires_grad=True)
        LOSSES[name](logit, torch.full((1, 1, 1, 1), target)).sum().backward()
        assert logit.grad is not None
        slopes.append(float(logit.grad))
    assert slopes[1] / slopes[0] == pytest.approx(ratio, rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_four_images_are_learned_from_the_initial_bias(name: str) -> None:
    """The maps are nearly empty: a loss that collapses to all-zero maps never finds its four dots again."""
    torch.manual_seed(0)
    points = torch.rand(4, 1, 1, 2) * 48 + 8
    target = generate_heatmaps(points, torch.full((4, 1, 1), 2), (64, 64), 2.0)
    images = 0.3 * torch.randn(4, 3, 64, 64)
    images[:, :1] += 2 * generate_heatmaps(points, torch.full((4, 1, 1), 2), (64, 64), 1.5)
    images[:, :2] -= generate_heatmaps(torch.rand(4, 1, 5, 2) * 63, torch.full((4, 1, 5), 2), (64, 64), 1.5)
    head = nn.Conv2d(16, 1, 3, padding=1)
    nn.init.normal_(head.weight, std=0.001)
    nn.init.constant_(head.bias, INITIAL_LOGIT)  # pyright: ignore[reportArgumentType]
    model = nn.Sequential(Unet(n_channels=16, n_resnet_blocks=1), head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        LOSSES[name](model(images), target).sum().backward()
        optimizer.step()
    chances = model(images).detach().sigmoid().flatten(1)
    best = chances.argmax(1)
    found = torch.stack([best % 64, best // 64], dim=1)
    assert (found - points[:, 0, 0]).norm(dim=1).max() <= 2
    assert chances.amax(1).min() > 0.5
