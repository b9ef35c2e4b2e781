"""The keypoint constants of OKS: COCO's, given, or estimated from repeated labels; each with its source."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.metrics.matching_rule import DEFAULT_SIGMA
from keypoint_detection.registry import nearest_name

SigmaChoice = str | float | Sequence[float] | Mapping[str, float] | None

_COCO_LIMBS = {"shoulder": 0.079, "elbow": 0.072, "wrist": 0.062, "hip": 0.107, "knee": 0.087, "ankle": 0.089}
_COCO_PAIRS = {"eye": 0.025, "ear": 0.035, **_COCO_LIMBS}
COCO_SIGMAS: dict[str, float] = {
    "nose": 0.026,
    **{f"{side}_{part}": sigma for part, sigma in _COCO_PAIRS.items() for side in ("left", "right")},
}
"""The constants of COCO's seventeen keypoints, in units of the object's side (the root of its area).

Source: cocodataset.org, keypoints evaluation; measured on 5,000 images that were labelled repeatedly.
"""

_FLAG = "--oks_sigmas"
_EXAMPLES = "numbers ('0.03 0.05'), pairs ('nose=0.03; tail=0.05') or a .json or .yaml file"
_FILE_SUFFIXES = (".json", ".yaml", ".yml")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf", re.IGNORECASE)
_IGNORED_IN_NAMES = re.compile(r"[\s_-]+")


class RepeatedDistances(NamedTuple):
    """Hold how far repeated labels of the same objects lie apart, pooled over the objects.

    Attributes:
        names: The k keypoint names.
        squared_sum: `[k]` float64, the sum over objects of `sum |x - mean|^2 / area`, without unit.
        degrees: `[k]` int64, the sum over the same objects of their labels less one.
        num_objects: Objects that were used.
        num_labels: Fewest and most annotations of one of them.
        num_without_area: Objects that were left out because nothing gives their area.
    """

    names: tuple[str, ...]
    squared_sum: NDArray[np.float64]
    degrees: NDArray[np.int64]
    num_objects: int
    num_labels: tuple[int, int]
    num_without_area: int


@dataclass(frozen=True)
class OKSSigmas:
    """Hold the OKS constant of every keypoint and where it comes from; a wrong value is a ValueError.

    Attributes:
        names: Keypoint names.
        values: The constant of each, > 0, in units of the object's side (the root of its area).
        source: One phrase for the contract, such as `COCO`.

    Example:
        >>> sigmas = OKSSigmas(("nose", "tail"), (0.026, 0.1), "given")
        >>> sigmas.describe()
        'OKS sigmas (given): nose 0.026, tail 0.1'
    """

    names: tuple[str, ...]
    values: tuple[float, ...]
    source: str

    def __post_init__(self) -> None:
        if len(self.values) != len(self.names):
            raise ValueError(
                f"{_FLAG}: expected one number for all keypoints or one for each of {len(self.names)} "
                f"({', '.join(self.names)}), got {len(self.values)}"
            )
        for name, value in zip(self.names, self.values, strict=True):
            if not 0 < value < math.inf:
                raise ValueError(f"{_FLAG}: expected a finite number above 0 for {name!r}, got {value:g}")

    def by_name(self) -> dict[str, float]:
        """Return the constant of every keypoint by its name."""
        return dict(zip(self.names, self.values, strict=True))

    def describe(self) -> str:
        """Return one line for people: values, source, and what the default means for the numbers."""
        if len(self.values) > 1 and len(set(self.values)) == 1:
            listed = f"{self.values[0]:.3g} for each of {len(self.names)} keypoints"
        else:
            listed = ", ".join(f"{name} {value:.3g}" for name, value in self.by_name().items())
        line = f"OKS sigmas ({self.source}): {listed}"
        if not self.source.startswith("default"):
            return line
        oks = math.exp(-(0.1**2) / (2 * (2 * DEFAULT_SIGMA) ** 2))  # exp(-d^2 / (2 s^2 k^2)), k = 2 sigma
        return (
            f"{line}; an error of 10 % of the object's side (the root of its area) then scores an OKS of "
            f"{oks:.2f}, and numbers under other sigmas are not comparable; {_FLAG} sets them"
        )


def resolve_oks_sigmas(
    choice: SigmaChoice, names: Sequence[str], repeated: RepeatedDistances | None = None
) -> OKSSigmas:
    """Return the OKS constant of every keypoint.

    Args:
        choice: None takes COCO's constants where every name is one of COCO's, else 0.067 for all. `"coco"`
            wants them all to be; names are compared without case, spaces, hyphens and underscores. A number
            counts for all keypoints; several, also as text (`"0.03, 0.05"`), are one per name; a mapping,
            also as text (`"nose=0.03; tail=0.05"`), names each; a path leads to a `.json` or `.yaml` file
            with a list or a mapping. `"estimate"` takes the spread of repeated labels.
        names: Keypoint names.
        repeated: For `"estimate"`; None where no object was labelled repeatedly, which gives the default.

    Raises:
        ValueError: The choice is none of these, names or their number do not fit, or a constant is not finite
            and above 0.
        FileNotFoundError: There is no such `.json` or `.yaml` file.

    Example:
        >>> resolve_oks_sigmas("coco", ["Nose", "Left Eye"]).by_name()
        {'Nose': 0.026, 'Left Eye': 0.025}
        >>> resolve_oks_sigmas(None, ["stem", "leaf"]).source
        'default 0.067 for every keypoint'
    """
    if choice is None:
        is_coco = None not in _coco_matches(names).values()
        return _from_coco(names) if is_coco else _default(names, " for every keypoint")
    if not isinstance(choice, str):
        return _from_values(choice, names, "given")
    text = choice.strip()
    if text == "coco":
        return _from_coco(names)
    return estimate_oks_sigmas(names, repeated) if text == "estimate" else _from_text(text, names)


def estimate_oks_sigmas(names: Sequence[str], repeated: RepeatedDistances | None) -> OKSSigmas:
    """Return the root of the mean squared distance of a label from the truth, in units of the object's side.

    One of m labels of a point lies from the truth, in the mean of squares, as `sum |x - mean|^2 / (m - 1)`
    says without bias; objects are pooled with the weight m - 1. A keypoint that no object has twice gets the
    mean of the others.

    Args:
        names: Keypoint names.
        repeated: The spread of repeated labels; without any, the result is the default.

    Raises:
        ValueError: All repeated labels of a keypoint are the same.

    Source: Lin et al., COCO keypoints evaluation, `sigma_i^2 = E[d_i^2 / s^2]`.

    Example:
        >>> import numpy as np
        >>> apart = RepeatedDistances(("nose",), np.array([0.02]), np.array([2]), 2, (2, 2), 0)
        >>> estimate_oks_sigmas(["nose", "tail"], apart).values
        (0.1, 0.1)
    """
    if repeated is None:
        return _default(names, ": the file has no repeated labels")
    sigmas = np.sqrt(repeated.squared_sum / np.maximum(repeated.degrees, 1)).tolist()
    usable = zip(repeated.names, sigmas, repeated.degrees.tolist(), strict=True)
    found = {name: sigma for name, sigma, degrees in usable if degrees > 0 and name in names}
    if not found:
        return _default(names, f": the file has no repeated labels{_left_out(repeated)}")
    for name, sigma in found.items():
        if sigma == 0:
            raise ValueError(
                f"{_FLAG} estimate: expected repeated labels of {name!r} that differ, got only equal ones; "
                f"remove the copies, or give {_EXAMPLES}"
            )
    mean = sum(found.values()) / len(found)
    values = tuple(found.get(name, mean) for name in names)
    return OKSSigmas(tuple(names), values, _estimate_source(repeated, len(names) - len(found), len(names)))


def _estimate_source(repeated: RepeatedDistances, num_missing: int, num_names: int) -> str:
    fewest, most = repeated.num_labels
    times = f"{fewest} times" if fewest == most else f"{fewest} to {most} times"
    objects = f"{repeated.num_objects} object{'s'[: repeated.num_objects > 1]}"
    source = f"estimated from {objects} labelled {times}{_left_out(repeated)}"
    if num_missing:
        source += f", mean of the others for {num_missing} of {num_names} keypoints"
    return source


def _left_out(repeated: RepeatedDistances) -> str:
    count = repeated.num_without_area
    return f" ({count} object{'s'[: count > 1]} without area left out)" if count else ""


def _default(names: Sequence[str], reason: str) -> OKSSigmas:
    return OKSSigmas(tuple(names), (DEFAULT_SIGMA,) * len(names), f"default {DEFAULT_SIGMA:g}{reason}")


def _coco_matches(names: Sequence[str]) -> dict[str, float | None]:
    """Return COCO's constant of every name, None for a name that is not one of COCO's."""
    plain = {_plain(name): sigma for name, sigma in COCO_SIGMAS.items()}
    return {name: plain.get(_plain(name)) for name in names}


def _plain(name: str) -> str:
    return _IGNORED_IN_NAMES.sub("", name).lower()


def _from_coco(names: Sequence[str]) -> OKSSigmas:
    matched = _coco_matches(names)
    others = [name for name, sigma in matched.items() if sigma is None]
    if others:
        listed = ", ".join(map(repr, others))
        raise ValueError(
            f"{_FLAG} coco: expected names of COCO's keypoints (such as 'left_eye'), got {listed}; "
            f"give {_EXAMPLES} instead"
        )
    return OKSSigmas(tuple(names), tuple(matched[name] or 0.0 for name in names), "COCO")


def _from_text(text: str, names: Sequence[str]) -> OKSSigmas:
    """Read a path, pairs or numbers."""
    path = Path(text)
    if path.suffix.lower() in _FILE_SUFFIXES:
        return _from_values(_read_file(path), names, path.name)
    if "=" in text:
        return _from_values(_parse_pairs(text), names, "given")
    parts = [part for part in re.split(r"[\s,;]+", text) if part]
    if any(_NUMBER.fullmatch(part) for part in parts):
        return _from_values(parts, names, "given")
    raise ValueError(
        f"{_FLAG}: expected coco, estimate, {_EXAMPLES}, got {text!r}."
        f"{nearest_name(text, ['coco', 'estimate'])}"
    )


def _parse_pairs(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for part in filter(str.strip, text.split(";")):
        name, equals, value = (piece.strip() for piece in part.rpartition("="))
        if not equals or not name or name in pairs:
            raise ValueError(f"{_FLAG}: expected pairs such as 'nose=0.03; tail=0.05', got {part.strip()!r}")
        pairs[name] = value
    return pairs


def _read_file(path: Path) -> Any:
    """Return the list or mapping of a file."""
    if not path.is_file():
        raise FileNotFoundError(f"{_FLAG}: expected a file of numbers at {path}, found none")
    import yaml

    try:
        text = path.read_text(
            encoding="utf-8-sig"
        )  # YAML's base loader keeps every name text, also "on" and "1"
        content = json.loads(text) if path.suffix.lower() == ".json" else yaml.load(text, yaml.BaseLoader)
    except (ValueError, yaml.YAMLError) as error:  # bad JSON and bad UTF-8 are ValueErrors
        raise ValueError(f"{_FLAG}: cannot read {path}: {' '.join(str(error).split())}") from None
    if not isinstance(content, list | dict):
        raise ValueError(f"{_FLAG}: expected a list or a mapping of numbers in {path}, got neither")
    return content


def _from_values(values: Any, names: Sequence[str], source: str) -> OKSSigmas:
    """Check a number, a sequence or a mapping from names."""
    if isinstance(values, Mapping):
        values = _in_order(values, names)
    elif not isinstance(values, Sequence | np.ndarray):
        values = [values]
    if len(values) == 1:
        values = [values[0]] * len(names)
    labels = [*names, *(f"keypoint {index + 1}" for index in range(len(names), len(values)))]
    numbers = [_number(value, label) for value, label in zip(values, labels, strict=False)]
    return OKSSigmas(tuple(names), tuple(numbers), source)


def _in_order(values: Mapping[Any, Any], names: Sequence[str]) -> list[Any]:
    """Return the values of a mapping in the order of the names; both must name the same keypoints."""
    unknown = next((name for name in values if name not in names), None)
    if unknown is not None:
        raise ValueError(
            f"{_FLAG}: expected keypoint names of the data set ({', '.join(names)}), got {unknown!r}."
            f"{nearest_name(unknown, names)}"
        )
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"{_FLAG}: expected a number for every keypoint, got none for {', '.join(missing)}")
    return [values[name] for name in names]


def _number(value: Any, label: str) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{_FLAG}: expected a finite number above 0 for {label!r}, got {value!r}") from None
