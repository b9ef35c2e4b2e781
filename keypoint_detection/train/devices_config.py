"""DevicesConfig: over how many machines and processes a training is spread, and how."""

from pydantic import BaseModel, ConfigDict, Field


class DevicesConfig(BaseModel):
    """Hold what several devices and nodes need; `devices` and `accelerator` are settings of every run."""

    model_config = ConfigDict(extra="forbid", validate_default=True)

    num_nodes: int = Field(default=1, ge=1, description="machines, each with `--devices` devices")
    strategy: str = Field(
        default="auto",
        description="how the work is spread, by Lightning's names: auto (one device, or ddp), ddp, fsdp, ...",
    )
    sync_batchnorm: bool = Field(
        default=False, description="batch statistics over all devices, GPUs only; for few images per device"
    )
