import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.gaze.noise_schedule import (
    NoiseSchedule,
    cosine_betas,
    create_noise_schedule,
    linear_betas,
    loss_weights,
    zero_terminal_snr,
)

PREDICTIONS = ("x0", "noise", "v")


def two_steps() -> NoiseSchedule:
    """Return a schedule with alpha_bar 0.64 and 0.36, whose roots are 0.8 and 0.6."""
    return NoiseSchedule(torch.tensor([0.36, 0.4375], dtype=torch.float64))


def test_conversions_by_hand() -> None:
    schedule, t = two_steps(), torch.tensor([0, 1])
    x0, noise = torch.tensor([[1.0], [1.0]]).double(), torch.tensor([[0.5], [-0.5]]).double()
    x_t = schedule.add_noise(x0, noise, t)
    assert x_t.flatten().tolist() == pytest.approx([0.8 + 0.6 * 0.5, 0.6 - 0.8 * 0.5], abs=1e-12)
    v = schedule.v_of(x0, noise, t)
    assert v.flatten().tolist() == pytest.approx([0.8 * 0.5 - 0.6, 0.6 * -0.5 - 0.8], abs=1e-12)
    assert schedule.snr().tolist() == pytest.approx([0.64 / 0.36, 0.36 / 0.64])


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["linear", "cosine"]),
    st.integers(0, 999),
    st.sampled_from(PREDICTIONS),
    st.booleans(),
    st.integers(0, 99),
)
def test_every_target_leads_back(name: str, t: int, prediction: str, terminal: bool, seed: int) -> None:
    schedule = create_noise_schedule(name, zero_terminal=terminal)
    generator = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(2, 1, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    time = torch.tensor([t, t])
    x_t = schedule.add_noise(x0, noise, time)
    target = schedule.target(x0, noise, time, prediction)  # pyright: ignore
    if not (terminal and t == 999 and prediction == "noise"):
        assert torch.allclose(schedule.x0_of(target, x_t, time, prediction), x0, atol=1e-9)  # pyright: ignore
    assert torch.allclose(schedule.noise_of(x0, x_t, time), noise, atol=1e-9)


def test_linear_betas_and_their_products() -> None:
    betas = linear_betas(1000)
    assert betas[[0, -1]].tolist() == pytest.approx([1e-4, 0.02])
    product = 1.0
    for beta in betas.tolist():
        product *= 1 - beta
    assert float(create_noise_schedule().alpha_bar[-1]) == pytest.approx(product, rel=1e-6)
    assert product == pytest.approx(4.04e-5, rel=1e-2)


def test_cosine_alpha_bar_is_the_squared_cosine() -> None:
    schedule = create_noise_schedule("cosine", 100)
    for t in (0, 10, 50, 90):
        angle = ((t + 1) / 100 + 0.008) / 1.008 * math.pi / 2
        first = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        assert float(schedule.exact_alpha_bar[t]) == pytest.approx(math.cos(angle) ** 2 / first)
    assert float(cosine_betas(100).max()) == 0.999


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_zero_terminal_keeps_the_start_and_ends_in_noise(name: str) -> None:
    plain, zero = create_noise_schedule(name), create_noise_schedule(name, zero_terminal=True)
    assert float(zero.exact_alpha_bar[-1]) == 0
    assert float(zero.exact_alpha_bar[0]) == pytest.approx(float(plain.exact_alpha_bar[0]), rel=1e-12)
    roots, moved = plain.exact_alpha_bar.sqrt(), zero.exact_alpha_bar.sqrt()
    slope = (moved[0] - moved[500]) / (roots[0] - roots[500])  # an affine map of the roots
    assert torch.allclose((moved[0] - moved) / slope, roots[0] - roots, atol=1e-12)
    assert bool((zero.exact_alpha_bar.diff() < 0).all())


def test_betas_equal_those_of_diffusers() -> None:
    diffusers = pytest.importorskip("diffusers")
    for name, other in (("linear", "linear"), ("cosine", "squaredcos_cap_v2")):
        for terminal in (False, True):
            referee = diffusers.DDIMScheduler(beta_schedule=other, rescale_betas_zero_snr=terminal)
            ours = create_noise_schedule(name, zero_terminal=terminal).alpha_bar
            assert torch.allclose(ours, referee.alphas_cumprod, atol=2e-6), (name, terminal)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_module_keeps_its_tables(dtype: torch.dtype) -> None:
    schedule = create_noise_schedule()
    expected = schedule.alpha_bar.clone()
    for cast in (schedule.to(dtype), torch.nn.Sequential(copy.deepcopy(schedule)).to(dtype)[0]):
        assert cast.alpha_bar.dtype == cast.scales.dtype == torch.float32
        assert torch.equal(cast.alpha_bar, expected)
    assert not schedule.state_dict()
    assert not list(schedule.parameters())


def test_low_precision_is_computed_in_float32() -> None:
    schedule, t = create_noise_schedule(), torch.tensor([3, 700])
    x0, noise = torch.randn(2, 2, 1, 4, 4).bfloat16()
    found = schedule.add_noise(x0, noise, t)
    assert found.dtype == torch.float32
    assert torch.equal(found, schedule.add_noise(x0.float(), noise.float(), t))
    assert schedule.target(x0, noise, t, "x0").dtype == torch.float32


def test_noisy_maps_have_the_variance_that_is_told() -> None:
    schedule = create_noise_schedule()
    noise = torch.randn(3, 40_000, generator=torch.Generator().manual_seed(0))
    spread = schedule.add_noise(torch.zeros_like(noise), noise, torch.tensor([0, 500, 999])).var(1)
    assert spread.tolist() == pytest.approx((1 - schedule.alpha_bar[[0, 500, 999]]).tolist(), rel=0.03)


SNR = torch.tensor([100.0, 5.0, 1.0, 0.25])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", [1, 1, 1, 1]),
        ("snr", [100, 5, 1, 0.25]),
        ("truncated_snr", [100, 5, 1, 1]),
        ("inverse_snr", [0.01, 0.2, 1, 4]),
        ("min_snr", [3, 3, 1, 0.25]),
        ("max_snr", [100, 5, 3, 3]),
    ],
)
def test_weights_of_the_error_of_x0(name: str, expected: list[float]) -> None:
    assert loss_weights(name, SNR, 3.0).tolist() == pytest.approx(expected)


