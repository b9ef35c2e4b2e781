"""GazeFollower: conditioner, in/out head, decoder, losses, optimiser and samples, wired together."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.gaze.conditioner import Conditioner, Conditioning
from keypoint_detection.gaze.decoders import create_decoder
from keypoint_detection.gaze.gaze_losses import (
    in_out_error,
    kl_divergence,
    mean_inside,
    point_loss,
    soft_argmax,
)
from keypoint_detection.gaze.gaze_targets import one_annotator, target_maps, to_map_pixels
from keypoint_detection.gaze.in_out_head import InOutHead
from keypoint_detection.gaze.named_groups import GROUPS, freeze_groups, hold_groups_still, named_groups
from keypoint_detection.gaze.samples import GazeBatch
from keypoint_detection.gaze.sampling import Generators
from keypoint_detection.models.optimization import RunSchedule, make_adamw, training_progress

SOFTMAX_BETA = 20.0
"""What maps in [0, 1] are multiplied by before a softmax reads a distribution from them."""


class GazeFollower(pl.LightningModule):
    """Predict where a person in an image looks, and whether it is in the image.

    Args:
        decoder: `diffusion`, which samples maps, or `direct`, which draws one.
        conditioner_options: Options of `Conditioner`.
        decoder_options: Options of `DiffusionDecoder` or `MapDecoder`.
        scene_hw: Height and width that scenes are stretched to.
        head_hw: Height and width that head crops are stretched to.
        sigma_px: Standard deviation of the target in map pixels.
        in_out_weight: Of the loss of the in/out head; 0 leaves it untrained.
        kl_weight: Of the divergence between map and target.
        point_weight: Of the squared distance of the map's soft argmax to the target.
        direction_weight: Of 1 - cosine of the direction that the conditioner reads, with `gaze_frame`.
        frozen: Parts that are kept as they are: names in `named_groups.GROUPS`.
        learning_rate: Peak learning rate.
        learning_rates: Factors of it for parts, by name, such as `{"scene": 0.1}`.
        weight_decay: Decay of the weights of convolutions and linear layers.
        warmup: Share of the run in which the learning rate rises.
        decay_type: `cosine`, `linear`, `constant` or `onecycle`: what it does after that.
        final_lr_share: Share of the peak learning rate at the end.

    Raises:
        ValueError: If a value is out of its range, or some do not fit together.
    """

    def __init__(  # noqa: PLR0913  plain values are what a checkpoint can restore
        self,
        decoder: str = "diffusion",
        conditioner_options: Mapping[str, Any] | None = None,
        decoder_options: Mapping[str, Any] | None = None,
        *,
        scene_hw: tuple[int, int] = (224, 224),
        head_hw: tuple[int, int] = (224, 224),
        sigma_px: float = 3.0,
        in_out_weight: float = 1.0,
        kl_weight: float = 0.0,
        point_weight: float = 0.0,
        direction_weight: float = 0.0,
        frozen: Sequence[str] = (),
        learning_rate: float = 2.5e-4,
        learning_rates: Mapping[str, float] | None = None,
        weight_decay: float = 0.0,
        warmup: float = 0.05,
        decay_type: str = "cosine",
        final_lr_share: float = 0.0,
    ) -> None:
        super().__init__()
        scene_hw, head_hw, frozen = _pair(scene_hw), _pair(head_hw), list(frozen)
        conditioner_options, decoder_options = dict(conditioner_options or {}), dict(decoder_options or {})
        learning_rates = dict(learning_rates or {})
        self.save_hyperparameters()
        self.conditioner = Conditioner(**conditioner_options)
        self.in_out_head = InOutHead(self.conditioner.feature_channels, self.conditioner.grid_hw)
        self.decoder = create_decoder(decoder, decoder_options)
        self._check_options()
        freeze_groups(self, frozen)

    @property
    def map_hw(self) -> tuple[int, int]:
        """Return height and width of the maps."""
        return self.decoder.map_hw

    def forward(
        self, scene: Tensor, head: Tensor, head_mask: Tensor, depth: Tensor | None = None
    ) -> tuple[Conditioning, Tensor]:
        """Condition a batch: what is computed once per image, however many maps are drawn.

        Args:
            scene: uint8 `[n, 3, H, W]`.
            head: uint8 `[n, 3, h, w]`.
            head_mask: uint8 `[n, 1, H, W]`, 255 in the head box.
            depth: uint8 `[n, 1, H, W]`, with the conditioner's option `depth`.

        Returns:
            The conditioning, and logits of looking into the image `[n]`.
        """
        conditioning = self.conditioner(scene, head, head_mask, depth)
        return conditioning, self.in_out_head(conditioning.features)

    @torch.inference_mode()
    def sample_maps(
        self,
        batch: "GazeBatch | Mapping[str, Tensor]",
        samples: int = 1,
        seed: int | Sequence[int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Draw maps of the people of a batch.

        Args:
            batch: With `scene`, `head`, `head_mask`, and `depth` where the conditioner takes it.
            samples: Maps of each person, s >= 1; a direct decoder has one.
            seed: Of the noise, the same on every device; with one for each person, who is in a batch with
                whom makes no difference. None takes torch's own generator.

        Returns:
            Maps float32 `[n, s, h, w]` in [0, 1], and the probability of looking into the image `[n]`.
        """
        if samples < 1:
            raise ValueError(f"expected samples >= 1, got {samples}")
        was_training = self.training
        self.eval()
        try:
            conditioning, logits = self(*self._inputs(batch))
            maps = self.decoder.sample_maps(conditioning, samples, _generators(seed))
        finally:
            self.train(was_training)
        return maps, logits.float().sigmoid()

    def training_step(self, batch: GazeBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch, from one annotator of each person at random."""
        losses = self.losses(batch, one_annotator(batch["gaze"]))
        self._log_losses("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: GazeBatch, batch_idx: int) -> None:
        """Log the losses of a batch, against all annotators; the noise is the same in every validation."""
        with torch.random.fork_rng(devices=_cuda_devices(self.device)):
            torch.manual_seed(batch_idx)
            losses = self.losses(batch, batch["gaze"])
        self._log_losses("validation", losses, batch)

    def losses(self, batch: GazeBatch, gaze: Tensor) -> dict[str, Tensor]:
        """Return `loss` and its parts, scalars.

        Args:
            batch: Of n people.
            gaze: `[n, a, 2]`, the annotators to learn from, in pixels of the scene.
        """
        options, in_frame = self.hparams, batch["in_frame"]
        # Whose point is not known looks into the image without saying where.
        inside = torch.where(gaze.isfinite().all(-1).any(1), in_frame, torch.zeros_like(in_frame))
        conditioning, logits = self(*self._inputs(batch))
        scene_hw = _pair(batch["scene"].shape[-2:])
        target = target_maps(gaze, scene_hw, self.map_hw, options["sigma_px"])
        drawn = self.decoder.loss(conditioning, target, inside)
        losses = {"map_loss": drawn.value, "in_out_loss": _known_mean(logits, in_frame)}
        if options["kl_weight"]:
            divergence = kl_divergence(SOFTMAX_BETA * drawn.maps, target, inside)
            losses["kl_loss"] = mean_inside(divergence, inside)
        if options["point_weight"]:
            points = soft_argmax(drawn.maps, SOFTMAX_BETA)[:, 0]
            on_map = to_map_pixels(gaze, scene_hw, self.map_hw)
            losses["point_loss"] = mean_inside(point_loss(points, on_map, inside, self.map_hw), inside)
        if options["direction_weight"]:
            losses["direction_loss"] = _direction_loss(conditioning, batch, gaze, inside)
        weights = {
            "map_loss": 1.0,
            **{name: options[name.replace("loss", "weight")] for name in losses if name != "map_loss"},
        }
        losses["loss"] = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return losses

    def _inputs(self, batch: Any) -> tuple[Tensor | None, ...]:
        depth = batch.get("depth") if self.conditioner.depth_branch is not None else None
        parts = (batch["scene"], batch["head"], batch["head_mask"], depth)
        return tuple(None if part is None else part.to(self.device) for part in parts)

    def _log_losses(self, stage: str, losses: Mapping[str, Tensor], batch: GazeBatch) -> None:
        is_training = stage == "train"
        for name, value in losses.items():
            self.log(
                f"{stage}/{name}",
                value.detach(),
                prog_bar=is_training and name == "loss",
                batch_size=len(batch["scene"]),
                on_step=is_training,
                on_epoch=True,
                sync_dist=not is_training,
            )

    def train(self, mode: bool = True) -> "GazeFollower":
        """Change the mode; frozen parts stay as in evaluation, batch statistics included."""
        super().train(mode)
        hold_groups_still(self, self.hparams.get("frozen", ()))
        return self

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW with a group per part of the network, and its schedule over the run."""
        options = self.hparams
        optimizer = make_adamw(parameter_groups(self), options["learning_rate"])

        def position() -> tuple[float, int]:
            return training_progress(self.trainer), self.trainer.global_step

        shape = {name: options[name] for name in ("decay_type", "warmup", "final_lr_share")}
        schedule = RunSchedule(optimizer, position, {**shape, "warmup_steps": None, "plateau_factor": 1.0})
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _check_options(self) -> None:
        options = self.hparams
        weights = [name for name in options if name.endswith("_weight")]
        wrong = [name for name in weights if not options[name] >= 0]
        if wrong:
            raise ValueError(f"{wrong[0]}: expected >= 0, got {options[wrong[0]]}")
        if options["direction_weight"] and self.conditioner.gaze_frame is None:
            raise ValueError(
                "direction_weight needs the conditioner's option gaze_frame; set it, or leave out"
            )
        unknown = set(options["learning_rates"]) - set(GROUPS)
        if unknown:
            raise ValueError(
                f"learning_rates: expected names of {', '.join(GROUPS)}, got {', '.join(sorted(unknown))}"
            )
        context = getattr(self.decoder, "denoiser", None) or getattr(self.decoder, "direct_decoder", None)
        width = cast("Any", context).context_dim
        if width != self.conditioner.token_width:
            raise ValueError(
                f"context_dim of the decoder needs to be the width of the conditioner, "
                f"{self.conditioner.token_width}, got {width}"
            )


def parameter_groups(follower: GazeFollower) -> list[dict[str, Any]]:
    """Return the parameters that train, by part and by whether they decay, with names and learning rates."""
    options, groups = follower.hparams, []
    for part, parameters in named_groups(follower).items():
        rate = options["learning_rate"] * options["learning_rates"].get(part, 1.0)
        training = [one for one in parameters if one.requires_grad]
        for name, decay in (("", options["weight_decay"]), (" without decay", 0.0)):
            chosen = [one for one in training if (one.ndim > 1) == (not name)]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay, "name": part + name})
    return groups


def _direction_loss(conditioning: Conditioning, batch: GazeBatch, gaze: Tensor, inside: Tensor) -> Tensor:
    """Return the mean of 1 - cosine between the direction that was read and that to the annotators' mean."""
    assert conditioning.direction is not None
    sides = gaze.new_tensor(batch["scene"].shape[:-3:-1])  # not of the scene: 256 is no uint8
    wanted = (gaze.nanmean(1) - batch["eye"]) / sides
    cosine = F.cosine_similarity(conditioning.direction.float(), wanted.nan_to_num(), dim=-1)
    return mean_inside(1 - cosine, inside)


def _known_mean(logits: Tensor, in_frame: Tensor) -> Tensor:
    known = (in_frame == 0) | (in_frame == 1)
    return in_out_error(logits, in_frame).sum() / known.sum().clamp(min=1)


def _pair(hw: Sequence[int]) -> tuple[int, int]:
    height, width = (int(side) for side in hw)
    return height, width


def _generators(seed: int | Sequence[int] | None) -> Generators:
    if isinstance(seed, Sequence):
        return [torch.Generator().manual_seed(one) for one in seed]
    return None if seed is None else torch.Generator().manual_seed(seed)


def _cuda_devices(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
