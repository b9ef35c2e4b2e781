import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keypoint_detection.gaze.noise_schedule import NoiseSchedule, create_noise_schedule
from keypoint_detection.gaze.sampling import sample, timesteps

SCHEDULES = {
    (name, terminal): create_noise_schedule(name, zero_terminal=terminal)
    for name in ("linear", "cosine")
    for terminal in (False, True)
}
PREDICTIONS = ("x0", "noise", "v")
SPACINGS = ("trailing", "leading", "linspace")


def maps(n: int = 2, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return clean maps in [-0.1, 0.1] and noise."""
    generator = torch.Generator().manual_seed(seed)
    x0 = 0.1 * (2 * torch.rand(n, 1, 4, 5, generator=generator, dtype=torch.float64) - 1)
    return x0.to(dtype), torch.randn(n, 1, 4, 5, generator=generator, dtype=torch.float64).to(dtype)


def oracle(schedule: NoiseSchedule, x0: Tensor, prediction: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a denoiser that knows the clean maps and answers what fits the state it is given."""

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        clean = x0.to(state.dtype)
        return schedule.target(clean, schedule.noise_of(clean, state, t), t, prediction)  # pyright: ignore

    return denoise


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", SCHEDULES, ids=str)
def test_oracle_recovers_the_map(kind: tuple[str, bool], prediction: str, method: str) -> None:
    schedule, (x0, noise) = SCHEDULES[kind], maps()
    for steps in (1, 2, 3, 7, 50, 333, 1000):
        if prediction == "noise" and kind[1]:
            with pytest.raises(ValueError, match="says nothing of the map at timestep 999"):
                sample(oracle(schedule, x0, "noise"), noise, schedule, steps=steps, prediction="noise")
            break
        found = sample(
            *(oracle(schedule, x0, prediction), noise, schedule),
            **{"steps": steps, "prediction": prediction, "method": method},  # pyright: ignore
        )
        assert (found - x0).abs().max() <= 1e-6, steps


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_oracle_recovers_with_any_number_of_steps(data: st.DataObject) -> None:
    total = data.draw(st.integers(2, 60))
    name = data.draw(st.sampled_from(["linear", "cosine"]))
    schedule = create_noise_schedule(name, total, zero_terminal=data.draw(st.booleans()))
    x0, noise = maps(seed=total)
    found = sample(
        *(oracle(schedule, x0, prediction := data.draw(st.sampled_from(["x0", "v"]))), noise, schedule),
        steps=data.draw(st.integers(1, total)),
        prediction=prediction,
        eta=data.draw(st.sampled_from([0.0, 0.4, 1.0])),
        spacing=data.draw(st.sampled_from(SPACINGS)),
        clip=data.draw(st.sampled_from([None, 0.1])),
    )
    assert (found - x0).abs().max() <= 1e-6


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_oracle_recovers_in_float32(prediction: str) -> None:
    schedule, (x0, noise) = SCHEDULES["linear", False], maps(dtype=torch.float32)
    found = sample(
        *(oracle(schedule, x0, prediction), noise, schedule),
        steps=50,
        prediction=prediction,  # pyright: ignore
    )
    assert found.dtype == torch.float32
    assert (found - x0).abs().max() <= 1e-6


def test_answers_in_bfloat16_leave_the_state_in_float32() -> None:
    schedule, (x0, noise) = SCHEDULES["linear", False], maps(dtype=torch.float32)
    seen = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        seen.append(state.dtype)
        return x0.bfloat16()

    found = sample(denoise, noise.bfloat16(), schedule, steps=10)
    assert set(seen) == {torch.float32} == {found.dtype}
    assert torch.equal(found, x0.bfloat16().float())


def test_two_steps_by_hand() -> None:
    schedule = NoiseSchedule(torch.tensor([0.36, 0.4375], dtype=torch.float64))  # roots 0.8, 0.6; 0.6, 0.8
    told: list[tuple[float, int]] = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        told.append((float(state), int(t)))
        return torch.tensor([[[[-0.5 if int(t) else 0.5]]]]).double()

    noise = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = sample(denoise, noise, schedule, steps=2, prediction="noise")
    # t = 1: x0 = (1 + 0.8 * 0.5) / 0.6 = 7 / 3; next state = 0.8 * 7 / 3 - 0.6 * 0.5
    second = 0.8 * 7 / 3 - 0.3
    assert told == [(1.0, 1), (pytest.approx(second), 0)]
    assert float(found) == pytest.approx((second - 0.6 * 0.5) / 0.8)
    told.clear()
    found = sample(denoise, noise, schedule, steps=2, prediction="noise", clip=0.5)
    # x0 is clipped to 0.5, the noise that fits it is (1 - 0.6 * 0.5) / 0.8 = 0.875
    assert told[1][0] == pytest.approx(0.8 * 0.5 + 0.6 * 0.875)
    assert float(found) == 0.5


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [5, 50, 64])
def test_the_state_has_the_noise_of_the_timestep_that_is_told(steps: int, spacing: str) -> None:
    # Stepping to t - 1 instead (sigma 0.582 of t = 198 under the name 179) fails here, and so does t = -1.
    schedule, (x0, noise) = SCHEDULES["linear", False], maps()
    told: list[int] = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        if told:  # the first state is the noise itself
            sigma = (state - schedule.exact_alpha_bar[t[0]].sqrt() * x0).std() / direction.std()
            assert float(sigma) == pytest.approx(float((1 - schedule.exact_alpha_bar[t[0]]).sqrt()), rel=1e-9)
        told.append(int(t[0]))
        return x0

    first = timesteps(1000, steps, spacing)[0]  # pyright: ignore
    direction = schedule.noise_of(x0, noise, torch.full((2,), first))
    sample(denoise, noise, schedule, steps=steps, spacing=spacing)  # pyright: ignore
    assert told == timesteps(1000, steps, spacing)  # pyright: ignore
    assert all(later < earlier for earlier, later in pairwise(told))
    assert told[-1] >= 0


