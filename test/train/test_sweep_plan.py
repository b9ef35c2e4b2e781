from pathlib import Path
from typing import Any

import pytest
import yaml

from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.sweep_plan import Pruning, SweepPlan, read_plan

ROOT = Path(__file__).parents[2]
FIXED = ["--json_dataset_path", "train.json"]


def plan_of(tmp_path: Path, fixed: list[str] | None = None, **changes: Any) -> SweepPlan:
    content = {
        "method": "random",
        "metric": {"name": "checkpoint/validation_map", "goal": "maximize"},
        "parameters": {"learning_rate": {"min": 0.001, "max": 0.1}},
    }
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**content, **changes}.items() if v is not None}))
    return read_plan(path, FIXED if fixed is None else fixed)


def test_the_file_in_scripts_is_a_sweep_with_every_kind_of_value() -> None:
    plan = read_plan(ROOT / "scripts/sweep.yaml", FIXED)
    assert (plan.method, plan.metric, plan.goal) == ("bayes", "checkpoint/validation_map", "maximize")
    assert plan.pruning == Pruning("hyperband", 3, 3)
    kinds = {parameter.name: parameter.kind for parameter in plan.parameters}
    assert {"constant", "categorical", "int", "float", "log", "step"} <= set(kinds.values())
    values = [value for parameter in plan.parameters for value in parameter.samples()]
    assert {list, bool, float, int, str} <= {type(value) for value in values}


def test_fixed_flags_come_from_the_command_and_the_call(tmp_path: Path) -> None:
    command = [
        "${env}",
        "${interpreter}",
        "-m",
        "keypoint_detection",
        "train",
        "--batch_size",
        "2",
        "${args}",
    ]
    plan = plan_of(tmp_path, command=command)
    assert plan.flags == ("--batch_size", "2", *FIXED)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "hyperband", "min_iter": 2}, Pruning("hyperband", 2, 3)),
        ({"type": "hyperband", "min_iter": 2, "eta": 4}, Pruning("hyperband", 2, 4)),
        ({"type": "hyperband", "max_iter": 27, "s": 2}, Pruning("hyperband", 3, 3)),
        ({"type": "median", "min_iter": 5}, Pruning("median", 5, 3)),
    ],
)
def test_early_termination(entry: dict, expected: Pruning, tmp_path: Path) -> None:
    assert plan_of(tmp_path, early_terminate=entry).pruning == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "bayesian"}, "method: expected grid, random, bayes; got 'bayesian'"),
        ({"parameters": {}}, "parameters: expected at least one flag"),
        ({"paramters": {}}, "unknown key 'paramters'. Did you mean 'parameters'"),
        ({"metric": {"name": "x"}}, "metric.goal: expected maximize or minimize"),
        ({"metric": "x"}, "metric: expected a name and a goal"),
        ({"metric": {"name": "x", "goal": "maximize", "target": "high"}}, "metric.target: expected a number"),
        ({"early_terminate": {"type": "envelope"}}, "early_terminate: expected type hyperband"),
        ({"early_terminate": {"type": "hyperband"}}, "expected one of min_iter, and max_iter"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, "early_terminate.min_iter"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "bands": 1}}, "early_terminate.bands"),
        ({"run_cap": 0}, "run_cap: expected a whole number from 1"),
        ({"run_cap": True}, "run_cap: expected a whole number from 1, got True"),
        ({"command": 3}, "command: expected a list of texts, got 3"),
        ({"command": ["${args_json}"]}, "command: expected .*; got '\\$\\{args_json\\}'"),
        ({"method": "grid"}, "parameters.learning_rate: method grid needs values"),
        ({"parameters": {"learning_rat": {"value": 1}}}, "learning_rat.*Did you mean 'learning_rate'"),
        ({"parameters": {"batch_size": {"values": [4, "many"]}}}, "parameter batch_size: .*got 'many'"),
        ({"parameters": {"learning_rate": {"min": -0.1, "max": 0.1}}}, "learning_rate: .*got '-0.1'"),
        ({"parameters": {"run_name": {"value": "a"}}}, "--run_name does not go together with a sweep"),
        ({"parameters": {"json_dataset_path": {"value": "a"}}}, "given as a flag as well"),
        ({"parameters": {"n_channels": {"values": ["a"]}}}, "n_channels: expected int; got 'a'"),
    ],
)
def test_a_wrong_file_is_one_line_before_the_first_trial(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        plan_of(tmp_path, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fixed", "message"),
    [
        ([], "--json_dataset_path is required"),
        ([*FIXED, "--default_root_dir", "runs2"], "--default_root_dir .*give --output"),
        ([*FIXED, "--ckpt_path", "a.ckpt"], "--ckpt_path does not go together"),
        ([*FIXED, "--learning_rate", "0.1"], "--learning_rate is a parameter of the sweep and given"),
        ([*FIXED, "--batchsize", "4"], "unknown argument --batchsize. Did you mean 'batch_size'"),
    ],
)
def test_wrong_fixed_flags_are_one_line(fixed: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        plan_of(tmp_path, fixed)


@pytest.mark.parametrize("content", ["a: [1\n", "- a\n"])
def test_what_is_no_sweep_is_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(content)
    with pytest.raises(UsageError, match=r"s\.yaml"):
        read_plan(tmp_path / "s.yaml", FIXED)
    with pytest.raises(UsageError, match="no such file"):
        read_plan(tmp_path / "none.yaml", FIXED)


def test_a_required_flag_may_be_a_parameter(tmp_path: Path) -> None:
    parameters = {"json_dataset_path": {"values": ["a.json", "b.json"]}, "batch_size": {"value": 2}}
    assert len(plan_of(tmp_path, fixed=[], parameters=parameters).parameters) == 2
