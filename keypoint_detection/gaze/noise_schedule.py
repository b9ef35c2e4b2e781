"""How a map is drowned in noise, step by step: the schedule, its conversions and the weights of the loss.

At timestep t of T, with `a = alpha_bar[t]`, the state is `x_t = sqrt(a) x0 + sqrt(1 - a) noise`. A denoiser
may be asked for `x0`, for the `noise`, or for `v = sqrt(a) noise - sqrt(1 - a) x0`; each gives the others.
"""

import math
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from keypoint_detection.registry import nearest_name

Prediction = Literal["x0", "noise", "v"]
"""What a denoiser is asked for."""

WeightName = Literal["constant", "snr", "truncated_snr", "inverse_snr", "min_snr", "max_snr"]

GREATEST_BETA = 0.999
"""Share of the variance that one step of the cosine schedule replaces at most."""


def linear_betas(n_timesteps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return evenly spaced betas, float64 `[T]`.

    With the usual ends and T = 1000 the last alpha_bar is 4e-5; it is 0.36 for T = 100, so that fewer
    timesteps need larger betas or `zero_terminal_snr`.

    Source: DDPM (arXiv 2006.11239, section 4).
    """
    return torch.linspace(first, last, n_timesteps, dtype=torch.float64)


def cosine_betas(n_timesteps: int, offset: float = 0.008) -> Tensor:
    """Return betas whose alpha_bar falls like a squared cosine, float64 `[T]`, each at most 0.999.

    Source: Nichol and Dhariwal (arXiv 2102.09672, equation 17).
    """
    time = torch.arange(n_timesteps + 1, dtype=torch.float64) / n_timesteps
    curve = ((time + offset) / (1 + offset) * (math.pi / 2)).cos().square()
    return (1 - curve[1:] / curve[:-1]).clamp(max=GREATEST_BETA)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """Return betas `[T]` whose last state is noise alone: sqrt(alpha_bar) is shifted to end at 0, and scaled.

    The first one stays. A denoiser that is asked for the noise cannot be sampled from the last timestep then.

    Source: Lin et al. (arXiv 2305.08891, algorithm 1).
    """
    signal = (1 - betas.double()).cumprod(0).sqrt()
    if len(signal) > 1:
        signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    alpha_bar = signal.square()
    return 1 - torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])


BETAS: dict[str, Callable[[int], Tensor]] = {"linear": linear_betas, "cosine": cosine_betas}


def create_noise_schedule(
    name: str = "linear", n_timesteps: int = 1000, *, zero_terminal: bool = False
) -> "NoiseSchedule":
    """Return a schedule by name.

    Args:
        name: "linear" or "cosine".
        n_timesteps: Number T of timesteps, > 0; > 1 with `zero_terminal`.
        zero_terminal: Let the last timestep hold no signal at all; see `zero_terminal_snr`.

    Raises:
        ValueError: There is no schedule of this name, or too few timesteps.
    """
    if name not in BETAS:
        raise ValueError(
            f"unknown noise schedule {name!r}; known: {', '.join(BETAS)}.{nearest_name(name, BETAS)}"
        )
    if n_timesteps < 1 + zero_terminal:
        raise ValueError(f"expected at least {1 + zero_terminal} timesteps, got {n_timesteps}; 1000 is usual")
    betas = BETAS[name](n_timesteps)
    return NoiseSchedule(zero_terminal_snr(betas) if zero_terminal else betas)


class NoiseSchedule(nn.Module):
    """Hold alpha_bar of every timestep; it has no parameters, and checkpoints do not store it.

    All is computed in float64 and kept twice: in float32 on the module's device, whatever precision the
    module is cast to, and exactly for states in float64. Results have the precision of the state, at least
    float32.

    Args:
        betas: `[T]`, share of the variance that each step replaces, in (0, 1]; 1 in the last place only.

    Attributes:
        alpha_bar: float32 `[T]`, share of the variance that is signal, falling, in [0, 1).

    Example:
        >>> schedule = NoiseSchedule(torch.tensor([0.36, 0.4375], dtype=torch.float64))
        >>> [round(float(value), 6) for value in schedule.alpha_bar]
        [0.64, 0.36]
        >>> t, x0, noise = torch.tensor([1]), torch.tensor([[1.0]]), torch.tensor([[-0.5]])
        >>> round(float(schedule.add_noise(x0, noise, t)), 6)
        0.2
    """

    alpha_bar: Tensor
    scales: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__()
        betas = betas.detach().cpu().double()
        _check_betas(betas)
        self._exact_alpha_bar = (1 - betas).cumprod(0)
        self._exact_scales = torch.stack([self._exact_alpha_bar, 1 - self._exact_alpha_bar], dim=1).sqrt()
        self.register_buffer("alpha_bar", self._exact_alpha_bar.float(), persistent=False)
        self.register_buffer("scales", self._exact_scales.float(), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "NoiseSchedule":
        """Move the tables with the module, but keep their precision: in bfloat16 0.9999 would be 1."""
        moved = super()._apply(fn, recurse)
        if moved.alpha_bar.dtype != torch.float32:
            device = moved.alpha_bar.device
            moved.alpha_bar = self._exact_alpha_bar.float().to(device)
            moved.scales = self._exact_scales.float().to(device)
        return moved

    def __len__(self) -> int:
        """Return the number T of timesteps."""
        return len(self.alpha_bar)

    @property
    def exact_alpha_bar(self) -> Tensor:
        """Return alpha_bar in float64 on the CPU, `[T]`."""
        return self._exact_alpha_bar

    def snr(self) -> Tensor:
        """Return signal over noise of each timestep, `a / (1 - a)`, float64 `[T]` on the CPU, falling."""
        return self._exact_alpha_bar / (1 - self._exact_alpha_bar)

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return the state `sqrt(a) x0 + sqrt(1 - a) noise`.

        Args:
            x0: `[n, ...]`.
            noise: `[n, ...]`, of unit variance.
            t: int64 `[n]` in [0, T).
        """
        x0, noise, signal, spread = self._prepare(x0, noise, t)
        return signal * x0 + spread * noise

    def v_of(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return `v = sqrt(a) noise - sqrt(1 - a) x0`; arguments as for `add_noise`.

        Source: Salimans and Ho (arXiv 2202.00512, appendix D).
        """
        x0, noise, signal, spread = self._prepare(x0, noise, t)
        return signal * noise - spread * x0

    def target(self, x0: Tensor, noise: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """Return what a denoiser is asked for; arguments as for `add_noise`."""
        check_prediction(prediction)
        if prediction == "v":
            return self.v_of(x0, noise, t)
        return at_least_float32(x0 if prediction == "x0" else noise)

    def x0_of(self, output: Tensor, x_t: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """Return the clean map that a denoiser's answer says, `[n, ...]`.

        Args:
            output: `[n, ...]`, what the denoiser said.
            x_t: `[n, ...]`, the state itself, not the standardised one that the network saw.
            t: int64 `[n]`.
            prediction: What the denoiser is asked for; "noise" gives no finite answer where alpha_bar is 0.
        """
        check_prediction(prediction)
        output, x_t, signal, spread = self._prepare(output, x_t, t)
        if prediction == "x0":
            return output
        if prediction == "v":
            return signal * x_t - spread * output
        return (x_t - spread * output) / signal

    def noise_of(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the noise that takes `x0` to the state `x_t`, `[n, ...]`."""
        x0, x_t, signal, spread = self._prepare(x0, x_t, t)
        return (x_t - signal * x0) / spread

    def _prepare(self, one: Tensor, other: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return two tensors in one precision, and sqrt(a) and sqrt(1 - a) in the shape `[n, 1, ...]`."""
        if one.shape != other.shape or t.shape != one.shape[:1]:
            raise ValueError(
                "expected two tensors [n, ...] of one shape and a timestep [n] for each, got "
                f"{list(one.shape)}, {list(other.shape)} and {list(t.shape)}"
            )
        dtype = torch.promote_types(torch.promote_types(one.dtype, other.dtype), torch.float32)
        table = self._exact_scales.to(one.device) if dtype == torch.float64 else self.scales.to(one.device)
        scales = table[t.to(one.device)].reshape(len(t), 2, *(1,) * (one.ndim - 1))
        return one.to(dtype), other.to(dtype), scales[:, 0], scales[:, 1]


def loss_weights(name: str, snr: Tensor, k: float = 5.0, prediction: Prediction = "x0") -> Tensor:
    """Return how much the squared error of the prediction counts at each signal-to-noise ratio.

    By name, as weights of the squared error of x0: `snr`; `truncated_snr` max(snr, 1); `inverse_snr` 1 / snr;
    `min_snr` min(snr, k); `max_snr` max(snr, k). Where noise or v is predicted they are divided by snr or by
    snr + 1, so that they weigh the same error of x0. `constant` is 1 whatever is predicted.

    Compute it once for a schedule, `loss_weights(name, schedule.snr())`, and look timesteps up in it.

    Args:
        name: One of the above.
        snr: Any shape, >= 0.
        k: Limit of `min_snr` and `max_snr`, > 0.
        prediction: What the denoiser is asked for.

    Returns:
        Weights of the shape of `snr`, finite, >= 0.

    Raises:
        ValueError: An unknown name, a k that is not > 0, or weights that are infinite where snr is 0.

    Source: Hang et al., Min-SNR (arXiv 2303.09556, section 3.4); `truncated_snr`: Salimans and Ho (arXiv
        2202.00512, section 4).

    Example:
        >>> loss_weights("min_snr", torch.tensor([9.0, 2.0, 0.5]), k=5.0).tolist()
        [5.0, 2.0, 0.5]
        >>> loss_weights("min_snr", torch.tensor([9.0, 2.0, 0.5]), k=5.0, prediction="v").tolist()
        [0.5, 0.6666666865348816, 0.3333333432674408]
    """
    check_prediction(prediction)
    if not (k > 0 and math.isfinite(k)):
        raise ValueError(f"expected k > 0 for the loss weights, got {k}; 5 is usual")
    if name == "constant":
        return torch.ones_like(snr)
    choices = {
        "snr": (snr, torch.ones_like(snr)),
        "truncated_snr": (snr.clamp(min=1), snr.clamp(min=1) / snr),
        "inverse_snr": (1 / snr, 1 / snr.square()),
        "min_snr": (snr.clamp(max=k), (k / snr).clamp(max=1)),
        "max_snr": (snr.clamp(min=k), snr.clamp(min=k) / snr),
    }
    if name not in choices:
        known = get_args(WeightName)
        raise ValueError(
            f"unknown loss weights {name!r}; known: {', '.join(known)}.{nearest_name(name, known)}"
        )
    of_x0, of_noise = choices[name]
    weights = {"x0": of_x0, "noise": of_noise, "v": of_x0 / (snr + 1)}[prediction]
    if not bool(weights.isfinite().all()):
        raise ValueError(
            f"loss weights {name!r} are infinite for prediction {prediction!r} where the signal is 0, at the"
            " last timestep of a zero-terminal schedule; choose constant or min_snr, or another schedule"
        )
    return weights


def check_prediction(prediction: str) -> None:
    """Raise a ValueError for something that no denoiser can be asked for."""
    known = get_args(Prediction)
    if prediction not in known:
        raise ValueError(
            f"unknown prediction {prediction!r}; known: {', '.join(known)}.{nearest_name(prediction, known)}"
        )


def at_least_float32(values: Tensor) -> Tensor:
    """Return the tensor in float32 where it is less precise."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_betas(betas: Tensor) -> None:
    usable = betas.ndim == 1 and len(betas) > 0 and bool(((betas > 0) & (betas <= 1)).all())
    if not usable or bool((betas[:-1] == 1).any()):
        raise ValueError(
            "expected betas [T] above 0 and below 1 (1 in the last place only), got shape"
            f" {list(betas.shape)} with {betas.flatten()[:3].tolist()} at the start"
        )
