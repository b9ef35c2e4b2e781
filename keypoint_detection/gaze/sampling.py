"""Turn noise into maps: DDIM and DDPM steps from each sampled timestep to the next sampled one."""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal, get_args

import torch
from torch import Tensor

from keypoint_detection.gaze.noise_schedule import (
    NoiseSchedule,
    Prediction,
    at_least_float32,
    check_prediction,
)
from keypoint_detection.registry import nearest_name

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Maps a state `[n, ...]` and its timesteps int64 `[n]` to what is predicted, `[n, ...]`."""

Generators = torch.Generator | Sequence[torch.Generator] | None
"""Where noise comes from: one generator for all, one for each of the n states, or torch's own."""

Spacing = Literal["trailing", "leading", "linspace"]
Method = Literal["ddim", "ddpm"]


def timesteps(n_timesteps: int, steps: int, spacing: Spacing = "trailing") -> list[int]:
    """Return the timesteps that are sampled, falling, each once.

    - "trailing": `round(k T / steps) - 1` for k = steps ... 1. It starts at T - 1, where a state is nearly
      noise alone, as sampling does: right for a zero-terminal schedule.
    - "leading": `k floor(T / steps)` for k = steps - 1 ... 0. It starts below T - 1, though with noise alone.
    - "linspace": `round(k (T - 1) / (steps - 1))` for k = steps - 1 ... 0, both ends; T - 1 for one step.

    Halves are rounded to even numbers.

    Args:
        n_timesteps: Number T of timesteps of the schedule.
        steps: How many are sampled, in 1 ... T.
        spacing: One of the above.

    Source: Lin et al. (arXiv 2305.08891, table 2).

    Example:
        >>> timesteps(10, 4), timesteps(10, 4, "leading"), timesteps(10, 4, "linspace")
        ([9, 7, 4, 1], [6, 4, 2, 0], [9, 6, 3, 0])
    """
    if not 1 <= steps <= n_timesteps:
        raise ValueError(
            f"expected 1 to {n_timesteps} sampling steps, as many as the schedule has, got {steps}"
        )
    if spacing == "trailing":
        return [round(Fraction(k * n_timesteps, steps)) - 1 for k in range(steps, 0, -1)]
    if spacing == "leading":
        return [k * (n_timesteps // steps) for k in range(steps - 1, -1, -1)]
    if spacing == "linspace":
        gaps = max(steps - 1, 1)
        return [round(Fraction(k * (n_timesteps - 1), gaps)) for k in range(gaps, gaps - steps, -1)]
    known = get_args(Spacing)
    raise ValueError(f"unknown spacing {spacing!r}; known: {', '.join(known)}.{nearest_name(spacing, known)}")


@torch.no_grad()
def sample(
    denoise: Denoise,
    noise: Tensor | Sequence[int],
    schedule: NoiseSchedule,
    *,
    steps: int,
    prediction: Prediction = "x0",
    method: Method = "ddim",
    eta: float = 0.0,
    clip: float | None = None,
    spacing: Spacing = "trailing",
    generator: Generators = None,
) -> Tensor:
    """Return what the denoiser finds in noise.

    From timestep t a step goes to the next sampled timestep s, with `a = alpha_bar[t]`, `b = alpha_bar[s]`:

        noise_t = (x_t - sqrt(a) x0) / sqrt(1 - a)
        sigma = eta sqrt((1 - b) / (1 - a)) sqrt(1 - a / b)
        x_s = sqrt(b) x0 + sqrt(1 - b - sigma^2) noise_t + sigma z

    where x0 is what the denoiser says of the clean map. "ddpm" draws from the posterior of x_s given x_t and
    x0, which is the same with eta = 1. The last step has no next timestep and returns x0. These formulas hold
    for the state as it is: whoever standardises the input of a network does so inside `denoise`.

    Args:
        denoise: Gets the state, float32 or float64 `[n, ...]`, and the same timestep n times.
        noise: Where to start, `[n, ...]` of unit variance; or that shape, to be drawn in float32 for the
            schedule's device.
        schedule: The one that the denoiser was trained with.
        steps: Number of calls of the denoiser, in 1 ... T.
        prediction: What the denoiser returns.
        method: "ddim", or "ddpm".
        eta: Share of fresh noise of "ddim", >= 0 and at most 1; 0 draws nothing. "ddpm" has no choice.
        clip: x0 is kept within `+-clip` in every step; None leaves it.
        spacing: See `timesteps`.
        generator: What is drawn comes from it, on its device; None takes torch's own. With one for each
            state, what a state becomes does not depend on those beside it.

    Returns:
        x0, of the shape of the noise, float32 or, where the noise is so, float64.

    Raises:
        ValueError: An argument is none of these, or the denoiser is asked for noise at a timestep that holds
            no signal.

    Source: DDIM (arXiv 2010.02502, equations 12 and 16); DDPM (arXiv 2006.11239, equation 7).
    """
    sampled = timesteps(len(schedule), steps, spacing)
    eta = _checked_eta(method, eta)
    check_options(schedule, sampled, prediction, clip)
    state = start_state(noise, schedule, generator)
    alpha_bar = schedule.exact_alpha_bar.tolist()
    for t, following in zip(sampled, [*sampled[1:], None], strict=True):
        time = torch.full((len(state),), t, dtype=torch.int64, device=state.device)
        x0 = clean_map(denoise, state, time, schedule, prediction=prediction, clip=clip)
        if following is None:
            return x0
        sigma = _fresh_noise(alpha_bar[t], alpha_bar[following], eta)
        kept = math.sqrt(max(1 - alpha_bar[following] - sigma**2, 0.0))
        state = math.sqrt(alpha_bar[following]) * x0 + kept * schedule.noise_of(x0, state, time)
        if sigma > 0:
            state = state + sigma * draw_noise(state.shape, state, generator)
    raise AssertionError("a list of timesteps is never empty")


def _fresh_noise(alpha_bar: float, following: float, eta: float) -> float:
    """Return sigma of a step between two alpha_bar."""
    return eta * math.sqrt((1 - following) / (1 - alpha_bar) * (1 - alpha_bar / following))


def clean_map(
    denoise: Denoise,
    state: Tensor,
    time: Tensor,
    schedule: NoiseSchedule,
    *,
    prediction: Prediction,
    clip: float | None,
) -> Tensor:
    """Ask the denoiser once and return the x0 that it means, `[n, ...]`, clipped, as precise as the state."""
    output = denoise(state, time)
    if output.shape != state.shape:
        raise ValueError(
            f"expected the denoiser to return {list(state.shape)} as it was given, got {list(output.shape)}"
        )
    x0 = schedule.x0_of(output.to(state.dtype), state, time, prediction)
    return x0 if clip is None else x0.clamp(-clip, clip)


def start_state(noise: Tensor | Sequence[int], schedule: NoiseSchedule, generator: Generators) -> Tensor:
    """Return the noise to start from, drawn where only its shape is given; float32 at least."""
    if isinstance(noise, Tensor):
        return at_least_float32(noise)
    return draw_noise(tuple(noise), schedule.alpha_bar, generator)


def draw_noise(shape: Sequence[int], like: Tensor, generator: Generators) -> Tensor:
    """Draw noise of a shape on the generator's device; return it as precise as `like`, and where that is."""
    if isinstance(generator, Sequence):
        if len(generator) != shape[0]:
            raise ValueError(f"expected a generator for each of {shape[0]} states, got {len(generator)}")
        return torch.cat([draw_noise((1, *shape[1:]), like, one) for one in generator])
    device = like.device if generator is None else generator.device
    return torch.randn(tuple(shape), generator=generator, device=device, dtype=like.dtype).to(like.device)


def check_options(
    schedule: NoiseSchedule, sampled: list[int], prediction: Prediction, clip: float | None
) -> None:
    """Raise a ValueError for a prediction or a clip that sampling cannot use."""
    check_prediction(prediction)
    if clip is not None and not clip > 0:
        raise ValueError(f"expected clip > 0, the greatest |x0|, or None, got {clip}")
    if prediction == "noise" and float(schedule.exact_alpha_bar[sampled[0]]) == 0:
        raise ValueError(
            f"the noise says nothing of the map at timestep {sampled[0]}, which holds no signal; with a"
            " zero-terminal schedule predict v or x0"
        )


def _checked_eta(method: str, eta: float) -> float:
    known = get_args(Method)
    if method not in known:
        raise ValueError(
            f"unknown method {method!r}; known: {', '.join(known)}.{nearest_name(method, known)}"
        )
    if not 0 <= eta <= 1:
        raise ValueError(f"expected eta in 0 ... 1, got {eta}; 0 is plain DDIM")
    if method == "ddpm" and eta not in (0, 1):
        raise ValueError(f"expected no eta with method ddpm, which is ddim with eta 1, got {eta}")
    return 1.0 if method == "ddpm" else eta
