"""The optimiser of a training and its schedule, with the state that a resumed run needs."""

from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Timer
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim.lr_scheduler import LambdaLR

from keypoint_detection.models.schedules import (
    Plateau,
    check_one_warmup,
    default_warmup,
    lr_factor,
    one_cycle_momentum,
    phase,
)
from keypoint_detection.models.transfer import parameter_groups

FUSED_DEVICES = ("cpu", "cuda")


def make_adamw(groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.AdamW:
    """Return AdamW, in one pass over all parameters (fused) where PyTorch has that.

    Args:
        groups: Parameters with their `lr` and `weight_decay`.
        learning_rate: Of groups without their own.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    can_fuse = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, fused=True if can_fuse else None)
    # A fused step could also divide by the scale of 16-mixed, but gradients are clipped before it and must be
    # in their own unit there: the scaler does that for every optimiser without this mark.
    optimizer._step_supports_amp_scaling = False  # pyright: ignore[reportAttributeAccessIssue]
    return optimizer


def optimizer_groups(detector: Any, learning_rate: float) -> list[dict[str, Any]]:
    """Return the parameters that a detector trains, with their learning rates and weight decay.

    Args:
        detector: With `backbone`, `head` and `hparams`.
        learning_rate: Peak learning rate of the head.
    """
    return parameter_groups(
        detector.backbone,
        detector.head,
        learning_rate=learning_rate,
        weight_decay=detector.hparams["weight_decay"],
        layer_decay=detector.hparams["layer_decay"],
        include_frozen=detector.hparams["unfreeze_epoch"] is not None,
    )


def optimizer_and_schedule(detector: Any, learning_rate: float) -> dict[str, Any]:
    """Return what `configure_optimizers` of a detector does, from its hyperparameters.

    Args:
        detector: With `backbone`, `head`, `hparams` and, once a step is made, `trainer`.
        learning_rate: Peak learning rate of the head.
    """
    optimizer = make_adamw(optimizer_groups(detector, learning_rate), learning_rate)

    def position() -> tuple[float, int]:
        return training_progress(detector.trainer), detector.trainer.global_step

    schedule = RunSchedule(optimizer, position, detector.hparams)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class RunSchedule(LambdaLR):
    """Set learning rate, and for one cycle the momentum, before every step.

    What it must remember is only the count of validations without a gain, and a checkpoint has that.

    Args:
        optimizer: With the peak learning rates.
        position: Gives the share of the run that is over, in [0, 1], and the number of steps so far.
        options: `decay_type`, `warmup`, `warmup_steps`, `final_lr_share` and `plateau_factor`, as the
            detector has them.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        position: Callable[[], tuple[float, int]],
        options: Mapping[str, Any],
    ) -> None:
        decay_type, floor, steps = options["decay_type"], options["final_lr_share"], options["warmup_steps"]
        check_one_warmup(options["warmup"], steps)
        share = default_warmup(decay_type) if options["warmup"] is None else options["warmup"]
        self.plateau = Plateau()

        def factor(_step: int) -> float:
            progress, step = position()
            value = lr_factor(progress, decay_type, share, floor, step=step, warmup_steps=steps)
            least = min(floor, value)  # a reduction never raises the rate
            return max(value * options["plateau_factor"] ** Plateau(*self.plateau).reductions, least)

        def momentum() -> float:
            progress, step = position()
            return one_cycle_momentum(phase(progress, share, step, steps))

        self._momentum = momentum if decay_type == "onecycle" else None
        super().__init__(optimizer, factor)

    def step(self, epoch: int | None = None) -> None:
        """Set the learning rates, and the momentum, of the next step."""
        super().step(epoch)
        if self._momentum is not None:
            beta = self._momentum()
            for group in self.optimizer.param_groups:
                group["betas"] = (beta, group["betas"][1])

    def state_dict(self) -> dict[str, Any]:
        """Return plain values only: what the factors are computed by is made anew."""
        values = {name: value for name, value in super().state_dict().items() if name != "_momentum"}
        return {**values, "plateau": tuple(self.plateau)}


def plateau_callbacks(options: Mapping[str, Any]) -> list[Callback]:
    """Return what tells the schedule of a detector about validations, if it is `plateau`."""
    if options["decay_type"] != "plateau":
        return []
    return [PlateauObserver(options["plateau_metric"], options["plateau_patience"])]


class PlateauObserver(Callback):
    """Tell the schedule about every validation of a training; before a checkpoint of it is written.

    Args:
        metric: `loss`, or `map` in those validations that compute it.
        patience: Validations without a gain that a reduction follows.
    """

    def __init__(self, metric: str, patience: int) -> None:
        self.metric, self.patience = metric, patience

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count this validation."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        if self.metric == "loss":
            value = float(trainer.callback_metrics["validation/loss"])
        elif pl_module.latest_score_epoch == pl_module.current_epoch:
            value = -float(trainer.callback_metrics["checkpoint/validation_map"])
        else:
            return
        for config in trainer.lr_scheduler_configs:
            schedule = config.scheduler
            if isinstance(schedule, RunSchedule):
                schedule.plateau = Plateau(*schedule.plateau).after(value, self.patience)


def training_progress(trainer: pl.Trainer) -> float:
    """Return the share of the run that is over, by steps or by the time limit, whichever is further."""
    timers = [callback for callback in trainer.callbacks if isinstance(callback, Timer)]  # pyright: ignore
    shares = [timer.time_elapsed() / max(timer._duration or 1e30, 1e-9) for timer in timers]
    total = trainer.estimated_stepping_batches
    if 0 < total < float("inf"):
        shares.append(trainer.global_step / total)
    return min(max(shares, default=0.0), 1.0)


def check_averages_go_on(trainer: pl.Trainer | None, checkpoint: dict[str, Any]) -> None:
    """Refuse to resume a run with averaged weights without averaging: it would go on from the average.

    Raises:
        ValueError: No callback of the trainer averages.
    """
    if trainer is None or trainer.state.fn != TrainerFn.FITTING or "averaging_state" not in checkpoint:
        return
    if not any(isinstance(one, pl.callbacks.WeightAveraging) for one in trainer.callbacks):  # pyright: ignore
        raise ValueError(
            "--ckpt_path: the run was trained with averaged weights and expects --ema_decay again, got none. "
            "To start a new run from the average, use --init_weights."
        )
