"""The checkpoint to resume from: when it is written, what it holds, and how a run goes on from it."""

import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.callbacks_resume_state import (
    Boundary,
    apply_training_state,
    fast_forward,
    go_on_in_epoch,
    of_every_process,
    settle_loops,
    training_state,
)
from keypoint_detection.callbacks_signals import StopRequest

STATE_KEY = "training_state"
STEPS_BETWEEN_AGREEMENTS = 10
"""Several processes save together or not at all; they ask each other this often, since asking costs time."""


class StoppedBySignal(Exception):
    """Say that a signal ended the training between two steps; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by signal {number}")
        self.number = number


class LastCheckpoint(Checkpoint):
    """Keep the checkpoint that a run is resumed from, always taken between two steps.

    A run that goes on from it does what it would have done: the same batches, the same random numbers, the
    same schedules, the same sums behind the means of the epoch. It is written when an epoch is over (after
    all else that belongs to it), every so many steps or seconds, at the end, when a signal asks the run to
    stop, and when loading a batch failed. In the middle of a step that failed nothing is written.

    Args:
        path: Where to write it.
        every_steps: Optimiser steps between two; None counts none.
        every_s: Seconds between two; None takes no time.
    """

    def __init__(self, path: Path, every_steps: int | None = None, every_s: float | None = None) -> None:
        self.path, self.every_steps, self.every_s = path, every_steps, every_s
        self.saved_step, self._tried_step, self._tried_at = 0, 0, 0.0
        self.stop = StopRequest()
        self._boundary: Boundary | None = None
        self._resumed: dict[str, Any] | None = None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep what has to be restored when the training starts."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._resumed = checkpoint.get(STATE_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the place in the data, and listen to signals."""
        is_saved = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve() == self.path.resolve()
        self.saved_step = trainer.global_step if is_saved else 0
        self._tried_step, self._tried_at = self.saved_step, time.monotonic()
        if self._resumed is not None:
            fast_forward(trainer, self._resumed)
        self.stop.listen()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the epoch before has left, now that its metrics and schedules are done too."""
        self._go_on(trainer, pl_module)
        if trainer.global_step != self.saved_step:
            self._save(trainer, "epoch")
        self._stop_if_asked(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time to, or when asked to stop."""
        if self._resumed is not None:
            state = self._resumed
            self._go_on(trainer, pl_module)
            go_on_in_epoch(trainer, pl_module, state)
        elif batch_idx > 0 and not _is_accumulating(trainer) and self._is_agreed(trainer):
            self._save(trainer, "batch")
            self._stop_if_asked(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore a run that was interrupted in a validation."""
        if trainer.state.fn == TrainerFn.FITTING:
            self._go_on(trainer, pl_module)

    def on_validation_batch_end(  # noqa: D102, PLR0917  the signature is Lightning's
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        # Several processes finish the validation: they may take different numbers of batches.
        is_fitting = trainer.state.fn == TrainerFn.FITTING and trainer.world_size == 1
        if is_fitting and self.stop.number is not None and not _is_accumulating(trainer):
            self._save(trainer, "validation")
            self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore a run whose checkpoint was taken at the end of a validation, such as `best.ckpt`."""
        self._go_on(trainer, pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save what the run ends with."""
        self.stop.give_back()
        self._resumed = None
        if trainer.global_step > 0 and trainer.global_step != self.saved_step:
            self._save(trainer, "epoch")

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save if what failed lies between two steps, such as reading an image; not in several processes."""
        self.stop.give_back()
        boundary = _boundary_of_failure(trainer)
        is_new = 0 < trainer.global_step != self.saved_step
        if boundary and is_new and trainer.world_size == 1 and not isinstance(exception, StoppedBySignal):
            self._save(trainer, boundary)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the state of the training to every checkpoint of a fit."""
        is_training = trainer.state.fn == TrainerFn.FITTING and trainer.fit_loop.epoch_progress.current.ready
        if not is_training:
            return
        checkpoint[STATE_KEY] = training_state(trainer, pl_module, self._boundary)
        if self._boundary is not None:
            fit_loop = checkpoint["loops"]["fit_loop"]
            settle_loops(fit_loop, self._boundary)
            if self._boundary == "epoch":  # the epoch that is over, as it is written in every log
                checkpoint["epoch"] = fit_loop["epoch_progress"]["current"]["completed"] - 1

    def _save(self, trainer: pl.Trainer, boundary: Boundary) -> None:
        self._boundary = boundary
        try:
            trainer.save_checkpoint(self.path)
        finally:
            self._boundary = None
        # Also after a failure: the next try is at the next time.
        self._tried_step, self._tried_at = trainer.global_step, time.monotonic()
        if not getattr(trainer.strategy.checkpoint_io, "failures", 0):
            self.saved_step = trainer.global_step

    def _go_on(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._resumed is not None:
            apply_training_state(trainer, pl_module, self._resumed)
            self._resumed = None

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        asked = self.stop.number
        if trainer.world_size > 1:
            asked = max(number or 0 for number in of_every_process(asked)) or None
        if asked is not None:
            raise StoppedBySignal(asked)

    def _is_agreed(self, trainer: pl.Trainer) -> bool:
        """Tell whether to save before this batch, the same in every process."""
        if trainer.world_size == 1:
            return self._is_wished(trainer)
        n_done = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        is_asked = n_done // trainer.accumulate_grad_batches % STEPS_BETWEEN_AGREEMENTS == 0
        return is_asked and trainer.strategy.reduce_boolean_decision(self._is_wished(trainer), all=False)

    def _is_wished(self, trainer: pl.Trainer) -> bool:
        n_steps, seconds = trainer.global_step - self._tried_step, time.monotonic() - self._tried_at
        by_steps = self.every_steps is not None and n_steps >= self.every_steps
        by_time = self.every_s is not None and seconds >= self.every_s and n_steps > 0
        return by_steps or by_time or self.stop.number is not None


def _is_accumulating(trainer: pl.Trainer) -> bool:
    """Tell whether gradients of the batches so far wait for more: they are in no checkpoint."""
    batches = trainer.fit_loop.epoch_loop.batch_progress
    return not batches.is_last_batch and batches.current.completed % trainer.accumulate_grad_batches != 0


def _boundary_of_failure(trainer: pl.Trainer) -> Boundary | None:
    """Return where a training stands that something has ended; None in a step or between two epochs."""
    loop = trainer.fit_loop
    epoch: Any = loop.epoch_progress.current
    batches = loop.epoch_loop.batch_progress
    in_epoch = epoch.started == epoch.ready == epoch.processed + 1
    is_between = batches.current.ready == batches.current.completed > 0
    if trainer.state.fn != TrainerFn.FITTING or not in_epoch or not is_between or _is_accumulating(trainer):
        return None
    if not trainer.validating:
        return None if batches.is_last_batch else "batch"
    done = loop.epoch_loop.val_loop.batch_progress.current.completed
    return "validation" if done < sum(loop.epoch_loop.val_loop.max_batches) else None
