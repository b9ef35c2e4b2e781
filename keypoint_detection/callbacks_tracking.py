"""Callbacks that send to the loggers what neither the losses nor the scores say."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import WandbLogger


class TrackedSettings(Callback):
    """Log the learning rates and the sigma of the targets, by steps and by epochs.

    The steps are those whose loss is logged, with the rate of that step; the line of an epoch has the rate
    of its last step. `learning_rate` is the largest one, the head's; where groups of parameters differ, each
    has `lr-<name of the group>`.
    """

    def __init__(self) -> None:
        self.values: dict[str, float] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Read the values of this step before the schedule changes them."""
        self.values = {"sigma_px": float(pl_module.sigma_px())}
        for optimizer in trainer.optimizers:
            self.values |= learning_rates(optimizer.param_groups)
        every = trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue] - set by a connector
        if every and (trainer.global_step + 1) % every == 0:
            pl_module.log_dict(self.values, on_step=True, on_epoch=False)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Log what the last step of the epoch used; it is the same in every process."""
        pl_module.log_dict(self.values, on_step=False, on_epoch=True, rank_zero_only=True)


def learning_rates(groups: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return `learning_rate`, the largest rate, and one rate per name of a group where they differ.

    Args:
        groups: Of an optimiser, from the image to the head. Groups without a `name` are called `group1` and
            so on, one for all that start with the same rate.
    """
    first_rates = [group.get("initial_lr", group["lr"]) for group in groups]
    different = list(dict.fromkeys(first_rates))
    rates = {"learning_rate": float(max((group["lr"] for group in groups), default=0.0))}
    if len(different) > 1 or any("name" in group for group in groups):
        for group, first in zip(groups, first_rates, strict=True):
            rates[f"lr-{group.get('name') or f'group{different.index(first) + 1}'}"] = float(group["lr"])
    return rates


class BestCheckpointArtifact(Callback):
    """Upload the best checkpoint to wandb when a training has ended, as artifact `model-<run id>`.

    Args:
        folder: Holds `best.ckpt`, or only `last.ckpt` when no validation has happened.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Upload it from the first process; offline, wandb keeps a copy for `wandb sync`."""
        written = [path for name in ("best", "last") if (path := self.folder / f"{name}.ckpt").is_file()]
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if not trainer.is_global_zero or not written or not loggers:
            return
        run: Any = loggers[0].experiment
        aliases = ["latest", written[0].stem] if written[0].stem != "last" else ["latest"]
        run.log_artifact(str(written[0]), name=f"model-{run.id}", type="model", aliases=aliases)
