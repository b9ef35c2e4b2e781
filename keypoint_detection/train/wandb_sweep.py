"""Under an agent of wandb, the values of its sweep win over the flags: the one place that knows of it."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.cli import ALIASES, make_config, read_flags
from keypoint_detection.train.config import TrainConfig

SWEEP_ID, PARAMETER_FILE = "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH"
"""Set by `wandb agent` and `wandb.agent`; the file holds what becomes `wandb.config`."""


def with_sweep_values(config: TrainConfig) -> TrainConfig:
    """Return the configuration with the values of the sweep, which also turns the logging to wandb on.

    Outside of a sweep it is the same configuration. No run of wandb is started here: every process of a
    training that spans several devices reads the same values.

    Raises:
        UsageError: The sweep has a parameter that no training has, or a wrong value; one line.
    """
    values = sweep_values()
    if values is None:
        return config
    given, _ = read_flags([f"--{name}={value}" for name, value in values.items()])
    trainer = {**config.trainer, **given.pop("trainer")}
    logger = config.logger if config.uses_wandb else f"{config.logger},wandb"
    return make_config({**config.model_dump(), "logger": logger, **given, "trainer": trainer})


def sweep_values() -> dict[str, Any] | None:
    """Return the parameters of the sweep by name; None where there is no sweep."""
    path = os.environ.get(PARAMETER_FILE)
    if path and Path(path).is_file():
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        return {name: entry["value"] for name, entry in content.items() if isinstance(entry, Mapping)}
    run = getattr(sys.modules.get("wandb"), "run", None)
    if run is not None and run.sweep_id:
        known = {*TrainConfig.model_fields, *backbone_flags(), *ALIASES} - {"trainer", "backbone_options"}
        return {name: value for name, value in dict(run.config).items() if name in known}
    return {} if os.environ.get(SWEEP_ID) else None
