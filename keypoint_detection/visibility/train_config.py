"""VisibilityTrainConfig: every choice of the training of a visibility classifier, for flags and YAML."""

from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from keypoint_detection.train.resume_config import LAST
from keypoint_detection.train.values import OptionalText, TimeLimit, none_if_empty
from keypoint_detection.visibility.factors import check_factors

LAYOUT_FIELDS = ("factors", "group_by")
"""Settings of a pyramid that is built of a COCO file; a data folder has its own."""

MACHINE_FIELDS = ("accelerator", "num_workers", "default_root_dir", "run_name", "ckpt_path")
"""Where and how fast a training runs, and where its files are: not what comes out."""


def _as_list(value: Any) -> Any:
    """Return `"a b"` or `"a, b"` as a list, and one value as a list of it."""
    value = none_if_empty(value)
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [value] if isinstance(value, int) else value


def _as_names(value: Any) -> Any:
    """Return one text as a list of it: a name may hold spaces and commas, which only the views tell."""
    value = none_if_empty(value)
    return [value] if isinstance(value, str) else value


def _as_mapping(value: Any) -> Any:
    """Return `"{output_stride: 8}"` or `"output_stride=8 pretrained=false"` as a mapping."""
    value = none_if_empty(value)
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip().startswith("{"):
        value = "{" + ", ".join(part.replace("=", ": ", 1) for part in value.split()) + "}"
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError("expected options as 'name=value name=value'") from None


Names = Annotated[list[str] | None, BeforeValidator(_as_names)]
Factors = Annotated[list[int] | None, BeforeValidator(_as_list)]
Options = Annotated[dict[str, Any], BeforeValidator(_as_mapping)]


class PointDataConfig(BaseModel):
    """Hold where the points come from and which are left for the validation."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    data: OptionalText = Field(default=None, description="folder that visibility make-dataset wrote")
    json_dataset_path: OptionalText = Field(
        default=None,
        description="or a COCO keypoint file: keypoints of visibility 2 against those of 1 (occluded)",
    )
    group_by: OptionalText = Field(
        default=None,
        description="with a COCO file: field of the images (such as video) or folder that is the view; "
        "default: every image is a view of its own",
    )
    factors: Factors = Field(
        default=None,
        description="with a COCO file: demagnification of each level, such as '1 2 4'; default: 2 4 8 16 32",
    )
    validation_views: Names = Field(
        default=None, description="names of the views to validate on; default: drawn by the ratio"
    )
    validation_split_ratio: float = Field(
        default=0.2, gt=0, lt=1, description="share of the images to validate on; a view stays whole"
    )
    batch_size: int = Field(default=64, ge=2, description="points per step")
    num_workers: int | None = Field(
        default=None, ge=0, description="loader processes; default: by cores and number of points"
    )
    resample: bool = Field(
        default=True, description="draw as many visible as not visible points anew every epoch"
    )


class PointModelConfig(BaseModel):
    """Hold what the network and its optimiser need."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    patch_px: int = Field(
        default=128, ge=4, description="side of the patches in pixels of each level; a power of two"
    )
    size_hidden: int = Field(default=128, ge=1, description="channels of the encoding of a level")
    share_weights: bool = Field(default=True, description="encode all levels by the same weights")
    use_mlp: bool = Field(default=True, description="classify by one hidden layer; false: linearly")
    align_features: bool = Field(
        default=False, description="carry the features of each level to where they lie in the next one"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="probability of leaving out a channel in training"
    )
    backbone_type: OptionalText = Field(
        default=None,
        description="encode each level by this backbone (keypoint-detection backbones lists them); "
        "default: blocks of convolutions",
    )
    backbone_options: Options = Field(
        default_factory=dict, description="options of that backbone, such as 'output_stride=8'"
    )
    learning_rate: float = Field(default=1e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(default=0.01, ge=0, description="decay of the weights")


class PointRunConfig(BaseModel):
    """Hold how long and where a training runs, and where its files go."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    max_epochs: int | None = Field(
        default=None, ge=1, description="passes over the points; default: 20, without --max_time"
    )
    max_time: TimeLimit = Field(default=None, description="stop after DD:HH:MM:SS")
    check_val_every_n_epoch: int = Field(
        default=1, ge=1, description="epochs from one validation to the next"
    )
    seed: int = Field(default=2022, ge=0, description="seed of weights, order and split")
    accelerator: Literal["auto", "cpu", "gpu"] = Field(default="auto", description="where to train")
    precision: Literal["32", "bf16", "16"] = Field(default="32", description="bits of the numbers")
    eval_group: OptionalText = Field(
        default=None, description="what visibility compare calls this run; default: the name of its folder"
    )
    default_root_dir: str = Field(default="runs", description="folder of all runs")
    run_name: OptionalText = Field(
        default=None, description="folder of this run in it; default: visibility, data and time"
    )
    ckpt_path: OptionalText = Field(
        default=None,
        description="go on from this .ckpt file or run folder; 'last' goes on with --run_name, or begins",
    )


class VisibilityTrainConfig(PointDataConfig, PointModelConfig, PointRunConfig):
    """Hold everything that a training of a visibility classifier depends on."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.data is None) == (self.json_dataset_path is None):
            raise ValueError(
                "expected --data (a folder of visibility make-dataset) or --json_dataset_path (a COCO file), "
                f"got {'neither' if self.data is None else 'both'}"
            )
        for name in LAYOUT_FIELDS if self.data is not None else ():
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} goes with --json_dataset_path; a data folder has its own")
        if self.factors is not None:  # else they double, or those of the data folder are looked at
            check_factors(self.factors, align_features=self.align_features)
        self._check_network()
        if self.ckpt_path == LAST and self.run_name is None:
            raise ValueError("--ckpt_path last needs --run_name")
        return self

    def _check_network(self) -> None:
        if self.backbone_options and self.backbone_type is None:
            raise ValueError("--backbone_options needs --backbone_type")
        if self.align_features and self.backbone_type is not None:
            raise ValueError("--align_features needs the blocks of convolutions: give no --backbone_type")
        if self.backbone_type is None and self.patch_px & (self.patch_px - 1):
            raise ValueError(f"--patch_px: expected a power of two such as 64 or 128, got {self.patch_px}")


def config_to_yaml(config: VisibilityTrainConfig) -> str:
    """Return the configuration as YAML that `--config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
