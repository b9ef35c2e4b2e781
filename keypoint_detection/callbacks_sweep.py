"""A training as one trial of a sweep: it reports every validation, and stops when it is told to."""

import math
import os
import signal
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from keypoint_detection.registry import nearest_name


class TrialReport(Callback):
    """Report a number after each validation; end the training where the answer is to stop.

    Args:
        metric: Name of a number that a validation logs; for a score only validations with scores count.
        report: Takes the number of the validation, from 1, and the metric; returns whether to stop.
        parent: Process that runs the sweep; the training ends when it is gone. None: nobody is waited for.
    """

    def __init__(self, metric: str, report: Callable[[int, float], bool], parent: int | None = None) -> None:
        self.metric, self.report, self.parent = metric, report, parent
        self.validations = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the metric from the first process, and stop all of them if need be."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self.metric not in trainer.callback_metrics:
            if getattr(pl_module, "latest_score_epoch", trainer.current_epoch) != trainer.current_epoch:
                return  # the names of the scores are not known yet
            hint = nearest_name(self.metric, trainer.callback_metrics)
            raise ValueError(f"metric of the sweep: no validation logs {self.metric!r}.{hint}")
        self.validations += 1
        value = float(trainer.callback_metrics[self.metric])
        stop = trainer.is_global_zero and math.isfinite(value) and self.report(self.validations, value)
        stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        trainer.should_stop = trainer.should_stop or stop

    def on_train_batch_end(  # noqa: D102  the signature is Lightning's
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # A killed sweep that is started again goes on with this trial: nobody else may write its files.
        if trainer.is_global_zero and self.parent is not None and os.getppid() != self.parent:
            signal.raise_signal(signal.SIGTERM)  # saves a checkpoint, as when a queue asks it to stop

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed trial must remember."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what the interrupted trial remembered."""
        self.validations = state_dict["validations"]
