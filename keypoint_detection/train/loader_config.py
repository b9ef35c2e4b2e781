"""The settings of the loader: where decoded images are kept, and where they are augmented."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from keypoint_detection.train.values import OptionalText


def _off(value: Any) -> Any:
    """Return "off" for what YAML makes of an off without quotes."""
    return "off" if value is False else value


class LoaderConfig(BaseModel):
    """Hold how images come to the device; none of it changes what is learnt but `augment_device`'s noise."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    cache: Annotated[Literal["ram", "disk", "off"], BeforeValidator(_off)] = Field(
        default="ram",
        description="where decoded images are kept for all processes: ram until the run ends, disk for later "
        "runs as well, off",
    )
    cache_mb: int = Field(
        default=2000, ge=0, description="most MB of decoded images; what does not fit is decoded every time"
    )
    cache_dir: OptionalText = Field(
        default=None, description="folder of the cache; default: shared memory, or ~/.cache for disk"
    )
    prefetch: int = Field(default=2, ge=1, description="batches that each loader process prepares ahead")
    augment_device: Literal["cpu", "gpu"] = Field(
        default="cpu",
        description="where images are augmented: cpu in the loader processes, gpu where the model is",
    )
