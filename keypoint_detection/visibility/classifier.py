"""VisibilityClassifier: normalisation, network, loss, optimiser and scores, wired together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import CatMetric

from keypoint_detection.metrics.binary_classification import binary_scores
from keypoint_detection.models.optimization import RunSchedule, make_adamw, training_progress
from keypoint_detection.models.schedules import lr_factor
from keypoint_detection.visibility.factors import check_factors
from keypoint_detection.visibility.network import MultiMagnificationNet
from keypoint_detection.visibility.network_backbone import BackboneMagnificationNet

UNKNOWN_MEAN, UNKNOWN_STD = 127.5, 64.0
"""Statistics of a channel where none are given, in grey levels."""

SMALLEST_STD = 1.0
"""Grey levels; a channel that is constant in the training points is not blown up."""


class VisibilityClassifier(pl.LightningModule):
    """Predict from concentric patches whether the point in their middle is visible: 1, or not: 0.

    Dropout is lighter than published: with a probability of 0.5 after each of seven blocks, a training of a
    few minutes on a CPU does not get far.

    Args:
        factors: Demagnification of each level, rising; with `align_features` each is twice the one before.
        n_channels: Channels per level: 3 of colour, or 4 with depth.
        patch_px: Side of the patches; a power of two without a `backbone_type`.
        size_hidden: Channels of the encoding of a level.
        share_weights: Encode all levels by the same weights.
        use_mlp: Classify by one hidden layer; False: linearly.
        align_features: Carry features from level to level, see `MultiMagnificationNet`.
        dropout: Probability of leaving out a channel in training, in [0, 1).
        backbone_type: Name in the backbone registry: encode each level by it; None takes the convolution
            blocks of `MultiMagnificationNet`.
        backbone_options: Options of that backbone.
        channel_mean: Mean of each input channel over the training points, in grey levels 0..255, one for
            each channel of each level, finest level first; None takes 127.5.
        channel_std: Standard deviation likewise; None takes 64.
        learning_rate: Peak learning rate of AdamW.
        weight_decay: Decay of the weights of convolutions and linear layers.
        warmup: Share of the run in which the learning rate rises.
        decay_type: `cosine`, `linear`, `constant` or `onecycle`: what it does after that.
        final_lr_share: Share of the peak learning rate at the end.

    Raises:
        ValueError: If a value is out of its range.
    """

    channel_mean: Tensor
    channel_std: Tensor

    def __init__(  # noqa: PLR0913  plain values are what a checkpoint can restore
        self,
        factors: Sequence[int] = (2, 4, 8, 16, 32),
        n_channels: int = 3,
        *,
        patch_px: int = 128,
        size_hidden: int = 128,
        share_weights: bool = True,
        use_mlp: bool = True,
        align_features: bool = False,
        dropout: float = 0.1,
        backbone_type: str | None = None,
        backbone_options: dict[str, Any] | None = None,
        channel_mean: Sequence[float] | None = None,
        channel_std: Sequence[float] | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        warmup: float = 0.05,
        decay_type: str = "cosine",
        final_lr_share: float = 0.0,
    ) -> None:
        super().__init__()
        factors = [int(factor) for factor in factors]
        channel_mean = None if channel_mean is None else [float(value) for value in channel_mean]
        channel_std = None if channel_std is None else [float(value) for value in channel_std]
        self.save_hyperparameters(logger=False)  # a run's choices are in its config.yaml
        check_factors(factors, align_features=align_features)
        _check_schedule(decay_type, warmup, final_lr_share)
        self.network = make_network(self.hparams)
        n_inputs = len(factors) * n_channels
        mean = _statistic("channel_mean", channel_mean, n_inputs, UNKNOWN_MEAN)
        std = _statistic("channel_std", channel_std, n_inputs, UNKNOWN_STD).clamp_min(SMALLEST_STD)
        self.register_buffer("channel_mean", mean, persistent=False)  # kept by the hyperparameters
        self.register_buffer("channel_std", std, persistent=False)
        self.logits = CatMetric(nan_strategy="disable")
        self.labels = CatMetric(nan_strategy="disable")

    def forward(self, patches: Tensor) -> Tensor:
        """Classify points.

        Args:
            patches: uint8 `[n, levels * n_channels, patch_px, patch_px]`, finest level first.

        Returns:
            Logits of visibility, `[n]`.

        Raises:
            ValueError: If the patches have another type or shape.
        """
        if patches.dtype != torch.uint8:
            raise ValueError(
                "VisibilityClassifier needs uint8 patches with values 0..255, got "
                f"{patches.dtype} {list(patches.shape)}; normalisation happens inside."
            )
        if patches.ndim == 4 and patches.shape[1] == len(self.channel_mean):
            return self.network((patches - self.channel_mean) / self.channel_std)
        return self.network(patches)  # which says what is wrong with the shape

    @torch.inference_mode()
    def predict_proba(self, patches: "Tensor | NDArray[np.uint8]", batch_size: int = 64) -> Tensor:
        """Return P(visible) of points, without dropout and whatever mode the classifier is in.

        Args:
            patches: uint8 `[n, levels * n_channels, patch_px, patch_px]`, on any device; n may be 0.
            batch_size: Points per forward pass.

        Returns:
            float32 `[n]` in [0, 1], on the CPU.
        """
        patches = torch.as_tensor(patches)
        was_training = self.training
        self.eval()
        try:
            logits = [self(batch.to(self.device)).float().cpu() for batch in patches.split(batch_size)]
        finally:
            self.train(was_training)
        return torch.sigmoid(torch.cat(logits))

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch: `patch` as for `forward`, `label` `[n]`, 1 visible or 0."""
        loss = F.binary_cross_entropy_with_logits(self(batch["patch"]), batch["label"].float())
        size = len(batch["label"])
        self.log("train/loss", loss, prog_bar=True, batch_size=size, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the logits and labels of a batch."""
        self._collect(batch)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Collect the logits and labels of a batch."""
        self._collect(batch)

    def _collect(self, batch: dict[str, Tensor]) -> None:
        self.logits.update(self(batch["patch"]).float())
        self.labels.update(batch["label"].float())

    def on_validation_epoch_end(self) -> None:
        """Log the loss and the scores of all points."""
        self._log_scores("validation")

    def on_test_epoch_end(self) -> None:
        """Log the loss and the scores of all points."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        logits, labels = (
            torch.as_tensor(part.compute()).cpu().numpy() for part in (self.logits, self.labels)
        )
        self.logits.reset()
        self.labels.reset()
        # One process logs what all found: the metrics gather over processes.
        scores = {f"{stage}/{name}": value for name, value in binary_scores(logits, labels).items()}
        self.log_dict({name: torch.tensor(value, dtype=torch.float32) for name, value in scores.items()})

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW, and its schedule over the run by steps or by the time limit."""
        options = self.hparams
        parameters = list(self.network.parameters())
        groups = [
            {"params": [one for one in parameters if one.ndim > 1], "weight_decay": options["weight_decay"]},
            {"params": [one for one in parameters if one.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = make_adamw(groups, options["learning_rate"])

        def position() -> tuple[float, int]:
            return training_progress(self.trainer), self.trainer.global_step

        shape = {name: options[name] for name in ("decay_type", "warmup", "final_lr_share")}
        schedule = RunSchedule(optimizer, position, {**shape, "warmup_steps": None, "plateau_factor": 1.0})
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def make_network(options: Any) -> nn.Module:
    """Build the network that hyperparameters of a classifier describe.

    Raises:
        ValueError: If they do not fit together, or a value is out of its range.
    """
    common = {
        name: options[name] for name in ("size_hidden", "share_weights", "use_mlp", "patch_px", "dropout")
    }
    sizes = {"num_levels": len(options["factors"]), "num_channels": options["n_channels"]}
    name, backbone_options = options["backbone_type"], options["backbone_options"]
    if name is None:
        if backbone_options:
            raise ValueError(
                f"backbone_options {backbone_options} need a backbone_type, got none; name a backbone"
            )
        return MultiMagnificationNet(**sizes, **common, align_features=options["align_features"])
    if options["align_features"]:
        raise ValueError(f"align_features needs the convolution blocks, got backbone_type {name!r}; drop one")
    return BackboneMagnificationNet(**sizes, **common, backbone_type=name, backbone_options=backbone_options)


def _check_schedule(decay_type: str, warmup: float, final_lr_share: float) -> None:
    """Raise a ValueError if the schedule is unknown or a share is outside [0, 1]."""
    lr_factor(0.0, decay_type, warmup, final_lr_share)
    if decay_type == "plateau":
        raise ValueError(
            "decay_type needs one that follows the progress of the run, got 'plateau'; use cosine"
        )


def _statistic(name: str, values: Sequence[float] | None, n_inputs: int, unknown: float) -> Tensor:
    """Return a statistic of each input channel as float32 `[n_inputs, 1, 1]`."""
    values = [unknown] * n_inputs if values is None else values
    if len(values) != n_inputs or not all(np.isfinite(values)) or min(values) < 0:
        raise ValueError(
            f"{name} needs {n_inputs} finite numbers >= 0, one for each channel of each level, got "
            f"{len(values)}: {', '.join(f'{value:g}' for value in values[:8])}"
        )
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
