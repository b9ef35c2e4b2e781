"""GazeTrainConfig: every choice of a training of gaze following, for flags and YAML."""

from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from keypoint_detection.gaze.train_config_model import (
    GazeDiffusionConfig,
    GazeLossConfig,
    GazeModelConfig,
    GazeOptimizerConfig,
)
from keypoint_detection.gaze.train_values import PARTS, Factors
from keypoint_detection.train.resume_config import LAST, Interval
from keypoint_detection.train.values import OptionalText, Share, TimeLimit

TRAINING_FILE = "train_annotations_release.txt"
"""People to train on in a folder of GazeFollow."""


class GazeDataConfig(BaseModel):
    """Hold where the people come from, who is held out, and how samples are changed."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    gazefollow: OptionalText = Field(
        default=None, description=f"folder of GazeFollow: trains on {TRAINING_FILE} in it"
    )
    data: OptionalText = Field(
        default=None,
        description="or people to train on: a .json table, a .txt file of GazeFollow, a .pickle of GOO, or "
        "annotations/train of VideoAttentionTarget",
    )
    data_format: Literal["auto", "table", "gazefollow", "videoattention", "goo"] = Field(
        default="auto", description="format of --data and --validation_data; auto goes by their names"
    )
    data_root: OptionalText = Field(
        default=None,
        description="folder that the names of the images are below; default: that of the file, or the one "
        "around annotations",
    )
    skip_broken: bool = Field(default=False, description="leave out broken rows instead of stopping at one")
    frame_share: float = Field(
        default=1.0, gt=0, le=1, description="share of the images of each clip to use, drawn by the seed"
    )
    depth_folder: OptionalText = Field(
        default=None,
        description="folder of grey depth maps under the names of the images; adds a depth branch",
    )
    validation_data: OptionalText = Field(
        default=None, description="people to validate on; default: held out of --data"
    )
    validation_split_ratio: float = Field(
        default=0.1, gt=0, lt=1, description="share of the people to hold out; a clip or image stays whole"
    )
    batch_size: int = Field(default=16, ge=1, description="people per step")
    num_workers: int | None = Field(
        default=None, ge=0, description="loader processes; default: by cores and number of people"
    )
    augment_train: bool = Field(default=True, description="change samples to train on at random")
    augment_box: Share = Field(default=0.2, description="how much a head box grows at most, as a share of it")
    augment_crop: Share = Field(default=0.5, description="share of samples that show a part of the image")
    augment_crop_size: Share = Field(default=0.5, description="smallest share of its sides in such a part")
    augment_flip: Share = Field(default=0.5, description="share of samples that are mirrored left and right")
    augment_color: Share = Field(
        default=0.5, description="share of samples that each change of the colours applies to"
    )
    augment_brightness: Factors = Field(default=[0.5, 1.5], description="factors of the brightness")
    augment_contrast: Factors = Field(default=[0.5, 1.5], description="factors of the contrast")
    augment_saturation: Factors = Field(default=[0.0, 1.5], description="factors of the saturation")


class GazeRunConfig(BaseModel):
    """Hold how long and where a training runs, and where its files go."""

    model_config = ConfigDict(extra="forbid", validate_default=True, allow_inf_nan=False)

    max_epochs: int | None = Field(
        default=None, ge=1, description="passes over the people; default: 60, without --max_time"
    )
    max_time: TimeLimit = Field(default=None, description="stop after DD:HH:MM:SS")
    check_val_every_n_epoch: int = Field(
        default=1, ge=1, description="epochs from one validation to the next"
    )
    evaluate: bool = Field(
        default=True, description="score the last weights on the people held out when the training is over"
    )
    seed: int = Field(
        default=2022, ge=0, lt=2**32, description="seed of weights, order, changes, noise and split"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="where to train")
    precision: Literal["32", "bf16", "16"] = Field(default="32", description="bits of the numbers")
    default_root_dir: str = Field(default="runs", description="folder of all runs")
    run_name: OptionalText = Field(
        default=None, description="folder of this run in it; default: gaze, data and time"
    )
    ckpt_path: OptionalText = Field(
        default=None,
        description="go on from this .ckpt file or run folder; 'last' goes on with --run_name, or begins",
    )
    checkpoint_every: Interval = Field(
        default="10m",
        description="write last.ckpt this often, '500 steps', 10m or 2h, and at the end of every epoch",
    )


class GazeTrainConfig(
    GazeDataConfig,
    GazeModelConfig,
    GazeDiffusionConfig,
    GazeLossConfig,
    GazeOptimizerConfig,
    GazeRunConfig,
):
    """Hold everything that a training of gaze following depends on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.gazefollow is None):
            raise ValueError(
                "expected --gazefollow (its folder) or --data (people to train on), "
                f"got {'neither' if self.data is None else 'both'}"
            )
        if self.gazefollow is not None and self.data_format not in {"auto", "gazefollow"}:
            raise ValueError(f"--data_format {self.data_format} goes with --data, got --gazefollow")
        if self.decoder == "diffusion" and self.sampling_steps > self.n_timesteps:
            raise ValueError(
                f"--sampling_steps: expected at most --n_timesteps, {self.n_timesteps}, got "
                f"{self.sampling_steps}"
            )
        if set(self.freeze or ()) == set(PARTS):
            raise ValueError("--freeze: expected a part that is left to train, got all of them")
        if self.ckpt_path == LAST and self.run_name is None:
            raise ValueError("--ckpt_path last needs --run_name")
        return self


SECTIONS: dict[str, type[BaseModel]] = {
    "data": GazeDataConfig,
    "model": GazeModelConfig,
    "diffusion": GazeDiffusionConfig,
    "losses": GazeLossConfig,
    "optimiser": GazeOptimizerConfig,
    "run": GazeRunConfig,
}
"""The parts of the configuration by the title that `--help` gives them."""


def config_to_yaml(config: GazeTrainConfig) -> str:
    """Return the configuration as YAML that `--config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
