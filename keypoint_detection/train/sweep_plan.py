"""What a sweep does: its file in wandb's format, checked against the flags of a training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from keypoint_detection.registry import nearest_name
from keypoint_detection.train.cli import UsageError, parse_arguments
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.sweep_space import Parameter, read_parameter

METHODS = ("grid", "random", "bayes")
DEFAULT_METRIC = {"name": "checkpoint/validation_map", "goal": "maximize"}

KEYS = (
    "method",
    "metric",
    "parameters",
    "early_terminate",
    "command",
    "run_cap",
    "program",
    "name",
    "description",
    "project",
    "entity",
)
"""Of the file; the last five are for wandb alone."""

REFUSED = {
    "run_name": "each trial has a folder of its own",
    "ckpt_path": "each trial is a training of its own",
    "fast_dev_run": "it leaves no score",
}
"""Settings of a training that a sweep does not take, and why; `default_root_dir` is refused as well."""


@dataclass(frozen=True)
class Pruning:
    """Hold when a trial that does worse than others is stopped.

    Attributes:
        kind: `hyperband` (the best 1 / factor of all trials go on at each rung) or `median`.
        first: Validations before the first decision, >= 1.
        factor: Ratio of the validations of two rungs, >= 2; not used by `median`.
    """

    kind: Literal["hyperband", "median"]
    first: int
    factor: int = 3


@dataclass(frozen=True)
class SweepPlan:
    """Hold the content of the file of a sweep.

    Attributes:
        method: How values are chosen.
        metric: Number of a validation that trials are ranked by.
        goal: Which end of it is better.
        target: The sweep ends when a trial reaches it; None: it never does.
        parameters: What is varied, in the order of the file.
        pruning: When a trial is stopped early; None: never.
        flags: Fixed flags of every training.
        run_cap: Number of trials that the file asks for.
    """

    method: str
    metric: str
    goal: Literal["maximize", "minimize"]
    target: float | None
    parameters: tuple[Parameter, ...]
    pruning: Pruning | None
    flags: tuple[str, ...] = ()
    run_cap: int | None = None

    def settings(self) -> dict[str, Any]:
        """Return what must be the same to go on with a sweep, as plain values."""
        content = asdict(self)
        content["parameters"] = {one["name"]: one for one in content["parameters"]}
        return {key: value for key, value in content.items() if key not in ("run_cap", "target")}

    def is_better(self, score: float, other: float) -> bool:
        """Return whether a score is better than another one."""
        return score > other if self.goal == "maximize" else score < other


def read_plan(path: Path, fixed: Sequence[str] = ()) -> SweepPlan:
    """Read the file of a sweep and try its values on the flags of a training.

    Args:
        path: YAML file in the format of wandb's sweeps.
        fixed: Flags of every training beside those in the `command` of the file.

    Raises:
        UsageError: The file, a parameter or a flag is wrong; one line.
    """
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    try:
        plan = _plan(content, fixed)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    check_flags(plan)
    return plan


def _plan(content: Any, fixed: Sequence[str]) -> SweepPlan:
    if not isinstance(content, Mapping):
        raise ValueError(f"expected a sweep with method, metric and parameters, got {type(content).__name__}")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise ValueError(f"unknown key {unknown[0]!r}.{nearest_name(unknown[0], KEYS)}")
    method, entries = content.get("method"), content.get("parameters")
    if method not in METHODS:
        raise ValueError(f"method: expected {', '.join(METHODS)}; got {method!r}")
    if not isinstance(entries, Mapping) or not entries:
        raise ValueError("parameters: expected at least one flag of train with its values")
    parameters = tuple(read_parameter(str(name), entry) for name, entry in entries.items())
    for parameter in parameters if method == "grid" else ():
        parameter.grid()
    metric, goal, target = _metric(content.get("metric", DEFAULT_METRIC))
    run_cap = content.get("run_cap")
    if run_cap is not None and (not isinstance(run_cap, int) or isinstance(run_cap, bool) or run_cap < 1):
        raise ValueError(f"run_cap: expected a whole number from 1, got {run_cap!r}")
    flags = (*_flags_of_command(content.get("command") or ()), *fixed)
    return SweepPlan(
        method, metric, goal, target, parameters, _pruning(content.get("early_terminate")), flags, run_cap
    )


def _metric(entry: Any) -> tuple[str, Literal["maximize", "minimize"], float | None]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("name"), str):
        raise ValueError(f"metric: expected a name and a goal, got {entry!r}")
    goal, target = entry.get("goal"), entry.get("target")
    if goal not in ("maximize", "minimize"):
        raise ValueError(f"metric.goal: expected maximize or minimize (wandb's default); got {goal!r}")
    if target is not None and (not isinstance(target, int | float) or not math.isfinite(target)):
        raise ValueError(f"metric.target: expected a number, got {target!r}")
    return entry["name"], goal, target


def _pruning(entry: Any) -> Pruning | None:
    """Read `early_terminate`; with `max_iter` wandb counts the rungs back from it, `s` of them."""
    if entry is None:
        return None
    if not isinstance(entry, Mapping) or entry.get("type") not in ("hyperband", "median"):
        raise ValueError(f"early_terminate: expected type hyperband (or median, here alone); got {entry!r}")
    taken = ("type", "min_iter", "max_iter", "eta", "s", "strict")
    unknown = [str(key) for key in entry if key not in taken]
    numbers = {key: entry[key] for key in ("min_iter", "max_iter", "eta", "s") if key in entry}
    wrong = [key for key, n in numbers.items() if not isinstance(n, int) or n < (2 if key == "eta" else 1)]
    if unknown or wrong:
        name = [*unknown, *wrong][0]
        raise ValueError(f"early_terminate.{name}: expected a whole number of one of {taken}")
    factor = numbers.get("eta", 3)
    if ("min_iter" in numbers) == ("max_iter" in numbers):
        raise ValueError("early_terminate: expected one of min_iter, and max_iter with s")
    first = numbers.get("min_iter") or numbers["max_iter"] // factor ** numbers.get("s", 1)
    return Pruning(entry["type"], max(1, first), factor)


def _flags_of_command(command: Any) -> tuple[str, ...]:
    """Return the fixed flags of wandb's `command`, which runs a program with them and with the parameters."""
    if not isinstance(command, list | tuple) or not all(isinstance(part, str) for part in command):
        raise ValueError(f"command: expected a list of texts, got {command!r}")
    macros = [part for part in command if part.startswith("${")]
    known = ("${env}", "${interpreter}", "${program}", "${args}", "${args_no_boolean_flags}")
    unknown = [macro for macro in macros if macro not in known]
    if unknown:
        raise ValueError(f"command: expected {', '.join(known)}; got {unknown[0]!r}")
    flags = [part for part in command if part not in macros]
    first = next((place for place, part in enumerate(flags) if part.startswith("--")), len(flags))
    return tuple(flags[first:])


