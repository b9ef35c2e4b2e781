"""The two decoders behind one interface: by diffusion, which samples maps, and direct, which draws one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from keypoint_detection.gaze.conditioner import Conditioning
from keypoint_detection.gaze.denoiser import Denoiser
from keypoint_detection.gaze.direct_decoder import DirectDecoder
from keypoint_detection.gaze.gaze_losses import map_error, mean_inside
from keypoint_detection.gaze.noise_schedule import create_noise_schedule, loss_weights
from keypoint_detection.gaze.sampling import Generators, check_options, sample, timesteps
from keypoint_detection.gaze.sampling_diffusers import SAMPLERS, sample_with_diffusers
from keypoint_detection.models.losses import LOSSES
from keypoint_detection.registry import nearest_name

SMALLEST_STD = 1e-5
MAP_LIMITS = (-1.0, 2.0)
"""What maps of a loss are kept within: those that are drawn are in [0, 1]."""

OWN_SAMPLERS = ("ddim", "ddpm")


class DecoderLoss(NamedTuple):
    """Hold what a decoder says of a batch in training.

    Attributes:
        value: Mean loss of the people inside, a scalar; 0 without any.
        maps: What it takes the maps for, `[n, 1, h, w]`, about 0 to 1, never beyond `MAP_LIMITS`.
    """

    value: Tensor
    maps: Tensor


class DiffusionDecoder(nn.Module):
    """Sample maps by taking the noise out of noise, step by step.

    A map m in [0, 1] is learnt as `x0 = (2 m - 1) * map_scale`: a small scale drowns the map early, so that
    more of the timesteps are about where the target is. Errors are divided by `map_scale ** 2` where x0 is
    predicted, so that a learning rate fits every scale.

    Args:
        denoiser: Options of `Denoiser`.
        schedule: `linear` or `cosine` betas.
        n_timesteps: Timesteps of the training.
        zero_terminal_snr: Let the last timestep be noise alone.
        prediction: What the denoiser is asked for: `x0`, `noise` or `v`.
        map_scale: Greatest |x0|, > 0.
        standardize_input: Divide each state by its standard deviation on its way into the network; the state
            of the sampling stays as it is.
        offset_noise: Strength of noise that is the same for a whole map, >= 0; as in Guttenberg 2023.
        loss_weights: Name of the weights of the timesteps.
        loss_weights_k: Limit of `min_snr` and `max_snr`.
        sampler: `ddim`, `ddpm`, or the name of a scheduler of diffusers.
        sampling_steps: Steps of the sampling.
        eta: Share of fresh noise of `ddim`.
    """

    def __init__(  # noqa: PLR0913  plain values are what a checkpoint can restore
        self,
        denoiser: Mapping[str, Any] | None = None,
        *,
        schedule: str = "linear",
        n_timesteps: int = 1000,
        zero_terminal_snr: bool = False,
        prediction: str = "x0",
        map_scale: float = 0.1,
        standardize_input: bool = True,
        offset_noise: float = 0.0,
        loss_weights: str = "constant",
        loss_weights_k: float = 5.0,
        sampler: str = "ddim",
        sampling_steps: int = 50,
        eta: float = 0.0,
    ) -> None:
        super().__init__()
        if not map_scale > 0 or not offset_noise >= 0:
            raise ValueError(
                f"expected map_scale > 0 and offset_noise >= 0, got {map_scale} and {offset_noise}"
            )
        self.denoiser = Denoiser(**(denoiser or {}))
        self.schedule = create_noise_schedule(schedule, n_timesteps, zero_terminal=zero_terminal_snr)
        self.prediction: Any = prediction
        self.map_scale, self.standardize_input = map_scale, standardize_input
        self.offset_noise, self.sampler = offset_noise, sampler
        self.sampling_steps, self.eta = sampling_steps, eta
        _check_sampling(self)
        weights = timestep_weights(self, loss_weights, loss_weights_k)
        self.register_buffer("weights", weights, persistent=False)

    weights: Tensor

    @property
    def map_hw(self) -> tuple[int, int]:
        """Return height and width of the maps."""
        return self.denoiser.map_hw

    def loss(self, conditioning: Conditioning, target: Tensor, in_frame: Tensor) -> DecoderLoss:
        """Compare what the denoiser says at random timesteps with what it should.

        Args:
            conditioning: Of n people.
            target: Maps `[n, 1, h, w]` in [0, 1].
            in_frame: `[n]`, 1 inside; nobody else counts.
        """
        x0 = (2 * target - 1) * self.map_scale
        t = torch.randint(len(self.schedule), (len(x0),), device=x0.device)
        noise = torch.randn_like(x0)
        if self.offset_noise:
            noise = noise + self.offset_noise * torch.randn_like(x0[:, :, :1, :1])
        state = self.schedule.add_noise(x0, noise, t)
        output = self._ask(state, t, conditioning.tokens).float()
        wanted = self.schedule.target(x0, noise, t, self.prediction)
        value = mean_inside(self.weights[t] * map_error(output, wanted, in_frame), in_frame)
        clean = self.schedule.x0_of(output, state, t, self.prediction)
        # an error of noise or v grows with 1 / signal in the map; other losses must not be of it alone
        return DecoderLoss(value, self._to_unit(clean).clamp(*MAP_LIMITS))

    @torch.no_grad()
    def sample_maps(self, conditioning: Conditioning, samples: int, generator: Generators = None) -> Tensor:
        """Draw maps of each person.

        Args:
            conditioning: Of n people; computed once, whatever the number of samples.
            samples: Maps of each, s >= 1.
            generator: Of the noise, for all or one for each person; None takes torch's own.

        Returns:
            float32 `[n, s, h, w]` in [0, 1].
        """
        tokens = conditioning.tokens.repeat_interleave(samples, dim=0)
        if isinstance(generator, Sequence):
            generator = [one for one in generator for _ in range(samples)]

        def denoise(state: Tensor, t: Tensor) -> Tensor:
            return self._ask(state, t, tokens).float()

        options: dict[str, Any] = {
            "steps": self.sampling_steps,
            "prediction": self.prediction,
            "clip": self.map_scale,
            "generator": generator,
        }
        shape = (len(tokens), 1, *self.map_hw)
        if self.sampler in OWN_SAMPLERS:
            eta = self.eta if self.sampler == "ddim" else 0.0
            x0 = sample(denoise, shape, self.schedule, method=self.sampler, eta=eta, **options)  # pyright: ignore[reportArgumentType]
        else:
            x0 = sample_with_diffusers(self.sampler, denoise, shape, self.schedule, **options)
        return self._to_unit(x0).clamp(0, 1).view(-1, samples, *self.map_hw)

    def _ask(self, state: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Ask the network; only what it sees is standardised, never the state."""
        if self.standardize_input:
            state = state / state.flatten(1).std(1).clamp(min=SMALLEST_STD).view(-1, 1, 1, 1)
        return self.denoiser(state, t, tokens)

    def _to_unit(self, x0: Tensor) -> Tensor:
        return (x0 / self.map_scale + 1) / 2


