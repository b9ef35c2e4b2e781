"""TrackingConfig: where the numbers, the pictures and the weights of a training are sent."""

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from keypoint_detection.registry import nearest_name
from keypoint_detection.train.values import OptionalText

LOGGERS = ("csv", "wandb", "tensorboard")
"""What `--logger` knows."""


def _logger_names(value: Any) -> Any:
    """Turn `"wandb, tensorboard"` or a list of names into `"csv,wandb,tensorboard"`; csv is always there."""
    parts = value.replace(";", ",").split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple):
        raise ValueError("expected names joined by commas, such as 'csv,wandb'")
    names = [str(part).strip() for part in parts if str(part).strip()]
    for name in names:
        if name not in LOGGERS:
            known = ", ".join(LOGGERS)
            raise ValueError(f"expected {known}, several joined by commas.{nearest_name(name, LOGGERS)}")
    return ",".join(known for known in LOGGERS if known == "csv" or known in names)


LoggerNames = Annotated[str, BeforeValidator(_logger_names)]


class TrackingConfig(BaseModel):
    """Hold what the loggers need."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    logger: LoggerNames = Field(
        default="csv",
        description="csv (always written), wandb, tensorboard; several joined by commas: 'wandb,tensorboard'",
    )
    log_images_every: int = Field(
        default=5,
        ge=0,
        description="epochs between two grids of predicted and target heatmaps and detected keypoints of the "
        "first validation batch, for wandb and tensorboard; 0: none",
    )
    wandb_project: OptionalText = Field(default=None, description="wandb project (turns wandb on)")
    wandb_entity: OptionalText = Field(default=None, description="wandb user or team (turns wandb on)")
    wandb_name: OptionalText = Field(default=None, description="wandb run name (turns wandb on)")
    log_model: bool = Field(
        default=False,
        description="upload the best checkpoint to wandb at the end, as artifact model-<run id>",
    )
    wandb_checkpoint_artifact: OptionalText = Field(
        default=None,
        description="wandb artifact 'entity/project/name:version' with a checkpoint to start from, as "
        "--init_weights does",
    )

    @property
    def uses_wandb(self) -> bool:
        """True with `wandb` among the loggers or as soon as one wandb field is given."""
        named = any((self.wandb_project, self.wandb_entity, self.wandb_name))
        return named or "wandb" in self.logger.split(",")

    @property
    def uses_tensorboard(self) -> bool:
        """True with `tensorboard` among the loggers."""
        return "tensorboard" in self.logger.split(",")

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        """Refuse an upload without wandb, and two weights to start from."""
        if self.log_model and not self.uses_wandb:
            raise ValueError("--log_model uploads to wandb; add --logger wandb, or leave it out")
        if self.wandb_checkpoint_artifact and getattr(self, "init_weights", None):
            raise ValueError(
                "--wandb_checkpoint_artifact and --init_weights both give the weights to start from; give one"
            )
        return self
