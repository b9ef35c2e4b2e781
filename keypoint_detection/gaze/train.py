"""Train gaze following: GazeTrainConfig -> people, network, Trainer -> fit, score, files.

The module shares its name with the public function `keypoint_detection.gaze.train(config)`, and answers that
call itself: Python binds a module to its package's name once it is imported.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, Timer

from keypoint_detection.callbacks_averaging import averaging_callbacks
from keypoint_detection.callbacks_faults import FiniteLoss
from keypoint_detection.callbacks_resume import LastCheckpoint
from keypoint_detection.command_flags import torch_device
from keypoint_detection.files import write_text
from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.people_data import GazeData
from keypoint_detection.gaze.train_config import GazeTrainConfig, config_to_yaml
from keypoint_detection.gaze.train_data import check_people, open_data
from keypoint_detection.gaze.train_model import input_sizes, make_follower
from keypoint_detection.gaze.train_resume import check_resumable
from keypoint_detection.train.faults import AtomicCheckpointIO, DurableCSVLogger, remove_leftovers
from keypoint_detection.train.named_runs import fit, resolve_checkpoint, run_folder
from keypoint_detection.train.resume_config import ResumeConfig
from keypoint_detection.train.utils import set_aside

EVAL_FOLDER = "eval"
"""Folder of a run that holds its scores."""

DEFAULT_EPOCHS = 60
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class GazeTrainResult:
    """Hold what a training leaves behind.

    Attributes:
        run_dir: Folder of the run: `config.yaml`, `metrics.csv`, `checkpoints/` and `eval/`.
        last_checkpoint: The weights at the end.
        best_checkpoint: The weights with the lowest validation loss.
        metrics: The scores of the last weights on the people held out; None if they were not asked for.
    """

    run_dir: Path
    last_checkpoint: Path
    best_checkpoint: Path
    metrics: dict[str, Any] | None


class _CallableModule(ModuleType):
    def __call__(
        self, config: GazeTrainConfig, *, data: GazeData | None = None, is_quiet: bool = False
    ) -> GazeTrainResult:
        """Train; see the function `train`."""
        return train(config, data=data, is_quiet=is_quiet)


sys.modules[__name__].__class__ = _CallableModule


def train(
    config: GazeTrainConfig, *, data: GazeData | None = None, is_quiet: bool = False
) -> GazeTrainResult:
    """Train on some people, and score the last weights on those held out.

    Args:
        config: Every choice of the run.
        data: The people, where they are read already; scenes and heads have the sizes of the configuration.
        is_quiet: Show no progress.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The data or a setting is wrong; one line.
        TrainingInterrupted: The user or a queue stopped the run; `last.ckpt` is kept.
    """
    checkpoint, source = resolve_checkpoint(config), Path(config.gazefollow or config.data or "")
    folder = run_folder(config, checkpoint, f"gaze-{source.stem}")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    follower = make_follower(config, is_resumed=checkpoint is not None)
    if checkpoint is not None:
        check_resumable(checkpoint, follower, is_averaged=config.ema_decay > 0)
    data = _checked_data(config, data)
    trainer = make_trainer(config, folder, is_quiet=is_quiet)
    remove_leftovers(folder / "checkpoints")
    set_aside(folder / "metrics.csv")
    write_text(folder / "config.yaml", config_to_yaml(config))
    fit(trainer, follower, data, checkpoint)
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    metrics = evaluate_checkpoint(config, data, last, folder / EVAL_FOLDER) if config.evaluate else None
    return GazeTrainResult(folder, last, best if best.is_file() else last, metrics)


def evaluate_checkpoint(
    config: GazeTrainConfig, data: GazeData, checkpoint: Path, folder: Path
) -> dict[str, Any]:
    """Score a checkpoint on the people held out, as what a user of the file would get.

    Args:
        config: Of the run.
        data: The people.
        checkpoint: The weights.
        folder: Where the scores go.

    Returns:
        The content of `metrics.json`.
    """
    from keypoint_detection.gaze.evaluate_run import evaluate_to_folder

    follower = load_follower(checkpoint, torch_device(config.accelerator))
    assert data.validation_dataset is not None
    return evaluate_to_folder(
        follower,
        data.validation_dataset,
        folder,
        seed=config.seed,
        batch_size=config.batch_size,
        num_workers=config.num_workers,
        about={"checkpoint": str(checkpoint)},
        training=data.train_dataset.table,
    )


def make_trainer(config: GazeTrainConfig, folder: Path, *, is_quiet: bool) -> pl.Trainer:
    """Return Lightning's Trainer for a configuration."""
    is_half_on_cpu = config.precision == "16" and torch_device(config.accelerator) == "cpu"
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=PRECISIONS["bf16" if is_half_on_cpu else config.precision],
        max_epochs=config.max_epochs or (-1 if config.max_time else DEFAULT_EPOCHS),
        check_val_every_n_epoch=config.check_val_every_n_epoch,
        gradient_clip_val=config.gradient_clip_val or None,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=not is_quiet,
        default_root_dir=folder,
        logger=DurableCSVLogger(folder.parent, name=folder.name, version=""),
        callbacks=_callbacks(config, folder / "checkpoints"),
        plugins=[AtomicCheckpointIO()],
    )


def _callbacks(config: GazeTrainConfig, checkpoints: Path) -> list[pl.Callback]:
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="validation/loss",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    last, often = checkpoints / "last.ckpt", ResumeConfig(checkpoint_every=config.checkpoint_every)
    resume = LastCheckpoint(last, often.checkpoint_steps, often.checkpoint_seconds)
    callbacks = [*averaging_callbacks(config.ema_decay), best, FiniteLoss(last), resume]
    if config.max_time:
        callbacks.append(Timer(config.max_time, interval="step", verbose=False))
    return callbacks


def _checked_data(config: GazeTrainConfig, data: GazeData | None) -> GazeData:
    scene_hw, head_hw = input_sizes(config)
    if data is None:
        return open_data(config, scene_hw=scene_hw, head_hw=head_hw)
    sizes = data.train_dataset.scene_hw, data.train_dataset.head_hw
    if (tuple(sizes[0]), tuple(sizes[1])) != (scene_hw, head_hw) or data.validation_dataset is None:
        raise ValueError(
            f"expected people to validate on, and scenes and heads of {scene_hw} and {head_hw} as the "
            f"configuration says, got sizes of {sizes[0]} and {sizes[1]}"
        )
    check_people(data)
    return data
