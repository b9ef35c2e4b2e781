"""Build the data module, the detector, the loggers, the callbacks and the Trainer from a TrainConfig."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint, Timer

from keypoint_detection.callbacks import RelativeEarlyStopping
from keypoint_detection.callbacks_averaging import averaging_callbacks
from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.data.datamodule import KeypointsDataModule, resized_dataset_path
from keypoint_detection.data.instance_lengths import instance_lengths
from keypoint_detection.metrics.average_precision import similarity_of_thresholds
from keypoint_detection.metrics.oks_sigmas import OKSSigmas
from keypoint_detection.models.backbones.backbone_factory import backbone_options, without_weights
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.score_settings import normalizer_of, sigmas_of
from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.config import ModelConfig, TrainConfig
from keypoint_detection.train.devices import device_arguments, device_callbacks, device_plugins
from keypoint_detection.train.faults import AtomicCheckpointIO
from keypoint_detection.train.loggers import build_loggers
from keypoint_detection.train.occlusion_config import one_sided_labels
from keypoint_detection.train.resume import resume_callbacks
from keypoint_detection.train.schedule_config import ScheduleConfig
from keypoint_detection.train.speed import speed_arguments, speed_callbacks
from keypoint_detection.train.sweep_report import sweep_callbacks
from keypoint_detection.train.tracking import initial_weights, tracking_callbacks
from keypoint_detection.utils.init_weights import describe, init_weights

logger = logging.getLogger("keypoint_detection")

EXPECTED_WARNINGS = (
    "Experiment logs directory",  # config.yaml and the checkpoints share it; an older run is refused before
    "Checkpoint directory",  # likewise
    "The dirpath has changed",  # resumed under another --run_name: the best checkpoint is looked for anew
    ".*does not have many workers",  # the data module chooses their number
    "The number of training batches",  # few images: every epoch is logged anyway
    "Found .* in eval mode at the start of training",  # the encoder that is held still
    "The `max_epochs` was not set|`max_epochs` was not set",
)
"""Warnings of Lightning that say nothing new to the user of a training."""

DEFAULT_MAX_EPOCHS = 100


def build_data_module(config: TrainConfig) -> KeypointsDataModule:
    """Return the data module of a configuration; it reads and checks the files."""
    augmentation = AugmentationConfig(
        rotation_degrees=config.augment_rotation,
        scale=config.augment_scale,
        translation=config.augment_translation,
        horizontal_flip=config.augment_horizontal_flip,
        vertical_flip=config.augment_vertical_flip,
        color=config.augment_color,
    )
    data = KeypointsDataModule(
        json_dataset_path=config.json_dataset_path,
        json_validation_dataset_path=config.json_validation_dataset_path,
        json_test_dataset_path=config.json_test_dataset_path,
        json_dataset_img_size=config.json_dataset_img_size,
        keypoint_channel_configuration=config.keypoint_channel_configuration,
        image_size=config.image_hw,
        n_channels_in=config.n_channels_in,
        batch_size=config.batch_size,
        validation_split_ratio=config.validation_split_ratio,
        seed=config.seed,
        num_workers=config.num_workers,
        augment_train=config.augment_train,
        augmentation=augmentation,
        symmetric_keypoints=config.symmetric_keypoints,
        cache=config.cache,
        cache_bytes=config.cache_mb * 10**6,
        cache_dir=config.cache_dir,
        prefetch=config.prefetch,
        augment_device=config.augment_device,
        input_mode=config.input_mode,
        box_padding=config.box_padding,
        sigmas=training_sigmas(config),
        lengths=lambda table: instance_lengths(table, normalizer_of(table, config.scoring)),
    )
    if similarity_of_thresholds(config.maximal_gt_keypoint_pixel_distances) == "oks":
        for dataset in (data.validation_dataset, data.test_dataset):
            if dataset is not None:
                dataset.table.check_areas()
    if config.occlusion == "signed":
        names = [name for channel in data.channels for name in channel]
        if (problem := one_sided_labels(data.train_dataset.table, names)) is not None:
            logger.warning(problem)
    return data


def training_sigmas(config: TrainConfig) -> dict[str, float] | None:
    """Return the OKS constants by name where the scores of the training need them, and say which they are."""
    if similarity_of_thresholds(config.maximal_gt_keypoint_pixel_distances) != "oks":
        return None
    sigmas = _sigmas_of_training_file(config)
    logger.info(sigmas.describe())
    return sigmas.by_name()


def training_scoring(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of the scores as the checkpoint keeps them.

    Constants that were estimated are kept as numbers: a file to score on, with other repeated labels or none,
    would give others, and with them scores that are not those of the training.
    """
    if config.oks_sigmas != "estimate":
        return config.scoring
    return {**config.scoring, "oks_sigmas": _sigmas_of_training_file(config).by_name()}


def _sigmas_of_training_file(config: TrainConfig) -> OKSSigmas:
    path: str | Path = config.json_dataset_path
    if config.json_dataset_img_size:
        path = resized_dataset_path(path, config.json_dataset_img_size)
    return sigmas_of(read_coco(path), config.oks_sigmas)


