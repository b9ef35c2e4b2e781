import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.models.losses import entropy_floor
from keypoint_detection.models.losses_signed import SIGNED_LOSSES, signed_map

NAMES = SIGNED_LOSSES.names()


def slow_value(name: str, logit: float, target: float) -> float:
    value = 2 / (1 + math.exp(-logit)) - 1
    if name == "BCE":
        p, t = (value + 1) / 2, (target + 1) / 2
        return -t * math.log(p) - (1 - t) * math.log(1 - p)
    difference = abs(value - target)
    if name == "MSE":
        return 0.5 * (1 + 20 * abs(target)) * difference**2
    bent = difference**2 / 0.4 if difference < 0.2 else difference - 0.1
    return 0.5 * (1 + 20 * abs(target)) * bent


def test_other_losses_are_refused_in_one_line() -> None:
    with pytest.raises(ValueError, match=r"^unknown loss of --occlusion signed 'Focal'; known: BCE, MSE, Sm"):
        SIGNED_LOSSES["Focal"]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_losses_equal_a_sum_over_pixels(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    logits, target = random.normal(0, 3, (2, 3, 4, 5)), random.uniform(-1, 1, (2, 3, 4, 5))
    weight = random.uniform(0, 1, (2, 3, 4, 5))
    values = np.vectorize(lambda x, t: slow_value(name, x, t))(logits, target)
    tensors = [torch.from_numpy(part).float() for part in (logits, target, weight)]
    plain, weighted = SIGNED_LOSSES[name](*tensors[:2]), SIGNED_LOSSES[name](*tensors)
    np.testing.assert_allclose(plain, values.mean((0, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(weighted, (values * weight).sum((0, 2, 3)) / weight.sum((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_sign_has_no_favourite(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 6, generator=generator)
    target = torch.rand(2, 3, 6, 6, generator=generator) * 2 - 1
    torch.testing.assert_close(SIGNED_LOSSES[name](logits, target), SIGNED_LOSSES[name](-logits, -target))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", [-0.9, -0.3, 0.0, 0.4, 0.95])
def test_the_target_is_the_best_answer(name: str, target: float) -> None:
    logits = torch.linspace(-6, 6, 1201)[:, None, None, None]
    values = torch.stack([SIGNED_LOSSES[name](x[None], torch.full((1, 1, 1, 1), target))[0] for x in logits])
    assert float(signed_map(logits[values.argmin()])) == pytest.approx(target, abs=0.01)


@pytest.mark.parametrize("name", ["BCE", "MSE"])
def test_at_the_start_a_pixel_of_the_background_pulls_nowhere_and_a_faint_one_alike(name: str) -> None:
    logits = torch.zeros(1, 1, 1, 2, requires_grad=True)
    SIGNED_LOSSES[name](logits, torch.tensor([[[[0.0, 1e-4]]]])).sum().backward()
    assert logits.grad is not None
    assert logits.grad[0, 0, 0, 0] == 0
    assert logits.grad[0, 0, 0, 1] == pytest.approx(-1e-4 / 2 / 2, rel=0.01)  # half of two pixels' mean


def test_the_entropy_of_the_target_is_the_least_cross_entropy() -> None:
    target = torch.rand(1, 2, 5, 5, generator=torch.Generator().manual_seed(0)) * 1.8 - 0.9
    best = SIGNED_LOSSES["BCE"](((target + 1) / 2).logit(), target)
    torch.testing.assert_close(best, entropy_floor((target + 1) / 2))


def test_shapes_that_differ_are_refused() -> None:
    for name in NAMES:
        with pytest.raises(ValueError, match="need the same shape"):
            SIGNED_LOSSES[name](torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 5))
