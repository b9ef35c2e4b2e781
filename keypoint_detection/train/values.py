"""The types of the settings: what a shell, YAML or a sweep may write for each."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def _as_numbers(value: Any) -> Any:
    """Turn `"2 4"` or `"2, 4"` or one number into a list."""
    if isinstance(value, str):
        return [part for part in re.split(r"[\s,;]+", value.strip()) if part]
    return list(value) if isinstance(value, Sequence) else [value]


def _as_pairs(value: Any) -> Any:
    """Turn `"left_ear=right_ear; left_eye=right_eye"` into a list of pairs."""
    if isinstance(value, str):
        return [
            [name.strip() for name in pair.split("=")] for pair in re.split(r"[;:]", value) if pair.strip()
        ]
    return value


def _as_name_pair(value: Any) -> Any:
    """Turn `"eye top = eye bottom"` into two names."""
    value = value[0] if isinstance(value, Sequence) and len(value) == 1 else value
    value = none_if_empty(value)
    names = value.split("=") if isinstance(value, str) else value
    if names is not None and (len(names) != 2 or not all(str(name).strip() for name in names)):
        raise ValueError("expected two keypoint names, such as 'eye top' 'eye bottom'")
    return names and [str(name).strip() for name in names]


def parse_size(value: str) -> tuple[int, int]:
    """Read `"HEIGHTxWIDTH"` in pixels, both at least 8; anything else is a ValueError."""
    match = re.fullmatch(r"\s*(\d+)\s*[xX]\s*(\d+)\s*", value)
    if match is None or min(int(match[1]), int(match[2])) < 8:
        raise ValueError("expected HEIGHTxWIDTH in pixels, both at least 8, such as 480x640")
    return int(match[1]), int(match[2])


def _checked_size(value: Any) -> Any:
    if value is None or value == "":
        return None
    height, width = parse_size(value) if isinstance(value, str) else value
    return f"{height}x{width}"


def none_if_empty(value: Any) -> Any:
    """Return None for the ways to write that a value is not given."""
    return None if isinstance(value, str) and value in ("", "None", "none", "null") else value


def _checked_time(value: Any) -> Any:
    value = none_if_empty(value)
    if value is not None and not re.fullmatch(r"\d+:\d\d:\d\d:\d\d", str(value)):
        raise ValueError("expected days, hours, minutes and seconds as DD:HH:MM:SS, such as 00:00:20:00")
    return value


TimeLimit = Annotated[str | None, BeforeValidator(_checked_time)]
Numbers = Annotated[list[float], BeforeValidator(_as_numbers)]
Pairs = Annotated[list[tuple[str, str]] | None, BeforeValidator(_as_pairs)]
NamePair = Annotated[list[str] | None, BeforeValidator(_as_name_pair)]
Size = Annotated[str | None, BeforeValidator(_checked_size)]
OptionalText = Annotated[str | None, BeforeValidator(none_if_empty)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
