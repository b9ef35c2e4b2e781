"""TrainConfig: the one schema behind the flags, the YAML file and the sweeps of a training."""

from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.devices_config import DevicesConfig
from keypoint_detection.train.loader_config import LoaderConfig
from keypoint_detection.train.occlusion_config import OCCLUSION_HELP, check_occlusion
from keypoint_detection.train.resume_config import ResumeConfig
from keypoint_detection.train.schedule_config import ScheduleConfig
from keypoint_detection.train.score_config import ScoreConfig
from keypoint_detection.train.speed_config import SpeedConfig
from keypoint_detection.train.tracking_config import TrackingConfig
from keypoint_detection.train.values import (
    Numbers,
    OptionalText,
    Pairs,
    Share,
    Size,
    TimeLimit,
    none_if_empty,
    parse_size,
)

CROP_HW = (256, 192)
"""Height and width of instance crops when none are given, as for people in COCO."""


class DataConfig(BaseModel):
    """Hold what the data module needs."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    json_dataset_path: str = Field(
        description="COCO keypoint file to train on; image paths are relative to it"
    )
    json_validation_dataset_path: OptionalText = Field(default=None, description="COCO file to validate on")
    json_test_dataset_path: OptionalText = Field(
        default=None, description="COCO file to score once, at the end"
    )
    json_dataset_img_size: OptionalText = Field(
        default=None,
        description="such as 512x512: read data/dataset_512x512/ for data/dataset/ in every json path",
    )
    keypoint_channel_configuration: str | list[list[str]] | None = Field(
        default=None,
        description="channels split by ';', names that share one by '='; default: a channel per name",
    )
    image_size: Size = Field(
        default=None,
        description="HxW in pixels to letterbox images to; default: keep their size (instances: 256x192)",
    )
    input_mode: Literal["image", "instance"] = Field(
        default="image", description="what the network sees: the whole image, or one crop per annotation"
    )
    box_padding: float = Field(
        default=1.25, ge=1, description="enlargement of the boxes that instances are cropped by, as a factor"
    )
    n_channels_in: int = Field(
        default=3, ge=1, description="colour channels of the images: 3 RGB, 1 grey, else as in the file"
    )
    validation_split_ratio: float = Field(
        default=0.25, gt=0, lt=1, description="share of the images to validate on, without a validation file"
    )
    detect_only_visible_keypoints: bool = Field(
        default=False,
        description="leave out occluded keypoints (visibility 1), in training and in every score",
    )
    batch_size: int = Field(default=8, ge=1, description="images per step and device")
    num_workers: int | None = Field(
        default=None, ge=0, description="loader processes; default: by cores and data set size"
    )

    augment_train: bool = Field(
        default=False, description="augment the training images (never the validation images)"
    )
    augment_rotation: float = Field(
        default=30.0, ge=0, le=180, description="largest rotation, degrees, either way"
    )
    augment_scale: float = Field(default=1.25, ge=1, description="largest zoom, in or out, as a factor")
    augment_translation: Share = Field(default=0.1, description="largest shift, as a share of the image size")
    augment_horizontal_flip: Share = Field(
        default=0.5, description="probability of a left-right flip (names swap)"
    )
    augment_vertical_flip: Share = Field(
        default=0.0, description="probability of a top-bottom flip (names swap)"
    )
    augment_color: Share = Field(default=1.0, description="strength of colour, blur and noise, 0 = none")
    symmetric_keypoints: Pairs = Field(
        default=None,
        description="pairs that swap in a flip, 'left_ear=right_ear; ...'; default: those that the category "
        "declares, else found from the names",
    )


class ModelConfig(BaseModel):
    """Hold what the detector needs."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    backbone_type: str = Field(
        default="Unet", description="backbone; `keypoint-detection backbones` lists them"
    )
    backbone_options: dict[str, Any] = Field(
        default_factory=dict, description="options of the backbone by name; each is a flag of its own as well"
    )
    head: Literal["heatmap", "regression"] = Field(
        default="heatmap", description="heatmaps, or one point per channel from pooled features"
    )
    occlusion: Literal["ignore", "signed"] = Field(default="ignore", description=OCCLUSION_HELP)
    init_weights: OptionalText = Field(
        default=None,
        description="file of weights to start from: all that fit are taken, and the log names the others",
    )
    freeze_backbone: bool = Field(
        default=False, description="train without changing the encoder (the whole backbone if it has none)"
    )
    unfreeze_epoch: int | None = Field(
        default=None, ge=1, description="freeze it until this epoch and train it from then on"
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="factor on the learning rate per layer of the encoder, from the features to the image",
    )

    heatmap_sigma: float = Field(
        default=2.0, gt=0, description="standard deviation of the targets, heatmap pixels"
    )
    variable_heatmap_sigma: float | None = Field(
        default=None,
        gt=0,
        description="sigma at the last epoch: falls linearly from epoch 10, when lower than heatmap_sigma",
    )
    mask_excluded_keypoints: bool = Field(
        default=False, description="leave the surroundings of excluded keypoints out of the loss"
    )
    minimal_keypoint_extraction_pixel_distance: int = Field(
        default=1, ge=1, description="radius of non-maximum suppression, heatmap pixels"
    )
    max_keypoints: int = Field(default=20, ge=1, description="most keypoints per channel and image")
    maximal_gt_keypoint_pixel_distances: Numbers = Field(
        default=[2.0, 4.0], description="AP thresholds: original-image pixels; all below 1: OKS thresholds"
    )
    ap_epoch_start: int = Field(default=1, ge=0, description="first epoch with AP")
    ap_epoch_freq: int = Field(
        default=2, ge=1, description="epochs between two APs (the last epoch always has one)"
    )

    @model_validator(mode="before")
    @classmethod
    def _collect_backbone_options(cls, values: Any) -> Any:
        """Move the flags of the backbones into `backbone_options`; unset ones keep the backbone's default."""
        if not isinstance(values, dict):
            return values
        flags = backbone_flags()
        given = {**(values.get("backbone_options") or {}), **{n: v for n, v in values.items() if n in flags}}
        options = {
            name: flags[name].parse(value) if name in flags else value
            for name, value in given.items()
            if none_if_empty(value) is not None
        }
        rest = {name: value for name, value in values.items() if name not in flags}
        return {**rest, "backbone_options": options}


