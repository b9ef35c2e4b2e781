"""Train a keypoint detector: TrainConfig -> data, model, Trainer -> fit, score, files. Also a script."""

import logging
import runpy
import sys
from dataclasses import dataclass, field
from pathlib import Path

if __name__ == "__main__":  # before torch is loaded: the command sets how its threads wait
    if sys.argv[1:2] != ["train"]:
        sys.argv.insert(1, "train")
    runpy.run_module("keypoint_detection", run_name="__main__")

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_only

from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.files import write_text
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import TrainConfig, config_to_yaml
from keypoint_detection.train.utils import (
    build_data_module,
    build_detector,
    build_trainer,
    expected_warnings_ignored,
    run_folder,
    set_aside,
)
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


class TrainingInterrupted(RuntimeError):
    """Ctrl-C during a training: the message says where it stopped and how to go on."""


def train(config: TrainConfig) -> TrainResult:
    """Train, score and save a detector.

    Args:
        config: Every choice of the run.

    Returns:
        Paths and scores of the run.

    Raises:
        ValueError: The data or a setting is wrong; one line.
        FileNotFoundError: A file is missing.
        TrainingInterrupted: The user stopped the run; `last.ckpt` is kept.
    """
    if config.ckpt_path:
        read_checkpoint(config.ckpt_path)  # a wrong path must cost nothing
    pl.seed_everything(config.seed, workers=True, verbose=False)
    folder = run_folder(config)
    data = build_data_module(config)
    detector = build_detector(config, data.channels, data.skeleton)
    trainer = build_trainer(config, folder)
    try:
        with expected_warnings_ignored():
            return _run(trainer, detector, data, config)
    except (KeyboardInterrupt, SystemExit):
        checkpoint = folder / "checkpoints" / "last.ckpt"
        resume = f"resume with --ckpt_path {checkpoint}" if checkpoint.is_file() else "no step was finished"
        raise TrainingInterrupted(f"interrupted in epoch {trainer.current_epoch}; {resume}") from None


def _run(
    trainer: pl.Trainer, detector: KeypointDetector, data: KeypointsDataModule, config: TrainConfig
) -> TrainResult:
    """Find a learning rate if asked to, fit, and score."""
    folder = Path(trainer.default_root_dir)
    if not config.fast_dev_run and trainer.is_global_zero:
        set_aside(folder / "metrics.csv")
        write_text(folder / "config.yaml", config_to_yaml(config))
    if config.auto_lr_find and not config.fast_dev_run:
        find_learning_rate(trainer, detector, data)
    trainer.fit(detector, data, ckpt_path=config.ckpt_path, weights_only=True)
    if config.fast_dev_run:
        return TrainResult(folder, None, None)
    return summarise(trainer, detector, data, folder)


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
