"""Where a training of one network begins or goes on, by `--run_name` and `--ckpt_path`."""

import signal
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl

from keypoint_detection.callbacks_resume import StoppedBySignal
from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.train.resume_config import LAST
from keypoint_detection.train.utils import expected_warnings_ignored, free_path


class RunSettings(Protocol):
    """Say where a run is; a configuration of a training."""

    default_root_dir: str
    run_name: str | None
    ckpt_path: str | None


def resolve_checkpoint(config: RunSettings) -> Path | None:
    """Return the checkpoint to go on from, None to begin.

    Raises:
        FileNotFoundError: `ckpt_path` names none.
    """
    if config.ckpt_path is None:
        return None
    if config.ckpt_path == LAST:
        last = Path(config.default_root_dir) / (config.run_name or "") / "checkpoints" / "last.ckpt"
        return last if last.is_file() else None
    given = Path(config.ckpt_path)
    path = given / "checkpoints" / "last.ckpt" if given.is_dir() else given
    if not path.is_file():
        raise FileNotFoundError(f"--ckpt_path: expected a checkpoint, found nothing at {path}")
    return path


def run_folder(config: RunSettings, checkpoint: Path | None, new_name: str) -> Path:
    """Return the folder of a run: the user's name, that of the run to go on with, or a new name and the time.

    Args:
        config: Where runs are.
        checkpoint: The one to go on from.
        new_name: Begins the name of a run that has none.

    Raises:
        FileExistsError: It holds another run, whose files would be lost.
    """
    root = Path(config.default_root_dir)
    begun = None if checkpoint is None else checkpoint.resolve().parent.parent
    if config.run_name is None:
        if begun is not None:
            return begun
        return free_path(root / f"{new_name}-{datetime.now().strftime('%Y%m%d-%H%M%S')}")
    folder = root / config.run_name
    if begun != folder.resolve() and (folder / "checkpoints" / "last.ckpt").exists():
        raise FileExistsError(f"{folder} holds an earlier run; give another --run_name, or remove it")
    return folder


def fit(trainer: pl.Trainer, model: pl.LightningModule, data: Any, checkpoint: Path | None) -> None:
    """Fit; a stop that was asked for becomes one line that says how to go on.

    Args:
        trainer: Its `default_root_dir` is the folder of the run.
        model: What is trained.
        data: A data module, or a loader to train on and one to validate on.
        checkpoint: The one to go on from.

    Raises:
        TrainingInterrupted: The user or a queue stopped the run.
    """
    try:
        with expected_warnings_ignored():
            loaders = (data,) if isinstance(data, pl.LightningDataModule) else tuple(data)
            trainer.fit(model, *loaders, ckpt_path=checkpoint, weights_only=True)
    except (KeyboardInterrupt, SystemExit):
        raise _interrupted(trainer, signal.SIGINT) from None
    except StoppedBySignal as stopped:
        raise _interrupted(trainer, stopped.number) from None


def _interrupted(trainer: pl.Trainer, number: int) -> TrainingInterrupted:
    last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
    how = f"resume with --ckpt_path {last}" if last.is_file() else "no step was finished"
    return TrainingInterrupted(f"interrupted in epoch {trainer.current_epoch}; {how}", number)
