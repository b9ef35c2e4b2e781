"""Callbacks of a training: relative early stopping, the checkpoint to resume from, pictures to log."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, Checkpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.models.inference import decode_batch
from keypoint_detection.utils.heatmap import generate_heatmaps
from keypoint_detection.utils.visualization import draw_heatmap, draw_keypoints


class RelativeEarlyStopping(Callback):
    """Stop when the validation loss has not fallen by a share of itself for some validations.

    Args:
        threshold: The least relative gain that counts, such as 1e-4.
        patience: Validations without such a gain before the run stops.
    """

    def __init__(self, threshold: float, patience: int = 5) -> None:
        self.threshold, self.patience = threshold, patience
        self.best, self.waited = float("inf"), 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare this validation with the best one so far."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        loss = float(trainer.callback_metrics["validation/loss"])
        if loss * (1.0 + self.threshold) < self.best:
            self.best, self.waited = loss, 0
            return
        self.waited += 1
        trainer.should_stop = trainer.should_stop or self.waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must remember."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what the interrupted run remembered."""
        self.best, self.waited = state_dict["best"], state_dict["waited"]


class LastCheckpoint(Checkpoint):
    """Keep the checkpoint that a run can be resumed from: after every epoch, at the end and when interrupted.

    Args:
        path: Where to write it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save weights, optimiser, schedule and epoch."""
        trainer.save_checkpoint(self.path)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save them in the middle of an epoch, if a step has been made."""
        if trainer.global_step > 0 and trainer.state.fn == TrainerFn.FITTING:
            trainer.save_checkpoint(self.path)


class ImageLogger(Callback):
    """Send a grid of the first validation batch to wandb: detected keypoints above, target heatmaps below.

    Args:
        every_n_epochs: Epochs between two grids.
        max_images: Most images of a grid.
    """

    def __init__(self, every_n_epochs: int, max_images: int = 6) -> None:
        self.every_n_epochs, self.max_images = every_n_epochs, max_images

    def on_validation_batch_end(  # noqa: D102, PLR0917  the signature is Lightning's
        self,
        trainer: pl.Trainer,
        pl_module: Any,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        is_due = batch_idx == 0 and pl_module.current_epoch % self.every_n_epochs == 0
        wandb_loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not is_due or not wandb_loggers or trainer.sanity_checking:
            return
        for name, grid in self.grids(pl_module, batch).items():
            wandb_loggers[0].log_image(f"validation/{name}", [grid])

    def grids(self, pl_module: Any, batch: Any) -> dict[str, np.ndarray]:
        """Return one uint8 RGB picture per channel: overlays of the prediction above, of the target below."""
        output = pl_module(batch["image"])
        inputs = {**batch, "to_image": _identity_like(batch["to_image"]), "image_hw": batch["input_hw"]}
        points, scores = (value.float().cpu().numpy() for value in decode_batch(pl_module, output, inputs))
        images = batch["image"].permute(0, 2, 3, 1).cpu().numpy()[: self.max_images, ..., :3]
        predicted, targets = _maps(pl_module, batch, output)
        pictures = {}
        for channel, name in enumerate(pl_module.channel_names):
            above = [
                draw_keypoints(
                    draw_heatmap(image, predicted[i, channel]), [points[i, channel]], [scores[i, channel]]
                )
                for i, image in enumerate(images)
            ]
            below = [draw_heatmap(image, targets[i, channel]) for i, image in enumerate(images)]
            pictures[name] = np.vstack([np.hstack(above), np.hstack(below)])
        return pictures


def _maps(pl_module: Any, batch: Any, output: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return predicted and target heatmaps; a direct regression predicts none, and its targets are drawn."""
    if output.ndim == 4:
        targets, _ = pl_module.targets(batch, output)
        return output.float().sigmoid().cpu().numpy(), targets.float().cpu().numpy()
    hw = (batch["image"].shape[-2], batch["image"].shape[-1])
    targets = generate_heatmaps(batch["keypoints"], batch["visibility"], hw, sigma_px=4.0).cpu().numpy()
    return np.zeros_like(targets), targets


def _identity_like(affine: Any) -> Any:
    identity = affine.new_zeros(affine.shape)
    identity[:, 0, 0] = identity[:, 1, 1] = 1.0
    return identity