class RunConfig(BaseModel):
    """Hold what the Trainer, the loggers and the run folder need."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    max_epochs: int | None = Field(
        default=None, ge=-1, description="epochs; default: 100, or no limit with --max_time"
    )
    max_time: TimeLimit = Field(
        default=None, description="time limit DD:HH:MM:SS; the schedule fits itself to it"
    )
    seed: int = Field(default=2022, ge=0, description="seed of weights, order, augmentation and split")
    deterministic: bool = Field(default=False, description="only deterministic kernels")
    early_stopping_relative_threshold: float = Field(
        default=-1.0,
        description="stop after 5 validations without a relative gain of the loss above this; -1: never",
    )
    auto_lr_find: bool = Field(default=False, description="run Lightning's learning-rate finder first")
    ckpt_path: OptionalText = Field(
        default=None, description="checkpoint to resume from (weights, optimiser, epoch)"
    )

    default_root_dir: str = Field(default="runs", description="folder of the runs")
    run_name: OptionalText = Field(
        default=None, description="folder of this run; default: backbone, data and time"
    )

    accelerator: str = Field(default="auto", description="auto, cpu, gpu, ...")
    devices: int | str = Field(default="auto", description="number of devices, a list such as '0,1', or auto")
    precision: str = Field(
        default="32-true", description="32-true, bf16-mixed, 16-mixed; 16 means 16-mixed, bf16 on a CPU"
    )
    fast_dev_run: bool | int = Field(
        default=False, description="run this many batches of everything, write no checkpoint"
    )
    log_every_n_steps: int = Field(default=10, ge=1, description="steps between two logged training losses")
    check_val_every_n_epoch: int = Field(default=1, ge=1, description="epochs between two validations")
    gradient_clip_val: float | None = Field(default=1.0, ge=0, description="largest norm of the gradient")
    trainer: dict[str, Any] = Field(
        default_factory=dict, description="any other argument of Lightning's Trainer"
    )

    @property
    def has_other_limit(self) -> bool:
        """True when something other than a number of epochs ends the run."""
        return bool(self.max_time) or self.trainer.get("max_steps", -1) > 0

    @model_validator(mode="after")
    def _ends(self) -> Self:
        """Refuse a run that would never begin or never end."""
        if self.max_epochs == 0 or (self.max_epochs == -1 and not self.has_other_limit):
            raise ValueError(
                "--max_epochs: expected at least 1, or -1 together with --max_time or --max_steps"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _as_lightning_wants(cls, values: Any) -> Any:
        """Let `precision: 16` be text and `devices: "1"` a number, however YAML or a shell delivered them."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        if "precision" in values:
            values["precision"] = str(values["precision"])
        if str(values.get("devices", "")).isdecimal():
            values["devices"] = int(values["devices"])
        return values


class TrainConfig(
    DataConfig,
    LoaderConfig,
    ModelConfig,
    ScheduleConfig,
    ScoreConfig,
    RunConfig,
    ResumeConfig,
    TrackingConfig,
    DevicesConfig,
    SpeedConfig,
):
    """Hold every choice of a training: `kd.train(kd.TrainConfig(json_dataset_path="train.json"))`."""

    @model_validator(mode="after")
    def _occlusion_fits(self) -> Self:
        """Refuse signed heatmaps with a head, a loss or labels that do not go with them."""
        check_occlusion(
            self.occlusion,
            head=self.head,
            loss_function=self.loss_function,
            visible_only=self.detect_only_visible_keypoints,
        )
        return self

    @property
    def image_hw(self) -> tuple[int, int] | None:
        """Return `image_size` as (height, width) in pixels; None keeps the size of whole images."""
        if self.image_size is None and self.input_mode == "instance":
            return CROP_HW
        return parse_size(self.image_size) if self.image_size else None


def config_to_yaml(config: TrainConfig) -> str:
    """Return the resolved configuration as YAML that `--config` reads back, with flat flags."""
    values = config.model_dump(mode="json")
    options = values["backbone_options"]
    flat = {name: options.pop(name) for name in list(options) if name in backbone_flags()}
    return yaml.safe_dump(values | flat, sort_keys=False, allow_unicode=True)