def test_published_min_snr_weights_of_noise_and_v() -> None:
    noise = [min(snr, 5) / snr for snr in SNR.tolist()]
    v = [min(snr, 5) / (snr + 1) for snr in SNR.tolist()]
    assert loss_weights("min_snr", SNR, prediction="noise").tolist() == pytest.approx(noise)
    assert loss_weights("min_snr", SNR, prediction="v").tolist() == pytest.approx(v)


@pytest.mark.parametrize("name", ["snr", "truncated_snr", "inverse_snr", "min_snr", "max_snr"])
def test_weights_weigh_one_error_whatever_is_predicted(name: str) -> None:
    schedule, t = create_noise_schedule(), torch.tensor([5, 300, 900])
    x0, noise, wrong = torch.randn(3, 3, 8, dtype=torch.float64)
    x_t = schedule.add_noise(x0, noise, t)
    losses = []
    for prediction in PREDICTIONS:
        output = schedule.target(wrong, schedule.noise_of(wrong, x_t, t), t, prediction)  # pyright: ignore
        error = (output - schedule.target(x0, noise, t, prediction)).square().sum(1)  # pyright: ignore
        losses.append(loss_weights(name, schedule.snr()[t], 5.0, prediction) * error)  # pyright: ignore
    assert torch.allclose(losses[0], losses[1], rtol=1e-6)
    assert torch.allclose(losses[0], losses[2], rtol=1e-6)


def test_zero_terminal_weights_are_finite_or_refused() -> None:
    snr = create_noise_schedule(zero_terminal=True).snr()
    for prediction in PREDICTIONS:
        for name in ("constant", "min_snr"):
            assert bool(loss_weights(name, snr, prediction=prediction).isfinite().all())  # pyright: ignore
    assert loss_weights("min_snr", snr, prediction="noise")[-1] == 1
    with pytest.raises(ValueError, match="'inverse_snr' are infinite for prediction 'x0'"):
        loss_weights("inverse_snr", snr)
    with pytest.raises(ValueError, match="'truncated_snr' are infinite for prediction 'noise'"):
        loss_weights("truncated_snr", snr, prediction="noise")


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown noise schedule 'linar'.*linear"):
        create_noise_schedule("linar")
    with pytest.raises(ValueError, match="at least 2 timesteps, got 1"):
        create_noise_schedule(n_timesteps=1, zero_terminal=True)
    for betas in (torch.zeros(3), torch.tensor([1.0, 0.1]), torch.tensor([math.nan]), torch.zeros(0)):
        with pytest.raises(ValueError, match=r"expected betas \[T\]"):
            NoiseSchedule(betas)
    with pytest.raises(ValueError, match=r"unknown loss weights 'min_snrr'.*min_snr"):
        loss_weights("min_snrr", SNR)
    with pytest.raises(ValueError, match="expected k > 0"):
        loss_weights("min_snr", SNR, 0.0)
    with pytest.raises(ValueError, match="unknown prediction 'epsilon'"):
        two_steps().target(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0]), "epsilon")  # pyright: ignore
    with pytest.raises(ValueError, match=r"got \[2, 3\], \[2, 3\] and \[3\]"):
        two_steps().add_noise(torch.ones(2, 3), torch.ones(2, 3), torch.zeros(3, dtype=torch.int64))
    assert float(zero_terminal_snr(linear_betas(10))[-1]) == 1
