"""Stop a training that no longer gets better."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn


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
