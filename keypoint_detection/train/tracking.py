"""What a run tells its loggers beside the losses and scores, and the weights that it takes from wandb."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl

from keypoint_detection.callbacks_images import ImageLogger
from keypoint_detection.callbacks_tracking import BestCheckpointArtifact, TrackedSettings
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.utils.load_checkpoints import wandb_checkpoint


def tracking_callbacks(config: TrainConfig, folder: Path) -> list[pl.Callback]:
    """Return what logs learning rates and sigma, and when asked for pictures and the best checkpoint."""
    callbacks: list[pl.Callback] = [TrackedSettings()]
    if config.log_images_every and (config.uses_wandb or config.uses_tensorboard):
        callbacks.append(ImageLogger(config.log_images_every))
    if config.log_model and not config.fast_dev_run:
        callbacks.append(BestCheckpointArtifact(folder / "checkpoints"))
    return callbacks


@contextlib.contextmanager
def initial_weights(config: TrainConfig) -> Iterator[str | None]:
    """Give the checkpoint that a new run starts from, while it is needed: a file, or one that wandb keeps.

    A resumed run has its weights already: None.
    """
    if config.ckpt_path:
        yield None
    elif config.wandb_checkpoint_artifact:
        with wandb_checkpoint(config.wandb_checkpoint_artifact) as path:
            yield str(path)
    else:
        yield config.init_weights
