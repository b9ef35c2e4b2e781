"""Measure a training by phase, through the places that Lightning tells a profiler of."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import PassThroughProfiler, Profiler
from pytorch_lightning.utilities import rank_zero_only

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.step_profile import VALIDATION, PhaseTimes, advice

_PHASES = (
    (r"train_dataloader_next$", "data wait"),
    (r"batch_to_device$|_transfer$", "host to device"),
    (r"^\[Strategy\].*\.training_step$", "targets + loss"),
    (r"\.backward$", "backward"),
    (r"optimizer_(step|zero_grad)$|configure_gradient_clipping$|lr_scheduler_step$", "optimiser"),
    (r"^\[Callback\].*Checkpoint|save_checkpoint$", "checkpoints"),
    (r"^\[Callback\].*(Progress|Image)", "logging"),
)
"""Patterns of the names that Lightning gives to what it does; the first that fits counts."""

_WRAPPED = {"forward_stages": "forward", "log": "logging", "log_dict": "logging"}
"""Methods of the detector and their phases; inside of the training step Lightning names nothing."""


def phase_of(action: str) -> str | None:
    """Return the phase of what Lightning begins, or None where it belongs to what is around it."""
    return next((phase for pattern, phase in _PHASES if re.search(pattern, action)), None)


class StepProfiler(Profiler):
    """Pass on to `PhaseTimes` what Lightning begins and ends."""

    def __init__(self, times: PhaseTimes) -> None:
        super().__init__()
        self.times = times

    def start(self, action_name: str) -> None:
        """Open the phase of what begins."""
        self.times.n_steps += action_name == "run_training_batch"
        self.times.start(action_name, phase_of(action_name))

    def stop(self, action_name: str) -> None:
        """Close it."""
        self.times.stop(action_name)


class TrainingProfile(pl.Callback):
    """Count the time of a training by phase and print it with advice at the end.

    On a GPU every phase is waited for, or its time would be counted for the next one that waits: the steps
    take longer than they do without a profile.

    Attributes:
        times: Seconds by phase.
    """

    def __init__(self) -> None:
        self.times = PhaseTimes(clock=self._now)
        self._cuda: torch.device | None = None
        self._input_hw = (0, 0)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin: listen to Lightning, and tell the forward pass and the logging apart."""
        self._cuda = pl_module.device if pl_module.device.type == "cuda" else None
        vars(trainer)["profiler"] = StepProfiler(self.times)
        for name, phase in _WRAPPED.items():
            vars(pl_module)[name] = self._timed(getattr(pl_module, name), phase)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Take note of the size of the images."""
        self._input_hw = (batch["image"].shape[-2], batch["image"].shape[-1])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count everything for the validation from here on, but for checkpoints and logging."""
        self.times.start(VALIDATION, VALIDATION)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on with the training."""
        self.times.stop(VALIDATION)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the table and the advice, and listen no longer."""
        self._stop(trainer, pl_module)
        if isinstance(pl_module, KeypointDetector):
            stride, device = pl_module.backbone.stride, pl_module.device.type
            _print("\n".join([self.times.table(), *advice(self.times, self._input_hw, stride, device)]))

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Listen no longer."""
        self._stop(trainer, pl_module)

    def _stop(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        vars(trainer)["profiler"] = PassThroughProfiler()
        for name in _WRAPPED:
            vars(pl_module).pop(name, None)

    def _timed(self, method: Callable[..., Any], phase: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            self.times.start(phase, phase)
            try:
                return method(*arguments, **options)
            finally:
                self.times.stop(phase)

        return timed

    def _now(self) -> float:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)
        return time.perf_counter()


@rank_zero_only
def _print(text: str) -> None:
    print(text)
