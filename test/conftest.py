"""Shared by all tests: an offline environment, single-threaded torch, and tiny drawn data sets."""

import os
from pathlib import Path

os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

# The examples of a property test are the same in every run: a red suite is red again when it is looked at.
# `pytest --hypothesis-profile=random` looks for new ones.
# No test asserts a time, so there is no deadline for an example either.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("random", derandomize=False, deadline=None)
settings.load_profile("fixed")

CHANNELS = [["corner0", "corner1", "corner2", "corner3"], ["flap_left"], ["flap_right"]]


@pytest.fixture(scope="session")
def boxes_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the COCO file of six drawn 64x64 images; read only."""
    from keypoint_detection.data.synthetic import make_dataset

    return make_dataset("boxes", tmp_path_factory.mktemp("boxes"), 6, (64, 64), seed=5)


@pytest.fixture(scope="session")
def tiny_checkpoint(boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return `last.ckpt` of a run of two epochs on the drawn images; read only."""
    from keypoint_detection.train.config import TrainConfig
    from keypoint_detection.train.train import train

    config = TrainConfig(
        json_dataset_path=str(boxes_json),
        keypoint_channel_configuration=CHANNELS,
        default_root_dir=str(tmp_path_factory.mktemp("runs")),
        run_name="tiny",
        max_epochs=2,
        n_channels=8,
        accelerator="cpu",
        num_workers=0,
        trainer={"enable_progress_bar": False},
    )
    checkpoint = train(config).last_checkpoint
    assert checkpoint is not None
    return checkpoint
