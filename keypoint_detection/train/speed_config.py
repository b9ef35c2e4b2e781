"""The settings that make a training faster, or show where its time goes; none of them changes a score."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

_OFF = (None, "", False, 0, "0", "false", "False")
"""How a flag, YAML or a sweep writes that something is not asked for."""


class SpeedConfig(BaseModel):
    """Hold how the steps are computed."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    compile: bool = Field(
        default=False, description="compile the network with torch.compile; checkpoints are the same"
    )
    channels_last: bool = Field(
        default=False,
        description="keep weights and images in channels-last memory, for GPUs and precision 16",
    )
    accumulate_grad_batches: int = Field(
        default=1, ge=1, description="batches whose gradients are added up for one step of the optimiser"
    )
    profile: bool = Field(
        default=False, description="print at the end where the time went, with advice; slows a GPU down"
    )
    frozen_features: int = Field(
        default=0,
        ge=0,
        description="views of each training image to run the frozen encoder on, once; head and decoder train "
        "on these features; 0: off",
    )

    @model_validator(mode="before")
    @classmethod
    def _frozen_features_freeze(cls, values: Any) -> Any:
        """Freeze the encoder where its features are kept, and refuse what cannot go with that."""
        if not isinstance(values, dict) or values.get("frozen_features") in _OFF:
            return values
        for name in ("compile", "unfreeze_epoch"):
            if values.get(name) not in _OFF:
                raise ValueError(f"--frozen_features: goes without --{name}; leave one of them out")
        return {**values, "freeze_backbone": True}
