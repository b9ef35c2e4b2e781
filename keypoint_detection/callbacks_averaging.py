"""Averaged weights: validation, the checkpoints and the end of a run use a running mean of the weights."""

from itertools import chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

TensorPairs = tuple[list[Tensor], list[Tensor]]


def averaging_callbacks(decay: float) -> list[Callback]:
    """Return the callback for `--ema_decay`, or none for 0."""
    return [AveragedWeights(decay)] if decay > 0 else []


def decay_after(n_updates: int, decay: float) -> float:
    """Return `min(decay, (1 + n) / (10 + n))`: 0.1 at first, so that the random start is soon forgotten.

    Args:
        n_updates: Updates before this one, n.
        decay: What it rises to, in [0, 1).

    Source: TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(decay, (1.0 + n_updates) / (10.0 + n_updates))


class AveragedWeights(WeightAveraging):
    """Keep an exponential moving average of weights and of BatchNorm's statistics.

    After step n the average moves towards the weights by `1 - decay_after(n - 1)`. A checkpoint has the
    average in `state_dict`, which is what inference loads, and the weights to resume from in
    `current_model_state`.

    Lightning's class is used for the copy of the model and the form of the checkpoints. What it does
    otherwise: it leaves the copy on the CPU when the model goes to a GPU; it waits for the device in every
    step and averages counters of batches; testing a checkpoint after a fit loads the weights that are not
    averaged; an interrupted validation, and a checkpoint after the end, confuse weights and average;
    and the learning-rate finder delays the average of the training by its steps.

    Args:
        decay: Share of the average that stays in a step, in (0, 1).
    """

    def __init__(self, decay: float) -> None:
        super().__init__(use_buffers=True)
        self.decay = decay
        self.is_swapped = False
        self._floats: TensorPairs = ([], [])
        self._others: TensorPairs = ([], [])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy the model when a training begins, and forget an earlier one."""
        if stage == "fit":
            self.is_swapped, self._latest_update_step = False, 0
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the copy beside the model, which is on its device by now."""
        copy = self._copy()
        copy.to(pl_module.device)
        pairs = list(zip(_tensors(copy.module), _tensors(pl_module), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        others = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._floats, self._others = _columns(floats), _columns(others)

    @torch.no_grad()
    def on_train_batch_end(  # noqa: D102  the signature is Lightning's
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step <= self._latest_update_step:
            return  # gradients are being accumulated
        share = 1.0 - decay_after(trainer.global_step - 1, self.decay)
        torch._foreach_lerp_(*self._floats, share)  # pyright: ignore[reportPrivateImportUsage]
        if self._others[0]:
            torch._foreach_copy_(*self._others)  # pyright: ignore[reportPrivateImportUsage]
        self._copy().n_averaged += 1
        self._latest_update_step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validate with the average."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module, True)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._swap(pl_module, False)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Put the weights back where they belong, if a validation was interrupted."""
        if trainer.state.fn == TrainerFn.FITTING and self._average_model is not None:
            self._swap(pl_module, False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the model; the weights stay in the copy, for checkpoints to come."""
        self._swap(pl_module, True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write average and weights, wherever they are at the moment."""
        if self._average_model is None:
            return
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.is_swapped:
            average, weights = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint["current_model_state"], checkpoint["state_dict"] = weights, average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Read both when a run is resumed; a run that did not average so far begins with its weights."""
        if trainer.state.fn != TrainerFn.FITTING or self._average_model is None:
            return
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
        else:
            self._copy().module.load_state_dict(checkpoint["state_dict"])

    def _swap(self, pl_module: pl.LightningModule, is_swapped: bool) -> None:
        """Exchange model and copy, unless they are as asked for."""
        if is_swapped != self.is_swapped:
            self._swap_models(pl_module)
            self.is_swapped = is_swapped

    def _copy(self) -> Any:
        assert self._average_model is not None, "setup has not been called for a training"
        return self._average_model


def _tensors(module: nn.Module) -> list[Tensor]:
    return [tensor.detach() for tensor in chain(module.parameters(), module.buffers())]


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> TensorPairs:
    return [average for average, _ in pairs], [current for _, current in pairs]