def test_the_measured_sigmas_of_the_old_mistake() -> None:
    alpha_bar = SCHEDULES["linear", False].exact_alpha_bar
    assert float((1 - alpha_bar[199]).sqrt()) == pytest.approx(0.585, abs=2e-3)
    assert float((1 - alpha_bar[179]).sqrt()) == pytest.approx(0.536, abs=2e-3)


def test_timesteps_of_each_spacing() -> None:
    assert timesteps(1000, 4) == [999, 749, 499, 249]
    assert timesteps(1000, 4, "leading") == [750, 500, 250, 0]
    assert timesteps(1000, 4, "linspace") == [999, 666, 333, 0]
    assert timesteps(1000, 1) == timesteps(1000, 1, "linspace") == [999]
    for spacing in SPACINGS:
        assert timesteps(7, 7, spacing) == [6, 5, 4, 3, 2, 1, 0]  # pyright: ignore


@given(st.integers(1, 400), st.data(), st.sampled_from(SPACINGS))
def test_timesteps_fall_and_stay_in_range(total: int, data: st.DataObject, spacing: str) -> None:
    steps = data.draw(st.integers(1, total))
    found = timesteps(total, steps, spacing)  # pyright: ignore
    assert len(found) == steps
    assert all(later < earlier for earlier, later in pairwise(found))
    assert 0 <= found[-1] <= found[0] < total
    if spacing == "trailing":
        assert found[0] == total - 1


def test_one_generator_state_gives_one_result() -> None:
    schedule, (x0, _) = SCHEDULES["linear", False], maps()
    found = []
    for seed in (1, 1, 2):
        generator = torch.Generator().manual_seed(seed)
        global_state = torch.random.get_rng_state()
        denoise = oracle(schedule, x0, "x0")
        found.append(
            sample(
                *(lambda state, t, denoise=denoise: 0.5 * denoise(state, t) + 0.01 * state, (2, 1, 4, 5)),
                *(schedule,),
                steps=5,
                method="ddpm",
                generator=generator,
            )
        )
        assert torch.equal(global_state, torch.random.get_rng_state())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].dtype == torch.float32


def test_ddim_draws_nothing_and_ddpm_does() -> None:
    schedule, (_, noise) = SCHEDULES["linear", False], maps()
    runs = [
        [sample(lambda state, t: 0.3 * state, noise, schedule, steps=4, method=method) for _ in range(2)]
        for method in ("ddim", "ddpm")
    ]
    assert torch.equal(*runs[0])
    assert not torch.equal(*runs[1])


def test_no_gradient_is_recorded() -> None:
    weight = torch.ones(1, requires_grad=True)
    found = sample(lambda state, t: weight * state, (1, 1, 2, 2), SCHEDULES["linear", False], steps=2)
    assert not found.requires_grad