def build_detector(
    config: TrainConfig, channels: list[list[str]], skeleton: Sequence[Sequence[str]] = ()
) -> KeypointDetector:
    """Return a new detector for the channels of the data, with the weights that it starts from."""
    names = {*ModelConfig.model_fields, *ScheduleConfig.model_fields}
    names -= {"backbone_type", "backbone_options", "init_weights", "ema_decay"}
    options = {name: getattr(config, name) for name in names}
    if config.mask_excluded_keypoints and not config.detect_only_visible_keypoints:
        logger.info("--mask_excluded_keypoints has no effect without --detect_only_visible_keypoints")
    detector = KeypointDetector(
        channels,
        config.backbone_type,
        chosen_backbone_options(config),
        image_size=config.image_hw,
        input_mode=config.input_mode,
        box_padding=config.box_padding,
        scoring=training_scoring(config),
        skeleton=skeleton,
        **options,
    )
    with initial_weights(config) as path:
        for line in describe(init_weights(detector, path)) if path else ():
            logger.info(line)
    return detector


def chosen_backbone_options(config: TrainConfig) -> dict[str, Any]:
    """Return the options that the backbone takes; a flag of another backbone is named in one log line."""
    known, flags = backbone_options(config.backbone_type), backbone_flags()
    given = config.backbone_options
    unused = [name for name in given if name in flags and name not in known]
    if unused:
        listed = ", ".join(f"--{name}" for name in unused)
        logger.info("not used by backbone %s: %s", config.backbone_type, listed)
    options = {name: value for name, value in given.items() if name not in unused}
    if config.ckpt_path:
        options = without_weights(options)
    return {"n_channels_in": config.n_channels_in, **options}


def run_folder(config: TrainConfig) -> Path:
    """Return the folder of this run: the user's name, or the resumed run's, or backbone, data and time.

    Raises:
        FileExistsError: It holds another run, whose files would be lost.
    """
    root, checkpoint = Path(config.default_root_dir), Path(config.ckpt_path or "")
    resumed = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else None
    if config.run_name:
        folder = root / config.run_name
    elif resumed is not None:
        folder = resumed
    else:
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        return free_path(root / f"{config.backbone_type}-{Path(config.json_dataset_path).stem}-{stamp}")
    goes_on = resumed is not None and folder.resolve() == resumed.resolve()
    holds_a_run = (folder / "metrics.csv").exists() or (folder / "checkpoints" / "last.ckpt").exists()
    if holds_a_run and not goes_on and not config.fast_dev_run:
        raise FileExistsError(f"{folder} holds an earlier run; give another --run_name, or remove it")
    return folder


def free_path(path: Path) -> Path:
    """Return a path that does not exist yet: this one, or the first of `<stem>-1`, `<stem>-2`, ..."""
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, 1_000_000))
    return path if not path.exists() else next(candidate for candidate in numbered if not candidate.exists())


def set_aside(path: Path) -> None:
    """Rename a file of an earlier part of this run, if there is one, so that it is kept."""
    if path.exists():
        path.rename(free_path(path))


@contextmanager
def expected_warnings_ignored() -> Iterator[None]:
    """Silence `EXPECTED_WARNINGS` while a Trainer works."""
    with warnings.catch_warnings():
        for message in EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def build_callbacks(config: TrainConfig, folder: Path) -> list[pl.Callback]:
    """Return checkpoints and, when asked for, time limit, early stopping and pictures."""
    checkpoints = folder / "checkpoints"
    callbacks: list[pl.Callback] = device_callbacks()
    if not config.fast_dev_run:
        best = ModelCheckpoint(
            checkpoints,
            filename="best",
            monitor="checkpoint/validation_map",
            mode="max",
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        callbacks += [best, *resume_callbacks(config, folder)]
    if config.max_time:
        callbacks.append(Timer(config.max_time, interval="step", verbose=False))
    if config.early_stopping_relative_threshold >= 0:
        callbacks.append(RelativeEarlyStopping(config.early_stopping_relative_threshold))
    callbacks = [*averaging_callbacks(config.ema_decay), *callbacks]
    return [*callbacks, *tracking_callbacks(config, folder), *speed_callbacks(config), *sweep_callbacks()]


def build_trainer(config: TrainConfig, folder: Path) -> pl.Trainer:
    """Return Lightning's Trainer for a configuration."""
    arguments: dict[str, Any] = {
        **device_arguments(config),
        "precision": lightning_precision(config),
        "max_epochs": config.max_epochs or (-1 if config.has_other_limit else DEFAULT_MAX_EPOCHS),
        "fast_dev_run": config.fast_dev_run,
        "log_every_n_steps": config.log_every_n_steps,
        "check_val_every_n_epoch": config.check_val_every_n_epoch,
        "gradient_clip_val": config.gradient_clip_val,
        "deterministic": config.deterministic,
        "num_sanity_val_steps": 0,
        "enable_model_summary": False,
        "default_root_dir": folder,
        **speed_arguments(config),
    }
    return pl.Trainer(
        **{**arguments, **config.trainer},
        logger=build_loggers(config, folder),
        callbacks=build_callbacks(config, folder),
        plugins=[AtomicCheckpointIO(config.max_failed_checkpoints), *device_plugins(config)],
    )


def lightning_precision(config: TrainConfig) -> Any:
    """Return Lightning's name of the precision; half precision on a CPU is bf16."""
    import torch

    names = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}
    precision = names.get(config.precision, config.precision)
    on_cpu = config.accelerator == "cpu" or (config.accelerator == "auto" and not torch.cuda.is_available())
    if on_cpu and precision == "16-mixed":
        logger.info("precision 16 on a CPU: training in bf16-mixed")
        return "bf16-mixed"
    return precision