def check_flags(plan: SweepPlan) -> None:
    """Try the ends and choices of every parameter on the flags of a training.

    Raises:
        UsageError: A flag or a value is wrong, or given twice; one line that names the nearest right one.
    """
    names = {flag.partition("=")[0].removeprefix("--") for flag in plan.flags}
    for parameter in plan.parameters:
        if parameter.name in names:
            raise UsageError(f"--{parameter.name} is a parameter of the sweep and given as a flag as well")
        for value in parameter.samples():
            try:
                config, _ = parse_arguments(
                    [*plan.flags, *_needed(plan, parameter.name), flag(parameter.name, value)]
                )
            except UsageError as error:
                raise UsageError(f"parameter {parameter.name}: {error}") from None
            _check_config(config)


def _needed(plan: SweepPlan, but: str) -> list[str]:
    """Return the flags of the other parameters that have choices: some settings are required."""
    return [flag(one.name, one.choices[0]) for one in plan.parameters if one.choices and one.name != but]


def _check_config(config: TrainConfig) -> None:
    for name, reason in REFUSED.items():
        if getattr(config, name):
            raise UsageError(f"--{name} does not go together with a sweep: {reason}")
    if config.default_root_dir != TrainConfig.model_fields["default_root_dir"].default:
        raise UsageError("--default_root_dir does not go together with a sweep: give --output")


def flag(name: str, value: Any) -> str:
    """Return a flag as wandb's agent passes it, `--name=value` with Python's way to write the value."""
    return f"--{name}={value}"
