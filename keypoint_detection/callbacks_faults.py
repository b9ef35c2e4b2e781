"""A loss that is no number ends a training: before it reaches the weights, or at the latest a checkpoint."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

STEPS_BETWEEN_CHECKS = 10
"""On a GPU reading a loss waits for the device: the losses of this many steps are read together."""


class NotFiniteError(RuntimeError):
    """Say in one line in which step, with which loss and on which images a training came off the rails."""


class FiniteLoss(Callback):
    """Stop at a NaN or infinite loss, and never write weights that are not finite.

    On a CPU the loss is looked at before the weights change; on a GPU up to ten steps later, but always
    before a checkpoint is written, so that the last good one stays.

    Args:
        checkpoint: The checkpoint to resume from, for the message.
    """

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self._image_id: Tensor | None = None
        self._unread: list[tuple[int, int, Tensor, Tensor | None]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Note the images of this batch."""
        self._image_id = batch.get("image_id") if isinstance(batch, dict) else None

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Note the loss; look at it if that costs nothing or it is time to."""
        self._unread.append((trainer.global_step, trainer.current_epoch, loss.detach(), self._image_id))
        if loss.device.type == "cpu" or len(self._unread) >= STEPS_BETWEEN_CHECKS:
            self._read(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the losses that are left."""
        self._read(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse to write weights that are not finite."""
        self._read(trainer)
        weights = checkpoint["state_dict"]
        names = [name for name, _ in pl_module.named_parameters() if name in weights]
        wrong = [name for name in names if not bool(weights[name].isfinite().all())]
        if wrong:
            raise NotFiniteError(
                f"step {trainer.global_step}: expected finite weights, got NaN or infinity in {wrong[0]} and "
                f"{len(wrong) - 1} more after a finite loss; {self._kept()}"
            )

    def _read(self, trainer: pl.Trainer) -> None:
        unread, self._unread = self._unread, []
        if not unread or bool(torch.stack([loss.float() for _, _, loss, _ in unread]).isfinite().all()):
            return
        step, epoch, loss, image_id = next(entry for entry in unread if not bool(entry[2].isfinite()))
        raise NotFiniteError(
            f"step {step} of epoch {epoch}: expected a finite loss, got {float(loss):g} on the images "
            f"{_image_names(trainer, image_id)}; {self._kept()}"
        )

    def _kept(self) -> str:
        kept = (
            f"the last good checkpoint is {self.checkpoint}" if self.checkpoint.is_file() else "none is saved"
        )
        return f"{kept}; look at these labels, lower --learning_rate, or use --precision 32"


def _image_names(trainer: pl.Trainer, image_id: Tensor | None) -> str:
    """Return the files of a batch and their ids."""
    if image_id is None:
        return "of this batch"
    dataset = getattr(getattr(trainer, "datamodule", None), "train_dataset", None)
    ids = image_id.tolist()
    if dataset is None or not hasattr(dataset, "file_name"):
        return "with the ids " + ", ".join(map(str, ids))
    return ", ".join(f"{dataset.file_name(number)} (id {number})" for number in ids)
