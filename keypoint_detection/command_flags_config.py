"""Flags and YAML for a configuration that is a pydantic model: one flag per field, one line per mistake."""

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from keypoint_detection.registry import nearest_name
from keypoint_detection.train.cli import UsageError

Config = TypeVar("Config", bound=BaseModel)

_NOT_SHOWN = (None, {})


def add_config_flags(
    parser: argparse.ArgumentParser, sections: Mapping[str, type[BaseModel]], left_out: Collection[str] = ()
) -> None:
    """Add a flag per field, `--config` and `--print_config`.

    Args:
        parser: Of the command.
        sections: Title -> model; lists and options may be given as several words.
        left_out: Fields without a flag.
    """
    parser.add_argument("--config", metavar="FILE", help="YAML file of these flags; flags win over it")
    parser.add_argument("--print_config", action="store_true", help="print the resolved YAML and stop")
    for title, section in sections.items():
        group = parser.add_argument_group(title)
        for name, field in section.model_fields.items():
            if name not in left_out:
                _add_flag(group, name, field)


def config_of_flags(args: argparse.Namespace, model: type[Config]) -> Config:
    """Return the configuration of the flags and of the YAML file of `--config`.

    Raises:
        UsageError: A value is wrong; one line.
    """
    fields = model.model_fields
    given = {name: _plain(value, fields[name]) for name, value in vars(args).items() if name in fields}
    values = {**_read_yaml(args.config), **given}
    unknown = next((name for name in values if name not in fields), None)
    if unknown is not None:
        raise UsageError(f"unknown setting {unknown!r}.{nearest_name(unknown, fields)}")
    try:
        return model(**values)
    except ValidationError as error:
        raise UsageError(_first_mistake(error)) from None


def _add_flag(group: Any, name: str, field: FieldInfo) -> None:
    default = field.get_default(call_default_factory=True, validated_data={})
    text = str(field.description).replace("%", "%%")
    text += "" if default in _NOT_SHOWN else f" (default: {_one_line(default)})"
    kinds = str(field.annotation)
    options: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text}
    if bool in (field.annotation, *get_args(field.annotation)):
        options |= {"nargs": "?", "const": True, "metavar": "BOOL"}
    elif "list[" in kinds or "dict[" in kinds:
        options |= {"nargs": "+", "metavar": name.rsplit("_", maxsplit=1)[-1].upper()}
    else:
        options |= {"metavar": name.rsplit("_", maxsplit=1)[-1].upper()}
    group.add_argument(f"--{name}", **options)


def _one_line(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list) else str(default)


def _plain(value: Any, field: FieldInfo) -> Any:
    """Return the words of a flag as one text, as YAML would hold it; names with spaces stay a list."""
    if not isinstance(value, list):
        return value
    return value if len(value) > 1 and "list[str]" in str(field.annotation) else " ".join(value)


def _first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if not first["loc"]:
        return message
    nearest = ""
    if first["type"] == "literal_error":
        expected = str(first.get("ctx", {}).get("expected", "")).replace("'", "").replace(" or ", ", ")
        nearest = "." + nearest_name(str(first["input"]), expected.split(", "))
    return f"--{first['loc'][0]}: {message}; got {first['input']!r}{nearest}"


def _read_yaml(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    if not Path(path).is_file():
        raise UsageError(f"--config: no such file: {path}")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UsageError(f"--config: {path} should hold 'flag: value' lines, got {type(values).__name__}")
    return {str(name): value for name, value in values.items()}
