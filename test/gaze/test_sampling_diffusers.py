import sys

import pytest
import torch
from torch import Tensor

from keypoint_detection.gaze.noise_schedule import NoiseSchedule, create_noise_schedule
from keypoint_detection.gaze.sampling import sample, timesteps
from keypoint_detection.gaze.sampling_diffusers import SAMPLERS, sample_with_diffusers

# diffusers 0.42 makes NumPy arrays of tensors in a way that NumPy 2 will refuse one day
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")

NAMES = {"x0": "sample", "noise": "epsilon", "v": "v_prediction"}
CASES = [(p, terminal) for p in NAMES for terminal in (False, True) if not (p == "noise" and terminal)]


@pytest.fixture(scope="module")
def diffusers() -> object:
    return pytest.importorskip("diffusers")


def network(state: Tensor, t: Tensor) -> Tensor:
    """Answer something that depends on the state and the timestep, bounded as a network's answers are."""
    return torch.sin(3 * state + t.reshape(-1, 1, 1, 1) / 300) * 0.4 + 0.1 * state.flip(-1)


def recorded(schedule: NoiseSchedule, noise: Tensor, **options: object) -> tuple[list[Tensor], Tensor]:
    """Return the states that our sampler shows, and what it returns."""
    states: list[Tensor] = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        states.append(state)
        return network(state, t)

    return states, sample(denoise, noise, schedule, **options)  # pyright: ignore


@pytest.mark.parametrize("clip", [None, 0.3])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize(("prediction", "terminal"), CASES)
def test_each_ddim_step_equals_theirs(
    diffusers: object, prediction: str, terminal: bool, spacing: str, clip: float | None
) -> None:
    schedule = create_noise_schedule(zero_terminal=terminal)
    noise = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"steps": 20, "prediction": prediction, "spacing": spacing, "clip": clip}
    states, found = recorded(schedule, noise, **options)
    referee = diffusers.DDIMScheduler(  # pyright: ignore
        prediction_type=NAMES[prediction],
        timestep_spacing=spacing,
        set_alpha_to_one=True,
        clip_sample=clip is not None,
        clip_sample_range=clip or 1.0,
        rescale_betas_zero_snr=terminal,
    )
    referee.alphas_cumprod = schedule.exact_alpha_bar  # theirs is rounded to float32
    referee.set_timesteps(20)
    assert referee.timesteps.tolist() == timesteps(1000, 20, spacing)  # pyright: ignore
    for t, state, following in zip(referee.timesteps, states, [*states[1:], found], strict=True):
        answer = network(state, t.expand(2))
        theirs = referee.step(answer, int(t), state, use_clipped_model_output=True).prev_sample
        assert (theirs - following).abs().max() <= 1e-5, int(t)


def test_the_whole_run_equals_theirs_in_their_precision(diffusers: object) -> None:
    schedule = create_noise_schedule()
    noise = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    _, found = recorded(schedule, noise, steps=50, prediction="v")
    referee = diffusers.DDIMScheduler(  # pyright: ignore
        prediction_type="v_prediction", timestep_spacing="trailing", clip_sample=False
    )
    referee.set_timesteps(50)
    state = noise
    for t in referee.timesteps:
        state = referee.step(network(state, t.expand(2)), int(t), state).prev_sample
    assert (state - found).abs().max() <= 1e-5


@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("steps", [1, 2, 9, 64, 300, 1000])
def test_timesteps_equal_theirs(diffusers: object, spacing: str, steps: int) -> None:
    referee = diffusers.DDPMScheduler(timestep_spacing=spacing)  # pyright: ignore
    referee.set_timesteps(steps)
    if (spacing, steps) != ("linspace", 1):  # theirs is timestep 0 alone, which starts nowhere
        assert timesteps(1000, steps, spacing) == referee.timesteps.tolist()  # pyright: ignore


