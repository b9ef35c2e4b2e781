"""The types of the settings of gaze training: what flags and YAML may write for each."""

from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BeforeValidator

from keypoint_detection.registry import nearest_name
from keypoint_detection.train.values import Numbers, none_if_empty

PARTS = ("scene", "head", "conditioner", "in_out", "denoiser")
"""Parts of the network by name, as in `named_groups.GROUPS`, which needs torch."""


def _as_list(value: Any) -> Any:
    """Return `"a b"` or `"a, b"` as a list, and one number as a list of it; words may be several texts."""
    value = none_if_empty(value)
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        value = " ".join(value)
    if isinstance(value, str):
        return value.replace(",", " ").split()
    return [value] if isinstance(value, int) else value


def _as_mapping(value: Any) -> Any:
    """Return `"{stride: 8}"` or `"stride=8 pretrained=false"` as a mapping."""
    value = none_if_empty(value)
    if not isinstance(value, str):
        return {} if value is None else value
    if not value.strip().startswith("{"):
        value = "{" + ", ".join(part.replace("=", ": ", 1) for part in value.split()) + "}"
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError:
        raise ValueError("expected options as 'name=value name=value'") from None


def _pair(values: list[int] | None) -> list[int] | None:
    if values is not None and (len(values) != 2 or min(values) < 1):
        raise ValueError("expected two whole numbers from 1, rows and columns, such as '7 7'")
    return values


def _from_one(values: list[int] | None) -> list[int] | None:
    if values and min(values) < 1:
        raise ValueError("expected whole numbers from 1, such as '1 2 3'")
    return values


def _low_and_high(values: list[float]) -> list[float]:
    if len(values) != 2 or not 0 <= values[0] <= values[1]:
        raise ValueError("expected the lowest and the highest factor, such as '0.5 1.5'")
    return values


def _parts(names: Any) -> Any:
    for name in names or ():
        if name not in PARTS:
            raise ValueError(f"expected parts among {', '.join(PARTS)}.{nearest_name(name, PARTS)}")
    return names


def _rates(factors: dict[str, Any]) -> dict[str, float]:
    _parts(factors)
    for name, factor in factors.items():
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < float("inf"):
            raise ValueError(f"expected a factor above 0 for each part, such as {name}=0.1")
    return {name: float(factor) for name, factor in factors.items()}


WholeNumbers = Annotated[list[int] | None, BeforeValidator(_as_list), AfterValidator(_from_one)]
Grid = Annotated[list[int] | None, BeforeValidator(_as_list), AfterValidator(_pair)]
Factors = Annotated[Numbers, AfterValidator(_low_and_high)]
Options = Annotated[dict[str, Any], BeforeValidator(_as_mapping)]
Parts = Annotated[list[str] | None, BeforeValidator(_as_list), AfterValidator(_parts)]
Rates = Annotated[dict[str, Any], BeforeValidator(_as_mapping), AfterValidator(_rates)]
