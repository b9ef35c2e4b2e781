"""From the settings of SpeedConfig to arguments and callbacks of the Trainer."""

import logging
from typing import Any

import pytorch_lightning as pl
import torch

from keypoint_detection.callbacks_profile import TrainingProfile
from keypoint_detection.train.speed_config import SpeedConfig

logger = logging.getLogger("keypoint_detection")

FEW_STEPS = 300
"""Below this number of steps a training has hardly begun."""


def speed_arguments(config: SpeedConfig) -> dict[str, Any]:
    """Return the arguments of the Trainer for a configuration."""
    return {"accumulate_grad_batches": config.accumulate_grad_batches}


def speed_callbacks(config: SpeedConfig) -> list[pl.Callback]:
    """Return the callbacks for a configuration."""
    callbacks: list[pl.Callback] = []
    if config.channels_last:
        callbacks.append(ChannelsLast())
    if config.compile:
        callbacks.append(CompiledNetwork())
    if config.profile:  # the last, so that it measures what the others have put in place
        callbacks.append(TrainingProfile())
    return callbacks


class ChannelsLast(pl.Callback):
    """Keep the weights and the images in channels-last memory while a training lasts.

    On a CPU the backbones do that with the images anyway.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Turn the weights; the state of the optimiser follows them."""
        pl_module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Turn the state of a resumed optimiser: fused kernels expect it to lie as the weights do."""
        for optimizer in trainer.optimizers:
            for weight, state in optimizer.state.items():
                for name, value in state.items():
                    if isinstance(value, torch.Tensor) and value.shape == weight.shape and value.ndim == 4:
                        state[name] = value.contiguous(memory_format=torch.channels_last)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Turn the images of a batch."""
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Turn the images of a batch."""
        batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Turn the weights back, as the file of a checkpoint is read by other tools too."""
        pl_module.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


class CompiledNetwork(pl.Callback):
    """Run the network through torch.compile while a training lasts.

    The method of the detector is replaced, not a module: the names in a checkpoint stay as they are. Where
    there is no compiler, one line says so and the training goes on without.
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the forward pass; it is compiled in the first step."""
        reason = compiler_failure(pl_module.device)
        if reason:
            logger.warning(
                "--compile: training goes on without, as nothing can be compiled here (%s)", reason
            )
            return
        vars(pl_module)["forward_stages"] = torch.compile(pl_module.forward_stages)  # pyright: ignore

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the detector its own forward pass back."""
        vars(pl_module).pop("forward_stages", None)


def compiler_failure(device: torch.device) -> str:
    """Return why torch.compile does not work on a device, in a few words, or nothing if it does."""
    try:
        torch.compile(_one_more)(torch.zeros(8, device=device))
    except Exception as error:  # a missing compiler has a name of its own on every platform
        lines = str(error).strip().splitlines() or [type(error).__name__]
        return " ".join(lines[0].split())[:120]
    return ""


def _one_more(values: torch.Tensor) -> torch.Tensor:
    return values.sin() + 1


def few_steps_note(
    n_steps: int, image_hw: tuple[int, int] | None, output_stride: int, *, limited_by_time: bool
) -> str | None:
    """Return what to say of a run that the time limit ended after few steps, or None.

    Args:
        n_steps: Steps of the optimiser that were made.
        image_hw: Height and width that images are resized to, None for their own.
        output_stride: Image pixels per heatmap pixel.
        limited_by_time: Whether the run had a `--max_time`.
    """
    if not limited_by_time or n_steps >= FEW_STEPS:
        return None
    flags = []
    if image_hw is None:
        flags.append("smaller images such as --image_size 240x320")
    elif min(image_hw) >= 256:
        flags.append(f"--image_size {image_hw[0] // 2}x{image_hw[1] // 2}")
    if output_stride == 1:
        flags.append("--output_stride 2")
    flags.append("a smaller --batch_size")
    return (
        f"only {n_steps} steps in this time, fewer than the {FEW_STEPS} that a training needs at the least; "
        f"cheaper steps: {', '.join(flags)}; or a longer --max_time"
    )
