import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.losses import channel_losses, channel_means, pixel_entropy
from torch import Tensor, nn

from keypoint_detection.models.backbones.unet import Unet
from keypoint_detection.models.losses import LOSSES, entropy_floor, foreground_weight, peak_pixels
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
    expected = channel_losses(name, logits.double().numpy(), target.double().numpy(), array(weight))
    assert LOSSES[name](logits, target, weight).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-6)


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
    # Focal: all four pixels are equal, so all are peaks: 23 (1 / 2)^2 ln 2
    [
        ("BCE", math.log(2)),
        ("MSE", 0.0),
        ("SmoothL1", 0.0),
        ("AdaptiveWing", 0.0),
        ("KL", 0.0),
        ("Focal", 23 * 0.25 * math.log(2)),
    ],
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
    assert float(LOSSES["Focal"](zero, zero)) == pytest.approx(23 * 0.25 * 0.693147, rel=1e-5)
    # |d| = 1 / 2 is where the line begins: 14 ln(1 + 0.5^2.1) = 14 ln 1.233258
    assert float(LOSSES["AdaptiveWing"](zero, zero)) == pytest.approx(2.88 * 2.93522, rel=1e-4)
    assert float(LOSSES["KL"](zero, zero)) == pytest.approx(0.5)


def test_by_hand_at_a_peak() -> None:
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    assert float(LOSSES["Focal"](zero, one)) == pytest.approx(23 * 0.25 * 0.693147, rel=1e-5)
    # -log(1 / 2) - 1 + 1 / 2
    assert float(LOSSES["KL"](zero, one)) == pytest.approx(0.193147, abs=1e-5)
    # |d| = 3 / 4 with a power of 1.1: A = 14 1.1 0.5^0.1 / (1 + 0.5^1.1) = 9.7976; 14 ln(1.466517) = 5.3605
    quarter = torch.full((1, 1, 1, 1), 0.25).logit()
    assert float(LOSSES["AdaptiveWing"](quarter, one)) == pytest.approx(
        2.88 * 21 * (9.7976 * 0.25 + 5.3605), rel=1e-4
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name != "Focal"])
def test_the_target_is_the_minimum(name: str) -> None:
    """The focal loss is another matter: its best answer is 1 at a peak, and 0 elsewhere."""
    target = torch.rand(2, 3, 4, 4) * 0.98 + 0.01
    logits = target.logit().requires_grad_()
    least = LOSSES[name](logits, target)
    least.sum().backward()
    assert logits.grad is not None
    if name != "AdaptiveWing":  # at a peak it has a kink there: rounding decides which way it pulls
        assert logits.grad.abs().max() < 1e-5
    assert (LOSSES[name](logits.detach() + 0.3, target) > least).all()
    assert (LOSSES[name](logits.detach() - 0.3, target) > least).all()


def test_focal_wants_a_one_at_each_peak_and_nothing_elsewhere() -> None:
    points = torch.tensor([[3.2, 4.4], [9.0, 6.5]]).view(1, 1, 2, 2)
    target = generate_heatmaps(points, torch.full((1, 1, 2), 2), (12, 14), 1.5)
    perfect = torch.where(peak_pixels(target), 20.0, -20.0)
    assert float(LOSSES["Focal"](perfect, target)) < 1e-6
    # beside a peak, a wrong 1 costs (1 - t)^4 of what it costs far away
    beside, away = perfect.clone(), perfect.clone()
    beside[0, 0, 4, 4], away[0, 0, 11, 0] = 20.0, 20.0
    share = float(LOSSES["Focal"](beside, target)) / float(LOSSES["Focal"](away, target))
    assert share == pytest.approx(float((1 - target[0, 0, 4, 4]) ** 4), rel=1e-3)


@given(x=st.floats(0, 13), y=st.floats(0, 11), sigma=st.floats(0.5, 4))
@settings(max_examples=40, deadline=None)
def test_the_peak_is_the_pixel_nearest_to_the_keypoint(x: float, y: float, sigma: float) -> None:
    target = generate_heatmaps(torch.tensor([[[[x, y]]]]), torch.full((1, 1, 1), 2), (12, 14), sigma)
    rows, columns = torch.where(peak_pixels(target)[0, 0])
    distances = (torch.arange(12)[:, None] - y).square() + (torch.arange(14) - x).square()
    assert len(rows) in (1, 2, 4)
    assert distances[rows, columns].tolist() == pytest.approx([float(distances.min())] * len(rows), abs=1e-4)


def test_halfway_between_pixels_all_of_the_nearest_are_peaks() -> None:
    target = generate_heatmaps(torch.tensor([[[[3.5, 4.5]]]]), torch.full((1, 1, 1), 2), (9, 9), 2.0)
    assert torch.nonzero(peak_pixels(target)[0, 0]).tolist() == [[4, 3], [4, 4], [5, 3], [5, 4]]
    assert not peak_pixels(torch.zeros(1, 1, 4, 4)).any()


@pytest.mark.parametrize("n_points", [0, 1, 3])
def test_kl_pins_the_level_of_maps_with_any_number_of_keypoints(n_points: int) -> None:
    points = torch.tensor([[3.2, 4.4], [9.0, 6.5], [6.1, 9.9]])[:n_points].view(1, 1, n_points, 2)
    target = generate_heatmaps(points, torch.full((1, 1, n_points), 2), (12, 14), 1.5)
    target = target.clamp(1e-6, 1 - 1e-6)
    at_target = float(LOSSES["KL"](target.logit(), target))
    half = float(LOSSES["KL"]((target / 2).logit(), target))
    assert at_target == pytest.approx(0, abs=1e-6)
    # the same shape at half the height: T (log 2 - 1 + 1 / 2)
    assert half == pytest.approx(float(target.mean()) * (math.log(2) - 0.5), abs=1e-6)


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


def initial_slope(name: str, target: float) -> float:
    """Return the gradient of a loss with respect to one logit at the start."""
    logit = torch.full((1, 1, 1, 1), INITIAL_LOGIT, requires_grad=True)
    LOSSES[name](logit, torch.full((1, 1, 1, 1), target)).sum().backward()
    assert logit.grad is not None
    return float(logit.grad)


@pytest.mark.parametrize("name", ["AdaptiveWing", "KL", "MSE"])
def test_the_background_starts_with_the_gradient_of_cross_entropy(name: str) -> None:
    assert initial_slope(name, 0.0) / initial_slope("BCE", 0.0) == pytest.approx(1, rel=0.02)


def test_a_peak_of_the_focal_loss_starts_with_the_pull_of_cross_entropy() -> None:
    target = generate_heatmaps(torch.tensor([[[[15.2, 16.4]]]]), torch.full((1, 1, 1), 2), (32, 32), 2.0)
    pulls = []
    for name in ("BCE", "Focal"):
        logits = torch.full((1, 1, 32, 32), INITIAL_LOGIT, requires_grad=True)
        (LOSSES[name](logits, target) - LOSSES[name](logits, torch.zeros_like(target))).sum().backward()
        assert logits.grad is not None
        pulls.append(float(logits.grad.sum()))
    assert pulls[1] / pulls[0] == pytest.approx(1, rel=0.03)


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
