"""Train a visibility classifier: VisibilityTrainConfig -> points, network, Trainer -> fit, score, files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, Timer

from keypoint_detection.callbacks_faults import FiniteLoss
from keypoint_detection.callbacks_resume import LastCheckpoint
from keypoint_detection.command_flags import torch_device
from keypoint_detection.files import write_text
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.train.faults import AtomicCheckpointIO, DurableCSVLogger, remove_leftovers
from keypoint_detection.train.named_runs import fit, resolve_checkpoint, run_folder
from keypoint_detection.train.utils import set_aside
from keypoint_detection.utils.load_checkpoints import is_classifier_checkpoint, read_any_checkpoint
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.evaluate_run import evaluate_to_folder
from keypoint_detection.visibility.factors import check_factors
from keypoint_detection.visibility.folds_file import EVAL_FOLDER
from keypoint_detection.visibility.patches import channel_statistics, make_patch_loader
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.train_config import VisibilityTrainConfig, config_to_yaml
from keypoint_detection.visibility.train_data import (
    PointDataset,
    check_both_classes,
    make_keypoint_dataset,
    open_dataset,
    validation_views,
)

DATA_FOLDER = "data"
"""Folder of a run that holds the points of a COCO file and the pyramid of its images."""

DEFAULT_EPOCHS = 20
PRECISIONS: dict[str, Any] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}

_SAME_MODEL = (
    "factors",
    "n_channels",
    "patch_px",
    "size_hidden",
    "share_weights",
    "use_mlp",
    "align_features",
)


@dataclass(frozen=True)
class VisibilityTrainResult:
    """Hold what a training leaves behind.

    Attributes:
        run_dir: Folder of the run: `config.yaml`, `metrics.csv`, `checkpoints/` and `eval/`.
        last_checkpoint: The weights at the end.
        best_checkpoint: The weights with the lowest validation loss.
        metrics: The content of `eval/metrics.json`: the last weights on the points of the validation views.
    """

    run_dir: Path
    last_checkpoint: Path
    best_checkpoint: Path
    metrics: dict[str, Any]


def train(
    config: VisibilityTrainConfig,
    *,
    data: PointDataset | None = None,
    resampling: Resampling | None = None,
    is_quiet: bool = False,
    has_page: bool = True,
) -> VisibilityTrainResult:
    """Train on the points of some views, and score the last weights on those of the others.

    Args:
        config: Every choice of the run.
        data: The data set, where it is open already.
        resampling: How the intervals of the scores are made.
        is_quiet: Show no progress.
        has_page: Also write the page of the scores and the visibility distances.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The data or a setting is wrong; one line.
        TrainingInterrupted: The user or a queue stopped the run; `last.ckpt` is kept.
    """
    checkpoint, source = resolve_checkpoint(config), Path(config.data or config.json_dataset_path or "")
    folder = run_folder(config, checkpoint, f"visibility-{source.stem}")
    content = None if checkpoint is None else _read_checkpoint(checkpoint)
    data = data or open_data(config, folder)
    check_factors(data.pyramid.factors, align_features=config.align_features)
    views = validation_views(data, config.validation_views, config.validation_split_ratio, config.seed)
    training, validation = data.without_views(views), data.of_views(views)
    check_both_classes(training, "training points")
    pl.seed_everything(config.seed, workers=True, verbose=False)
    classifier = make_classifier(config, data, training)
    if content is not None:
        _check_same_model(checkpoint, content, classifier)
    trainer = make_trainer(config, folder, is_quiet=is_quiet)
    remove_leftovers(folder / "checkpoints")
    set_aside(folder / "metrics.csv")
    write_text(folder / "config.yaml", config_to_yaml(config))
    loaders = [
        _loader(config, data, training, is_training=True),
        _loader(config, data, validation, is_training=False),
    ]
    fit(trainer, classifier, loaders, checkpoint)
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    about = {"checkpoint": str(last), "eval_group": config.eval_group}
    metrics = evaluate_to_folder(
        classifier.to(torch_device(config.accelerator)),
        data,
        validation,
        folder / EVAL_FOLDER,
        about=about,
        resampling=resampling,
        has_page=has_page,
    )
    return VisibilityTrainResult(folder, last, best if best.is_file() else last, metrics)


def open_data(config: VisibilityTrainConfig, folder: Path) -> PointDataset:
    """Open the data set of a configuration; one of a COCO file is built in `data/` of a folder.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged; one line.
    """
    if config.data is not None:
        return open_dataset(config.data)
    return make_keypoint_dataset(
        config.json_dataset_path or "", folder / DATA_FOLDER, factors=config.factors, group_by=config.group_by
    )


def make_classifier(
    config: VisibilityTrainConfig, data: PointDataset, training: PointTable
) -> VisibilityClassifier:
    """Return a new classifier for the levels of the data; its statistics are those of the training points."""
    mean, std = channel_statistics(training, data.pyramid, patch_px=config.patch_px)
    return VisibilityClassifier(
        data.pyramid.factors,
        data.pyramid.n_channels,
        patch_px=config.patch_px,
        size_hidden=config.size_hidden,
        share_weights=config.share_weights,
        use_mlp=config.use_mlp,
        align_features=config.align_features,
        dropout=config.dropout,
        backbone_type=config.backbone_type,
        backbone_options=config.backbone_options or None,
        channel_mean=mean.tolist(),
        channel_std=std.tolist(),
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
    )


def make_trainer(config: VisibilityTrainConfig, folder: Path, *, is_quiet: bool) -> pl.Trainer:
    """Return Lightning's Trainer for a configuration."""
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(
        checkpoints,
        filename="best",
        monitor="validation/loss",
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    last = checkpoints / "last.ckpt"
    callbacks: list[pl.Callback] = [best, FiniteLoss(last), LastCheckpoint(last)]
    if config.max_time:
        callbacks.append(Timer(config.max_time, interval="step", verbose=False))
    is_half_on_cpu = config.precision == "16" and torch_device(config.accelerator) == "cpu"
    return pl.Trainer(
        accelerator=config.accelerator,
        devices=1,
        precision=PRECISIONS["bf16" if is_half_on_cpu else config.precision],
        max_epochs=config.max_epochs or (-1 if config.max_time else DEFAULT_EPOCHS),
        check_val_every_n_epoch=config.check_val_every_n_epoch,
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        enable_progress_bar=not is_quiet,
        default_root_dir=folder,
        logger=DurableCSVLogger(folder.parent, name=folder.name, version=""),
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
    )


def _loader(
    config: VisibilityTrainConfig, data: PointDataset, table: PointTable, *, is_training: bool
) -> Any:
    return make_patch_loader(
        table,
        data.pyramid,
        config.batch_size,
        balance=config.resample and is_training,
        shuffle_seed=config.seed if is_training else None,
        num_workers=config.num_workers,
        patch_px=config.patch_px,
    )


def _read_checkpoint(path: Path) -> dict[str, Any]:
    content = read_any_checkpoint(path)
    if not is_classifier_checkpoint(content):
        raise ValueError(f"--ckpt_path: expected a checkpoint of visibility train, got {path}")
    return content


def _check_same_model(path: Path | None, content: dict[str, Any], classifier: VisibilityClassifier) -> None:
    there, here = content["hyper_parameters"], classifier.hparams
    apart = [name for name in _SAME_MODEL if there.get(name) != here[name]]
    if apart:
        listed = "; ".join(f"{name}: {there.get(name)} there, {here[name]} here" for name in apart)
        raise ValueError(f"--ckpt_path {path}: expected a checkpoint of the same network, got {listed}")