class MapDecoder(nn.Module):
    """Draw one map directly, the baseline of the diffusion.

    Args:
        decoder: Options of `DirectDecoder`.
        loss_function: Name of a heatmap loss: `BCE`, `MSE`, ...
    """

    def __init__(self, decoder: Mapping[str, Any] | None = None, *, loss_function: str = "BCE") -> None:
        super().__init__()
        self.direct_decoder = DirectDecoder(**(decoder or {}))
        self._loss = LOSSES[loss_function]

    @property
    def map_hw(self) -> tuple[int, int]:
        """Return height and width of the maps."""
        return self.direct_decoder.map_hw

    def loss(self, conditioning: Conditioning, target: Tensor, in_frame: Tensor) -> DecoderLoss:
        """Compare the map with the target; arguments as for `DiffusionDecoder.loss`."""
        logits = self.direct_decoder(conditioning.tokens).float()
        weight = (in_frame == 1).to(logits.dtype).view(-1, 1, 1, 1).expand_as(target)
        return DecoderLoss(self._loss(logits, target, weight)[0], logits.sigmoid())

    @torch.no_grad()
    def sample_maps(self, conditioning: Conditioning, samples: int, generator: Generators = None) -> Tensor:
        """Return its one map, `[n, 1, h, w]`: more samples would be the same."""
        return self.direct_decoder(conditioning.tokens).float().sigmoid()


def create_decoder(name: str, options: Mapping[str, Any]) -> DiffusionDecoder | MapDecoder:
    """Return `diffusion` or `direct` with its options.

    Raises:
        ValueError: There is no decoder of this name, or an option is wrong.
    """
    kinds = {"diffusion": DiffusionDecoder, "direct": MapDecoder}
    if name not in kinds:
        raise ValueError(
            f"unknown gaze decoder {name!r}; known: {', '.join(kinds)}.{nearest_name(name, kinds)}"
        )
    return kinds[name](**options)


def _check_sampling(decoder: DiffusionDecoder) -> None:
    """Refuse at the door what would only fail when the first maps are drawn, after a training."""
    known = (*OWN_SAMPLERS, *SAMPLERS)
    if decoder.sampler not in known:
        raise ValueError(
            f"unknown sampler {decoder.sampler!r}; known: {', '.join(known)}."
            f"{nearest_name(decoder.sampler, known)}"
        )
    if not 0 <= decoder.eta <= 1:
        raise ValueError(f"expected eta in 0 ... 1, got {decoder.eta}; 0 is plain DDIM")
    sampled = timesteps(len(decoder.schedule), decoder.sampling_steps)
    check_options(decoder.schedule, sampled, decoder.prediction, decoder.map_scale)


def timestep_weights(decoder: DiffusionDecoder, name: str, k: float) -> Tensor:
    """Return the weight of the squared error at each timestep, float32 `[T]`."""
    weights = loss_weights(name, decoder.schedule.snr(), k, decoder.prediction)
    scale = decoder.map_scale**2 if decoder.prediction == "x0" else 1.0
    return (weights / scale).float()
