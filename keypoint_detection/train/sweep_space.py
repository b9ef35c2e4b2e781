"""The parameters of a sweep, in the terms of wandb: which values each may take."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

from keypoint_detection.registry import nearest_name

Kind = Literal["constant", "categorical", "int", "float", "log", "step", "normal"]


@dataclass(frozen=True)
class Parameter:
    """Hold the values that one flag of a training may take.

    A search draws a plain number or text, and `value` turns it into what the flag gets.

    Attributes:
        name: Name of the flag.
        kind: How values are drawn.
        choices: All values of `constant` and `categorical`.
        low: Least value of a range; the mean of `normal`.
        high: Largest value, included; the standard deviation of `normal`.
        quantum: Of `step`: values are its multiples.
    """

    name: str
    kind: Kind
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    quantum: float = 1.0

    @property
    def bounds(self) -> tuple[float, float]:
        """Return the least and the largest number that is drawn, where numbers are."""
        if self.kind == "step":
            return math.ceil(self.low / self.quantum - 1e-9), math.floor(self.high / self.quantum + 1e-9)
        return (1e-6, 1 - 1e-6) if self.kind == "normal" else (self.low, self.high)

    @property
    def texts(self) -> tuple[str, ...]:
        """Return the choices as a search draws them: lists and None are no values that it knows."""
        return tuple(json.dumps(choice) for choice in self.choices)

    def value(self, drawn: Any) -> Any:
        """Return the value of the flag for what was drawn: a text, a number, or a share for `normal`."""
        if self.choices:
            return json.loads(drawn)
        if self.kind == "step":
            multiple = float(f"{drawn * self.quantum:.12g}")
            return int(multiple) if isinstance(self.quantum, int) else multiple
        if self.kind == "normal":
            return NormalDist(self.low, self.high).inv_cdf(drawn)
        return drawn

    def samples(self) -> list[Any]:
        """Return values to try a flag with: all choices, or both ends of a range."""
        if self.choices:
            return list(self.choices)
        if self.kind == "normal":
            return [self.low]
        return [self.value(end) for end in self.bounds]

    def grid(self) -> list[Any]:
        """Return all that can be drawn.

        Raises:
            ValueError: There is no end of it; one line.
        """
        if self.choices:
            return list(self.texts)
        if self.kind in ("int", "step"):
            low, high = (int(end) for end in self.bounds)
            return list(range(low, high + 1))
        raise ValueError(
            f"parameters.{self.name}: method grid needs values, or a range of whole numbers; got a"
            " continuous range; give values: [...], or method random or bayes"
        )


def read_parameter(name: str, entry: Any) -> Parameter:
    """Return a parameter from its entry in the file of a sweep.

    Raises:
        ValueError: The entry is wrong or not supported; one line that names the parameter.
    """
    try:
        if not isinstance(entry, Mapping):
            raise ValueError(f"expected a mapping with value, values, or min and max; got {entry!r}")
        distribution = entry.get("distribution") or _implied(entry)
        if not isinstance(distribution, str) or distribution not in READERS:
            hint = nearest_name(str(distribution), READERS)
            raise ValueError(f"unknown distribution {distribution!r}; known: {', '.join(READERS)}.{hint}")
        reader, taken = READERS[distribution]
        unknown = [key for key in entry if key not in (*taken, "distribution")]
        if unknown:
            raise ValueError(f"{distribution} takes {', '.join(taken)}; got {unknown[0]!r}")
        return reader(name, entry)
    except ValueError as error:
        raise ValueError(f"parameters.{name}: {error}") from None


def _implied(entry: Mapping[str, Any]) -> str:
    """Return the distribution that wandb takes for an entry that names none."""
    if "value" in entry:
        return "constant"
    if "values" in entry:
        return "categorical"
    if "parameters" in entry:
        raise ValueError("nested parameters are not supported: the flags of a training are flat")
    if "min" not in entry or "max" not in entry:
        raise ValueError(f"expected value, values, or min and max; got {', '.join(entry) or 'nothing'}")
    both_whole = all(isinstance(entry[end], int) for end in ("min", "max"))
    return "int_uniform" if both_whole else "uniform"


def _number(entry: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = entry.get(key, default)
    try:
        number = value if isinstance(value, int) else float(value)  # pyright: ignore  YAML's 1e-3 is text
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{key}: expected a number, got {value!r}")
    return number


def _ends(entry: Mapping[str, Any]) -> tuple[float, float]:
    low, high = _number(entry, "min"), _number(entry, "max")
    if low >= high:
        raise ValueError(f"expected min below max, got min {low:g} and max {high:g}")
    return low, high


def _check_plain(key: str, values: list[Any]) -> None:
    """Refuse what YAML reads as a date or a set: a flag is a number, a text, a boolean, a list or null."""
    for value in values:
        try:
            json.dumps(value)
        except TypeError:
            raise ValueError(
                f"{key}: expected numbers, texts, booleans, lists or null, got {value!r}; a text needs quotes"
            ) from None


def _constant(name: str, entry: Mapping[str, Any]) -> Parameter:
    _check_plain("value", [entry["value"]])
    return Parameter(name, "constant", (entry["value"],))


def _categorical(name: str, entry: Mapping[str, Any]) -> Parameter:
    values = entry.get("values")
    if not isinstance(values, list) or not values:
        raise ValueError(f"values: expected a list, got {values!r}")
    _check_plain("values", values)
    texts = [json.dumps(value) for value in values]
    twice = [text for text in texts if texts.count(text) > 1]
    if twice:
        raise ValueError(f"values: {twice[0]} is given twice")
    return Parameter(name, "categorical", tuple(values))


def _uniform(name: str, entry: Mapping[str, Any]) -> Parameter:
    low, high = _ends(entry)
    return Parameter(name, "float", low=float(low), high=float(high))


def _int_uniform(name: str, entry: Mapping[str, Any]) -> Parameter:
    low, high = _ends(entry)
    if low != int(low) or high != int(high):
        raise ValueError(f"expected whole numbers for min and max, got {low:g} and {high:g}")
    return Parameter(name, "int", low=int(low), high=int(high))


def _q_uniform(name: str, entry: Mapping[str, Any]) -> Parameter:
    (low, high), quantum = _ends(entry), _number(entry, "q", 1)
    if quantum <= 0:
        raise ValueError(f"q: expected a number above 0, got {quantum:g}")
    parameter = Parameter(name, "step", low=low, high=high, quantum=quantum)
    if parameter.bounds[0] > parameter.bounds[1]:
        raise ValueError(f"expected a multiple of q {quantum:g} from {low:g} to {high:g}, there is none")
    return parameter


def _log_uniform_values(name: str, entry: Mapping[str, Any]) -> Parameter:
    low, high = _ends(entry)
    if low <= 0:
        raise ValueError(f"min: expected a number above 0 for a logarithm, got {low:g}")
    return Parameter(name, "log", low=float(low), high=float(high))


def _log_uniform(name: str, entry: Mapping[str, Any]) -> Parameter:
    low, high = _ends(entry)
    if max(abs(low), abs(high)) > 100:
        raise ValueError(
            f"min and max are exponents of e in log_uniform, got {low:g} and {high:g}; log_uniform_values"
            " takes the values themselves"
        )
    return Parameter(name, "log", low=math.exp(low), high=math.exp(high))


def _normal(name: str, entry: Mapping[str, Any]) -> Parameter:
    mean, deviation = _number(entry, "mu", 0.0), _number(entry, "sigma", 1.0)
    if deviation <= 0:
        raise ValueError(f"sigma: expected a number above 0, got {deviation:g}")
    return Parameter(name, "normal", low=mean, high=deviation)


READERS: dict[str, tuple[Callable[[str, Mapping[str, Any]], Parameter], tuple[str, ...]]] = {
    "constant": (_constant, ("value",)),
    "categorical": (_categorical, ("values",)),
    "uniform": (_uniform, ("min", "max")),
    "int_uniform": (_int_uniform, ("min", "max")),
    "q_uniform": (_q_uniform, ("min", "max", "q")),
    "log_uniform": (_log_uniform, ("min", "max")),
    "log_uniform_values": (_log_uniform_values, ("min", "max")),
    "normal": (_normal, ("mu", "sigma")),
}
"""By distribution: what reads an entry, and the keys that it takes."""
