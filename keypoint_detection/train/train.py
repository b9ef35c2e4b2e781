"""Train a keypoint detector: TrainConfig -> data, model, Trainer -> fit, score, files. Also a script."""

import logging
import runpy
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before torch is loaded: the command sets how its threads wait
    if sys.argv[1:2] != ["train"]:
        sys.argv.insert(1, "train")
    runpy.run_module("keypoint_detection", run_name="__main__")

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from keypoint_detection.callbacks_resume import StoppedBySignal
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.files import write_text
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import TrainConfig, config_to_yaml
from keypoint_detection.train.faults import ReadableSamples
from keypoint_detection.train.frozen_features import frozen_features
from keypoint_detection.train.resume import (
    LAST,
    check_resumable,
    interrupted,
    prepare_folder,
    resolve_checkpoint,
)
from keypoint_detection.train.run_record import begin_record, finish_record
from keypoint_detection.train.speed import few_steps_note
from keypoint_detection.train.utils import (
    build_data_module,
    build_detector,
    build_trainer,
    expected_warnings_ignored,
    run_folder,
    set_aside,
)
from keypoint_detection.train.wandb_sweep import with_sweep_values
from keypoint_detection.utils.load_checkpoints import read_checkpoint

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class TrainResult:
    """Hold what a training leaves behind.

    Attributes:
        run_dir: Folder of the run.
        last_checkpoint: The weights at the end; None after a `fast_dev_run`.
        best_checkpoint: The weights with the best validation AP; None after a `fast_dev_run`.
        validation: Scores of the last weights on the validation images, by name.
        test: Scores of the best weights on the test images, if there is a test file.
    """

    run_dir: Path
    last_checkpoint: Path | None
    best_checkpoint: Path | None
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)


def train(config: TrainConfig) -> TrainResult:
    """Train, score and save a detector.

    Args:
        config: Every choice of the run.

    Returns:
        Paths and scores of the run.

    Raises:
        ValueError: The data or a setting is wrong; one line.
        FileNotFoundError: A file is missing.
        TrainingInterrupted: The user, or a queue, stopped the run; `last.ckpt` is kept.
        NotFiniteError: The loss is NaN or infinite; `last.ckpt` is the last good one.
        CheckpointError: The disk has been full for several checkpoints in a row.
    """
    config = with_sweep_values(config)
    asked_for, config = config.ckpt_path, resolve_checkpoint(config)
    checkpoint = read_checkpoint(config.ckpt_path) if config.ckpt_path else None  # before all that costs time
    if asked_for == LAST and checkpoint is None and config.run_name:
        begin_again(Path(config.default_root_dir) / config.run_name)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    folder = run_folder(config)
    data = build_data_module(config)
    if config.skip_unreadable:
        readable: Any = ReadableSamples(data.train_dataset)
        data.train_dataset = readable
    detector = build_detector(config, data.channels, data.skeleton)
    if checkpoint is not None:
        check_resumable(config.ckpt_path or "", checkpoint, detector)
    trainer = build_trainer(config, folder)
    try:
        with expected_warnings_ignored(), frozen_features(config, trainer, detector, data):
            return _run(trainer, detector, data, config)
    except (KeyboardInterrupt, SystemExit):
        raise interrupted(trainer, folder, signal.SIGINT, asked_for) from None
    except StoppedBySignal as stopped:
        raise interrupted(trainer, folder, stopped.number, asked_for) from None


@rank_zero_only
def begin_again(folder: Path) -> None:
    """Set the log of a run aside that ended before its first checkpoint."""
    set_aside(folder / "metrics.csv")


def _run(
    trainer: pl.Trainer, detector: KeypointDetector, data: KeypointsDataModule, config: TrainConfig
) -> TrainResult:
    """Find a learning rate if asked to, fit, and score."""
    folder = Path(trainer.default_root_dir)
    if not config.fast_dev_run and trainer.is_global_zero:
        prepare_folder(config, folder)
        set_aside(folder / "metrics.csv")
        write_text(folder / "config.yaml", config_to_yaml(config))
        begin_record(config, folder)
    if config.auto_lr_find and not config.fast_dev_run and not config.ckpt_path:
        find_learning_rate(trainer, detector, data)
    trainer.fit(detector, data, ckpt_path=config.ckpt_path, weights_only=True)
    samples: Any = data.train_dataset
    if isinstance(samples, ReadableSamples) and samples.summary():
        logger.warning(samples.summary())
    if config.fast_dev_run:
        return TrainResult(folder, None, None)
    result = summarise(trainer, detector, data, folder)
    advice = few_steps_note(
        trainer.global_step,
        config.image_hw,
        detector.backbone.stride,
        limited_by_time=config.max_time is not None,
    )
    if advice is not None and trainer.is_global_zero:
        print(advice)
    if trainer.is_global_zero:
        scores = {"validation": result.validation, "test": result.test}
        finish_record(folder, steps=trainer.global_step, epochs=trainer.current_epoch, scores=scores)
    return result


def find_learning_rate(trainer: pl.Trainer, detector: KeypointDetector, data: pl.LightningDataModule) -> None:
    """Set `detector.learning_rate` by Lightning's finder: the steepest fall of the loss."""
    from pytorch_lightning.tuner.tuning import Tuner

    finder = Tuner(trainer).lr_find(detector, datamodule=data, update_attr=False)
    found = finder.suggestion() if finder else None
    if found is None:
        logger.warning("the learning-rate finder found no slope; keeping %g", detector.learning_rate)
        return
    detector.learning_rate = found
    logger.info("learning rate %.2e, from the finder", found)


def summarise(
    trainer: pl.Trainer, detector: KeypointDetector, data: KeypointsDataModule, folder: Path
) -> TrainResult:
    """Score the last weights on the validation images and the best ones on the test images; print both."""
    folder = trainer.strategy.broadcast(folder)  # its name may hold a time, which each process read by itself
    validated = trainer.validate(detector, datamodule=data, verbose=False)
    validation = dict(validated[0]) if validated else {}
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    best = best if best.is_file() else last  # no validation has happened during the run
    print_scores("validation, last weights", validation)
    test: dict[str, float] = {}
    if data.test_dataset is not None:
        tested = trainer.test(detector, datamodule=data, ckpt_path=best, weights_only=True, verbose=False)
        test = dict(tested[0]) if tested else {}
        print_scores("test, best weights", test)
    if trainer.is_global_zero:
        print(f"run: {folder}\nlast checkpoint: {last}\nbest checkpoint: {best}")
    return TrainResult(folder, last, best, validation, test)


@rank_zero_only
def print_scores(title: str, scores: dict[str, float]) -> None:
    """Print the numbers over all channels, one line, in the first of several processes."""
    left_out = ("loss", "gt_loss", "validation_map")
    overall = {name.split("/", 1)[1]: value for name, value in scores.items() if name.count("/") == 1}
    shown = ", ".join(f"{name} {value:.4g}" for name, value in overall.items() if name not in left_out)
    print(f"{title}: {shown}")
