"""From argv, a YAML file or both to a TrainConfig; imports neither torch nor Lightning unless it must."""

import argparse
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from keypoint_detection.registry import nearest_name
from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.config import DataConfig, ModelConfig, RunConfig, TrainConfig
from keypoint_detection.train.devices_config import DevicesConfig
from keypoint_detection.train.literals import plain_value, trainer_value
from keypoint_detection.train.loader_config import LoaderConfig
from keypoint_detection.train.resume_config import ResumeConfig
from keypoint_detection.train.schedule_config import ScheduleConfig
from keypoint_detection.train.score_config import ScoreConfig
from keypoint_detection.train.speed_config import SpeedConfig
from keypoint_detection.train.tracking_config import TrackingConfig

ALIASES = {
    "auto_1r_find": "auto_lr_find",
    "max_grad_norm": "gradient_clip_val",
    "gradient_accumulation_steps": "accumulate_grad_batches",
    "train_batch_size": "batch_size",
    "image_cache_mb": "cache_mb",
}
"""Names of older tools, misspellings included."""

PAIR_FLAGS = ("pck_reference",)
"""Flags that take two names, or one text with an = between them."""

_NOT_TRAINER_ARGUMENTS = {"self", "logger", "callbacks", "enable_checkpointing", "plugins", "profiler"}


class UsageError(ValueError):
    """A wrong flag or value: one line, exit code 2."""


def _is_boolean(field: FieldInfo) -> bool:
    return bool in (field.annotation, *get_args(field.annotation))


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    return "default: " + ("none" if default is None else str(default))


class UsageParser(argparse.ArgumentParser):
    """Raise instead of exiting, so that the caller prints one line."""

    def error(self, message: str) -> Any:
        """Raise a UsageError that names the nearest right flag, or the nearest right value of a flag."""
        unknown = re.match(r"unrecognized arguments: (--\w+)", message)
        wrong = re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)", message)
        if unknown:
            message += "." + nearest_name(unknown[1], self._option_string_actions)
        elif wrong:
            message += "." + nearest_name(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        raise UsageError(message)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of `keypoint-detection train`, one flag per field of TrainConfig."""
    parser = UsageParser(
        prog="keypoint-detection train",
        description="Train a keypoint detector on a COCO keypoint file.",
        epilog="Any other argument of Lightning's Trainer passes through, such as --limit_train_batches 10.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", metavar="FILE", help="YAML file with any of these flags; flags win over it"
    )
    parser.add_argument("--print_config", action="store_true", help="print the resolved YAML and stop")
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    titles = {"data": DataConfig, "model": ModelConfig, "scores": ScoreConfig, "run": RunConfig}
    titles["loader"] = LoaderConfig
    titles["resume and faults"] = ResumeConfig
    titles |= {
        "loss and schedule": ScheduleConfig,
        "tracking": TrackingConfig,
        "speed": SpeedConfig,
        "several devices": DevicesConfig,
    }
    for title, schema in titles.items():
        group = parser.add_argument_group(title)
        for name, field in schema.model_fields.items():
            if name in ("trainer", "backbone_options"):
                continue
            text = f"{field.description} ({_default_text(field)})"
            names = [f"--{name}", *(f"--{alias}" for alias, target in ALIASES.items() if target == name)]
            _add_flag(group, names, text, is_boolean=_is_boolean(field))
    group = parser.add_argument_group("options of the backbones")
    for flag in backbone_flags().values():
        _add_flag(group, [f"--{flag.name}"], flag.help(), is_boolean=flag.type is bool)
    return parser


def _add_flag(group: Any, names: list[str], text: str, is_boolean: bool) -> None:
    """Add a flag of an optional value; a boolean one means true without a value."""
    name, text = names[0].removeprefix("--"), text.replace("%", "%%")
    if is_boolean:
        group.add_argument(*names, dest=name, nargs="?", const=True, metavar="BOOL", help=text)
    elif name in PAIR_FLAGS:
        group.add_argument(*names, dest=name, nargs="+", metavar="NAME", help=text)
    else:
        group.add_argument(*names, dest=name, metavar=name.split("_")[-1].upper(), help=text)


def parse_arguments(argv: list[str]) -> tuple[TrainConfig, argparse.Namespace]:
    """Read the flags of a training.

    Args:
        argv: The arguments after the command's name.

    Returns:
        The configuration, and a namespace with `print_config` and `debug`.

    Raises:
        UsageError: A flag or a value is wrong; one line that names the nearest right flag.
    """
    values, options = read_flags(argv)
    return make_config(values), options


def read_flags(argv: list[str]) -> tuple[dict[str, Any], argparse.Namespace]:
    """Return the settings that flags and the YAML file give, by name and not yet checked; see above."""
    given, unknown = build_parser().parse_known_args(argv)
    values = vars(given)
    options = argparse.Namespace(
        print_config=values.pop("print_config", False), debug=values.pop("debug", False)
    )
    config_path = values.pop("config", None)
    fields = TrainConfig.model_fields
    values = {name: plain_value(v, fields[name]) if name in fields else v for name, v in values.items()}
    merged = {**(_read_yaml(config_path) if config_path else {}), **values}
    trainer = {**(merged.pop("trainer", None) or {}), **_trainer_arguments(unknown)}
    return {**merged, "trainer": trainer}, options


def make_config(values: dict[str, Any]) -> TrainConfig:
    """Validate the values of the flags; the first wrong one is a UsageError of one line."""
    known = [*TrainConfig.model_fields, *backbone_flags(), *ALIASES]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise UsageError(f"unknown setting {unknown[0]!r}.{nearest_name(unknown[0], known)}")
    try:
        return TrainConfig(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        if first["type"] == "missing":
            raise UsageError(f"--{name} is required: {TrainConfig.model_fields[name].description}") from None
        message = str(first["msg"]).removeprefix("Value error, ")
        if not first["loc"]:
            raise UsageError(message) from None
        raise UsageError(f"--{name}: {message}; got {first['input']!r}") from None


def _read_yaml(path: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise UsageError(f"--config: no such file: {path}")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config: {path} should hold 'flag: value' lines, got {type(values).__name__}")
    return {ALIASES.get(str(name), str(name)): value for name, value in values.items()}


def _trainer_arguments(unknown: list[str]) -> dict[str, Any]:
    """Turn flags that TrainConfig does not have into Trainer arguments, or name the nearest right flag."""
    if not unknown:
        return {}
    import inspect

    from pytorch_lightning import Trainer

    allowed = set(inspect.signature(Trainer.__init__).parameters) - _NOT_TRAINER_ARGUMENTS
    arguments: dict[str, Any] = {}
    remaining = list(unknown)
    while remaining:
        flag = remaining.pop(0)
        name, has_value, text = flag.removeprefix("--").partition("=")
        if not flag.startswith("--") or name not in allowed:
            known = [*TrainConfig.model_fields, *backbone_flags(), *ALIASES, *allowed]
            raise UsageError(f"unknown argument {flag}.{nearest_name(name, known)} See --help.")
        if not has_value:
            text = remaining.pop(0) if remaining and not remaining[0].startswith("--") else "true"
        arguments[name] = trainer_value(text)
    return arguments
