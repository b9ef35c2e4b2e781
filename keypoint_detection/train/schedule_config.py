"""The settings of the loss, the learning rate and the average of the weights."""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from keypoint_detection.models.schedules import check_one_warmup
from keypoint_detection.train.loss_names import check_loss, loss_help
from keypoint_detection.train.values import OptionalText, Share, none_if_empty

OptionalShare = Annotated[Share | None, BeforeValidator(none_if_empty)]
OptionalSteps = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(none_if_empty)]


class ScheduleConfig(BaseModel):
    """Hold how the weights move: by which loss, how fast over the run, and which average of them counts."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    loss_function: OptionalText = Field(default=None, description=loss_help())
    ohkm: int = Field(
        default=0,
        ge=0,
        description="hard keypoint mining: channels per image, those with the largest loss, that are trained "
        "on; 0: all",
    )

    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate of AdamW")
    weight_decay: float = Field(
        default=0.01, ge=0, description="weight decay of AdamW (not on biases and norms)"
    )
    warmup: OptionalShare = Field(
        default=None,
        description="share of the run in which the learning rate rises; 0.05 when none is given, 0.3 for "
        "onecycle",
    )
    warmup_steps: OptionalSteps = Field(
        default=None, description="the same in steps of the optimiser; instead of --warmup"
    )
    decay_type: Literal["cosine", "linear", "constant", "onecycle", "plateau"] = Field(
        default="cosine",
        description="what it does after that; onecycle turns the momentum the other way round; plateau waits "
        "for validations without a gain",
    )
    final_lr_share: Share = Field(
        default=0.0, description="learning rate at the end, as a share of the peak (least one with plateau)"
    )
    plateau_factor: float = Field(
        default=0.5, gt=0, lt=1, description="what plateau multiplies the learning rate by"
    )
    plateau_patience: int = Field(
        default=5, ge=1, description="validations without a gain that plateau does so after"
    )
    plateau_metric: Literal["loss", "map"] = Field(
        default="loss", description="what is to gain: the validation loss, or the AP where it is computed"
    )
    ema_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="average the weights, keeping this share of the average in every step, such as 0.999; "
        "validation and inference use the average; 0: off",
    )

    @model_validator(mode="after")
    def _schedule_fits_together(self) -> Self:
        """Refuse two warm-ups, and a loss that the head does not have."""
        check_one_warmup(self.warmup, self.warmup_steps)
        occlusion = getattr(self, "occlusion", "ignore")
        check_loss(self.loss_function, getattr(self, "head", "heatmap"), occlusion)
        return self
