"""The loggers of a run: CSV always, wandb and TensorBoard when asked for; neither is imported otherwise."""

import importlib.util
import netrc
import os
from pathlib import Path

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.faults import DurableCSVLogger


def build_loggers(config: TrainConfig, folder: Path) -> list[Logger]:
    """Return the loggers of a run; in several processes only the first one writes.

    Args:
        config: The choices of the run.
        folder: Its folder: `metrics.csv`, `wandb/` and `tensorboard/` are written there.

    Raises:
        ValueError: A library that is asked for is not installed.
    """
    loggers: list[Logger] = [DurableCSVLogger(folder.parent, name=folder.name, version="")]
    if config.uses_wandb:
        _check_installed("wandb", "wandb")
        loggers.append(
            WandbLogger(
                name=config.wandb_name or folder.name,
                project=config.wandb_project or "keypoint-detection",
                entity=config.wandb_entity,
                save_dir=folder,
                offline="WANDB_MODE" not in os.environ and not _wandb_is_logged_in(),
                config=config.model_dump(mode="json"),
            )
        )
    if config.uses_tensorboard:
        _check_installed("tensorboard", "keypoint-detection[tensorboard]")
        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard", default_hp_metric=False))
    return loggers


def _check_installed(library: str, requirement: str) -> None:
    if importlib.util.find_spec(library) is None:
        raise ValueError(f"--logger {library} needs {library}: pip install '{requirement}'")


def _wandb_is_logged_in() -> bool:
    if "WANDB_API_KEY" in os.environ:
        return True
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (FileNotFoundError, netrc.NetrcParseError):
        return False
