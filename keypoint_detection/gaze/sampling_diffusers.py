"""Other samplers by name, from the library diffusers (extra `gaze`)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from keypoint_detection.gaze.noise_schedule import NoiseSchedule, Prediction
from keypoint_detection.gaze.sampling import (
    Denoise,
    Generators,
    check_options,
    clean_map,
    start_state,
    timesteps,
)
from keypoint_detection.registry import nearest_name

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "sde-dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
}
"""The class of each sampler in diffusers, and the options that make it that sampler."""


@torch.no_grad()
def sample_with_diffusers(
    name: str,
    denoise: Denoise,
    noise: Tensor | Sequence[int],
    schedule: NoiseSchedule,
    *,
    steps: int,
    prediction: Prediction = "x0",
    clip: float | None = None,
    generator: Generators = None,
) -> Tensor:
    """Return what the denoiser finds in noise, by a sampler of diffusers on trailing timesteps.

    The sampler is told x0, converted and clipped here, so that all of them treat a prediction alike. The
    denoiser sees states of this schedule, whatever scale the sampler works in.

    Args:
        name: One of `SAMPLERS`.
        denoise: As for `sampling.sample`, and so are the other arguments.
        noise: Where to start, or the shape.
        schedule: The one that the denoiser was trained with.
        steps: Number of calls of the denoiser, in 1 ... T.
        prediction: What the denoiser returns.
        clip: x0 is kept within `+-clip`.
        generator: For the samplers that draw.

    Returns:
        x0, float32, of the shape of the noise.

    Raises:
        ValueError: An argument is none of these, or diffusers is not installed.
    """
    check_options(schedule, timesteps(len(schedule), steps), prediction, clip)
    scheduler = _scheduler(name, schedule)
    state = start_state(noise, schedule, generator).float()
    scheduler.set_timesteps(steps, device=state.device)
    state = state * float(scheduler.init_noise_sigma)
    # unipc draws nothing and takes no generator
    step = scheduler.step if name == "unipc" else partial(scheduler.step, generator=generator)
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(state, t)
        time = t.long().to(state.device).expand(len(state))
        x0 = clean_map(denoise, seen, time, schedule, prediction=prediction, clip=clip)
        state = step(x0, t, state).prev_sample
    return state


def _scheduler(name: str, schedule: NoiseSchedule) -> Any:
    if name not in SAMPLERS:
        raise ValueError(
            f"unknown sampler {name!r}; known: {', '.join(SAMPLERS)}.{nearest_name(name, SAMPLERS)}"
        )
    try:
        import diffusers
    except ImportError as error:
        raise ValueError(
            f"sampler {name!r} needs diffusers, which is not installed; run: pip install"
            " 'keypoint-detection[gaze]', or sample with ddim"
        ) from error
    kind, options = SAMPLERS[name]
    alpha_bar = schedule.exact_alpha_bar
    before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
    return getattr(diffusers, kind)(
        num_train_timesteps=len(schedule),
        trained_betas=(1 - alpha_bar / before).tolist(),
        prediction_type="sample",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=bool(alpha_bar[-1] == 0),
        **options,
    )