def test_wrong_arguments_are_refused() -> None:
    schedule, (x0, noise) = SCHEDULES["linear", False], maps()
    denoise = oracle(schedule, x0, "x0")
    with pytest.raises(ValueError, match=r"expected 1 to 1000 sampling steps.*got 1001"):
        sample(denoise, noise, schedule, steps=1001)
    with pytest.raises(ValueError, match=r"unknown method 'dddim'.*ddim"):
        sample(denoise, noise, schedule, steps=2, method="dddim")  # pyright: ignore
    with pytest.raises(ValueError, match=r"expected eta in 0 \.\.\. 1, got 2"):
        sample(denoise, noise, schedule, steps=2, eta=2)
    with pytest.raises(ValueError, match="expected no eta with method ddpm"):
        sample(denoise, noise, schedule, steps=2, eta=0.5, method="ddpm")
    with pytest.raises(ValueError, match="expected clip > 0"):
        sample(denoise, noise, schedule, steps=2, clip=0.0)
    with pytest.raises(ValueError, match="unknown spacing 'trail'"):
        timesteps(10, 2, "trail")  # pyright: ignore
    with pytest.raises(ValueError, match="unknown prediction 'eps'"):
        sample(denoise, noise, schedule, steps=2, prediction="eps")  # pyright: ignore
    with pytest.raises(ValueError, match=r"return \[2, 1, 4, 5\].*got \[2, 4, 5\]"):
        sample(lambda state, t: state[:, 0], noise, schedule, steps=2)


def test_mixtures_keep_their_weights_and_means() -> None:
    for weights, method, eta in (
        ((0.5, 0.5), "ddim", 0.0),
        ((0.5, 0.5), "ddpm", 0.0),
        ((0.8, 0.2), "ddim", 0.5),
    ):
        centres = torch.tensor([[-0.6, 0.2], [0.5, -0.4]], dtype=torch.float64)
        found = sample_mixture(torch.tensor(weights).double(), centres, 0.05, method=method, eta=eta)
        nearest = torch.cdist(found, centres).argmin(1)
        share = float((nearest == 0).double().mean())
        assert abs(share - weights[0]) <= (0.1 if weights[0] == 0.5 else 0.06), (share, method)
        for index in (0, 1):
            part = found[nearest == index]
            assert (part.mean(0) - centres[index]).abs().max() <= 0.01


@pytest.mark.parametrize("method", ["ddim", "ddpm"])
def test_with_every_timestep_the_spread_within_a_mode_is_kept_too(method: str) -> None:
    centres = torch.tensor([[-0.6, 0.2], [0.5, -0.4]], dtype=torch.float64)
    found = sample_mixture(
        torch.tensor([0.5, 0.5]).double(), centres, 0.05, method=method, eta=0.0, steps=1000
    )
    right = found[found[:, 0] > 0]
    assert right.std(0).tolist() == pytest.approx([0.05, 0.05], rel=0.1)


def test_a_mixture_in_one_dimension() -> None:
    centres = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    found = sample_mixture(torch.tensor([0.5, 0.5]).double(), centres, 0.1, method="ddim", eta=0.0)
    share = float((found > 0).double().mean())
    assert 0.4 <= share <= 0.6
    assert float(found[found > 0].mean()) == pytest.approx(1.0, abs=0.02)


def sample_mixture(
    weights: Tensor, centres: Tensor, spread: float, *, method: str, eta: float, steps: int = 100
) -> Tensor:
    """Sample 1000 points with the exact posterior mean of a mixture of Gaussians as the denoiser."""
    schedule = SCHEDULES["linear", False]

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        a = float(schedule.exact_alpha_bar[t[0]])
        variance = a * spread**2 + 1 - a
        difference = state[:, None] - math.sqrt(a) * centres
        share = (weights.log() - difference.square().sum(-1) / (2 * variance)).softmax(1)
        means = centres + math.sqrt(a) * spread**2 / variance * difference
        return (share[..., None] * means).sum(1)

    noise = torch.randn(
        1000, centres.shape[1], generator=torch.Generator().manual_seed(4), dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(5)
    return sample(
        *(denoise, noise, schedule),
        steps=steps,
        method=method,
        eta=eta,
        generator=generator,  # pyright: ignore
    )
