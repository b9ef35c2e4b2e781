"""The default configuration of a small training, in the terms of the flags: for trainings and sweeps."""

from pathlib import Path
from typing import Any

from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.sweep_plan import flag

CONFIGURATION: dict[str, Any] = {
    "keypoint_channel_configuration": "corner0 = corner1 = corner2 = corner3; flap_left; flap_right",
    "backbone_type": "Unet",
    "n_channels": 8,
    "batch_size": 4,
    "max_epochs": 2,
    "learning_rate": 2e-3,
    "heatmap_sigma": 2.0,
    "maximal_gt_keypoint_pixel_distances": [2, 4],
    "ap_epoch_start": 0,
    "ap_epoch_freq": 1,
    "augment_train": False,
    "json_validation_dataset_path": None,
    "seed": 2022,
    "num_workers": 0,
    "accelerator": "cpu",
    "devices": 1,
}
"""By flag; each value is one that the file of a sweep may hold."""

TRAINER = {"enable_progress_bar": False}


def small_config(json_path: Path, root: Path, **changes: Any) -> TrainConfig:
    """Return the configuration as a library takes it, for a run in `root / "run"`."""
    places = {"json_dataset_path": str(json_path), "default_root_dir": str(root), "run_name": "run"}
    return TrainConfig(**{**CONFIGURATION, "trainer": TRAINER, **places, **changes})


def small_flags(json_path: Path, **changes: Any) -> list[str]:
    """Return the configuration as the agent of a sweep passes it, without a place for the run."""
    values = {"json_dataset_path": str(json_path), **CONFIGURATION, **changes}
    return [flag(name, value) for name, value in values.items()]
