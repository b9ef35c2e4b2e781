import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keypoint_detection.models.point_losses import POINT_LOSSES

NAMES = POINT_LOSSES.names()
NAN = float("nan")
WING_OFFSET = 10 - 10 * math.log(6)


def coordinate_loss(name: str, pixels: float) -> float:
    """Return the loss of one coordinate that is wrong by so many pixels of a 224 px image, slowly."""
    size = abs(pixels)
    if name == "MSE":
        value = size**2 / 20
    elif name == "SmoothL1":
        value = 0.5 * size**2 if size < 1 else size - 0.5
    else:
        value = 10 * math.log(1 + size / 2) if size < 10 else size - WING_OFFSET
    return 2 / 224 * value


def channel_means(name: str, points: Tensor, target: Tensor, weight: Tensor | None) -> list[float]:
    means = []
    for channel in range(points.shape[1]):
        total = total_weight = 0.0
        for image in range(points.shape[0]):
            scale = 1.0 if weight is None else float(weight[image, channel])
            for axis in (0, 1) if scale else ():
                pixels = 224 * float(points[image, channel, axis] - target[image, channel, axis])
                total += scale * coordinate_loss(name, pixels) / 2
            total_weight += scale
        means.append(total / total_weight if total_weight else 0.0)
    return means


def example(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return points, targets with errors from far below one pixel to tens of pixels, weights with zeros."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(4, 3, 2, generator=generator)
    size = 10 ** (4 * torch.rand(4, 3, 2, generator=generator) - 2) / 224
    points = target + size * torch.randn(4, 3, 2, generator=generator).sign()
    weight = (2 * torch.rand(4, 3, generator=generator) - 0.5).clamp(min=0)
    return points, target, weight


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 9999), weighted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_equals_slow_reference(name: str, seed: int, weighted: bool) -> None:
    points, target, weight = example(seed)
    given_weight = weight if weighted else None
    expected = channel_means(name, points.double(), target.double(), given_weight)
    assert POINT_LOSSES[name](points, target, given_weight).tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "pixels", "expected"),
    [
        ("MSE", 10.0, 5.0),
        ("MSE", 0.5, 0.0125),
        ("SmoothL1", 10.0, 9.5),
        ("SmoothL1", 1.0, 0.5),
        ("SmoothL1", 0.5, 0.125),
        ("Wing", 2.0, 6.931472),  # 10 ln 2
        ("Wing", 8.0, 16.094379),  # 10 ln 5
        ("Wing", 10.0, 17.917595),  # 10 ln 6
        ("Wing", 12.0, 19.917595),
    ],
)
def test_by_hand(name: str, pixels: float, expected: float) -> None:
    target = torch.tensor([[[0.25, 0.5]]])
    for sign in (-1, 1):
        value = POINT_LOSSES[name](target + sign * pixels / 224, target)
        assert float(value) == pytest.approx(expected / 112, rel=1e-4)
    one_axis = POINT_LOSSES[name](target + torch.tensor([pixels / 224, 0.0]), target)
    assert float(one_axis) == pytest.approx(expected / 224, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "pixels", "slope"),
    [
        ("MSE", 10.0, 1.0),
        ("MSE", 5.0, 0.5),
        ("SmoothL1", 10.0, 1.0),
        ("SmoothL1", 0.25, 0.25),
        ("Wing", 8.0, 1.0),  # 10 / (2 + 8)
        ("Wing", 3.0, 2.0),
        ("Wing", 50.0, 1.0),
    ],
)
def test_errors_of_ten_pixels_have_a_gradient_of_one(name: str, pixels: float, slope: float) -> None:
    target = torch.rand(5, 3, 2)
    shift = torch.full((3, 2), pixels / 224, requires_grad=True)  # of the points of all images at once
    POINT_LOSSES[name](target + shift, target).sum().backward()
    assert shift.grad is not None
    torch.testing.assert_close(shift.grad, torch.full((3, 2), slope), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_target_is_the_minimum_and_the_loss_rises_from_there(name: str) -> None:
    target = torch.full((1, 1, 2), 0.5)
    pixels = [0.0, 0.3, 0.999, 1.001, 4.0, 9.999, 10.001, 100.0]
    values = [float(POINT_LOSSES[name](target + distance / 224, target)) for distance in pixels]
    assert values[0] == 0
    assert values == sorted(values)
    assert len(set(values)) == len(values)
    points = target.clone().requires_grad_()
    POINT_LOSSES[name](points, target).sum().backward()
    assert points.grad is not None
    assert (points.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_absent_points_are_nan_and_leave_no_trace(name: str) -> None:
    points, target, _ = example(0)
    weight = torch.ones(4, 3)
    weight[0, 0] = weight[:, 1] = 0.0
    target = torch.where(weight[..., None] > 0, target, NAN)
    points.requires_grad_()
    value = POINT_LOSSES[name](points, target, weight)
    value.sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    assert (points.grad[weight == 0] == 0).all()
    assert (points.grad[weight > 0] != 0).all()
    assert value[1] == 0
    left = POINT_LOSSES[name](points[1:, :1], target[1:, :1])
    torch.testing.assert_close(value[:1], left)
    torch.testing.assert_close(POINT_LOSSES[name](points, target, 7 * weight), value)


@pytest.mark.parametrize("name", NAMES)
def test_no_label_at_all_is_zero_with_a_zero_gradient(name: str) -> None:
    points = torch.rand(2, 3, 2, requires_grad=True)
    value = POINT_LOSSES[name](points, torch.full((2, 3, 2), NAN), torch.zeros(2, 3))
    value.sum().backward()
    assert value.tolist() == [0.0, 0.0, 0.0]
    assert points.grad is not None
    assert (points.grad == 0).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    points, target, weight = (values.to(dtype) for values in example(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = POINT_LOSSES[name](points, target, weight)
    assert value.dtype == torch.float32
    assert torch.equal(value, POINT_LOSSES[name](points.float(), target.float(), weight.float()))


@pytest.mark.parametrize("name", NAMES)
def test_shapes_must_agree(name: str) -> None:
    points, target, weight = example(0)
    with pytest.raises(ValueError, match=r"^points and target need .* got \[4, 1, 2\] and \[4, 3, 2\];.*$"):
        POINT_LOSSES[name](points[:, :1], target)
    with pytest.raises(ValueError, match=r"the same shape \[n, c, 2\], got \[4, 3, 1\] and \[4, 3, 1\];"):
        POINT_LOSSES[name](points[..., :1], target[..., :1])
    with pytest.raises(ValueError, match=r"^the weight of points \[4, 3, 2\] .* got \[4, 3, 1\];.*$"):
        POINT_LOSSES[name](points, target, weight[..., None])


def test_the_nearest_name_is_offered() -> None:
    assert NAMES == ["MSE", "SmoothL1", "Wing"]
    with pytest.raises(ValueError, match=r"unknown loss of --head regression 'BCE'; known: MSE, SmoothL1"):
        POINT_LOSSES["BCE"]