@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("steps", [7, 50])
def test_ddpm_has_their_mean_and_variance(diffusers: object, prediction: str, steps: int) -> None:
    schedule = create_noise_schedule()
    start = 0.7 * torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    many = start.expand(20_000, 1, 2, 2)
    states: list[Tensor] = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:
        states.append(state)
        return network(many, t)  # the same answer in every copy, so that what varies is what was drawn

    options = {"steps": steps, "prediction": prediction, "method": "ddpm"}
    sample(denoise, many, schedule, generator=torch.Generator().manual_seed(2), **options)  # pyright: ignore
    referee = diffusers.DDPMScheduler(  # pyright: ignore
        prediction_type=NAMES[prediction], timestep_spacing="trailing", clip_sample=False
    )
    referee.alphas_cumprod = schedule.exact_alpha_bar
    referee.custom_timesteps = True  # or it takes t - T // steps for the next timestep
    referee.timesteps = torch.tensor(timesteps(1000, steps))
    t = int(referee.timesteps[0])
    variance = float(referee._get_variance(t))
    plain = referee.step(
        network(start, torch.tensor([t])), t, start, generator=torch.Generator().manual_seed(3)
    )
    drawn = torch.randn(start.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mean = plain.prev_sample - variance**0.5 * drawn
    scatter = (variance / 20_000) ** 0.5
    assert (states[1].mean(0) - mean[0]).abs().max() <= 5 * scatter
    assert states[1].var(0).flatten().tolist() == pytest.approx([variance] * 4, rel=0.05)


@pytest.mark.parametrize("steps", [7, 50])
def test_ddpm_coefficients_equal_theirs_exactly(
    diffusers: object, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = create_noise_schedule()
    noise = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for drawn in (0.0, 1.0):  # the mean, and the mean plus one standard deviation
        monkeypatch.setattr(
            "keypoint_detection.gaze.sampling.draw_noise",
            lambda shape, like, generator, drawn=drawn: torch.full(shape, drawn, dtype=like.dtype),
        )
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda shape, drawn=drawn, dtype=None, **_: torch.full(shape, drawn, dtype=dtype),
        )
        states, found = recorded(schedule, noise, steps=steps, method="ddpm")
        referee = diffusers.DDPMScheduler(  # pyright: ignore
            prediction_type="sample", timestep_spacing="trailing", clip_sample=False
        )
        referee.alphas_cumprod = schedule.exact_alpha_bar
        referee.set_timesteps(timesteps=timesteps(1000, steps))
        for t, state, following in zip(referee.timesteps[:-1], states, states[1:], strict=False):
            theirs = referee.step(network(state, t.expand(2)), t, state).prev_sample
            assert (theirs - following).abs().max() <= 1e-9, int(t)
        assert torch.equal(found, network(states[-1], referee.timesteps[-1].expand(2)))


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_recovers_what_an_oracle_knows(diffusers: object, name: str, terminal: bool) -> None:
    schedule = create_noise_schedule(zero_terminal=terminal)
    generator = torch.Generator().manual_seed(0)
    x0 = 0.1 * (2 * torch.rand(2, 1, 4, 4, generator=generator) - 1)
    for steps in (5, 20):
        told: list[int] = []

        def denoise(state: Tensor, t: Tensor, told: list[int] = told) -> Tensor:
            told.append(int(t[0]))
            assert t.shape == (2,)
            return schedule.target(x0, schedule.noise_of(x0, state, t), t, "v")

        found = sample_with_diffusers(
            *(name, denoise, (2, 1, 4, 4), schedule),
            steps=steps,
            prediction="v",
            clip=0.1,
            generator=generator,
        )
        assert (found - x0).abs().max() <= 1e-4
        assert told == timesteps(1000, steps)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_shows_states_of_our_scale(diffusers: object, name: str) -> None:
    schedule = create_noise_schedule()
    scales: list[float] = []

    def denoise(state: Tensor, t: Tensor) -> Tensor:  # of x0 = N(0, 0.25): the posterior mean
        scales.append(float(state.var() / (0.25 * schedule.alpha_bar[t[0]] + 1 - schedule.alpha_bar[t[0]])))
        a = schedule.alpha_bar[t[0]]
        return a.sqrt() * 0.25 / (a * 0.25 + 1 - a) * state

    generator = torch.Generator().manual_seed(0)
    found = sample_with_diffusers(name, denoise, (4, 1, 50, 50), schedule, steps=50, generator=generator)
    assert scales == pytest.approx([1.0] * 50, rel=0.15)
    assert float(found.var()) == pytest.approx(0.25, rel=0.12)


def test_wrong_arguments_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = create_noise_schedule()
    with pytest.raises(ValueError, match=r"unknown sampler 'unipcc'.*unipc"):
        sample_with_diffusers("unipcc", network, (1, 1, 2, 2), schedule, steps=2)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"needs diffusers.*keypoint-detection\[gaze\]"):
        sample_with_diffusers("unipc", network, (1, 1, 2, 2), schedule, steps=2)
