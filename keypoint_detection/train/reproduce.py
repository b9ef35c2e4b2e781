"""Repeat a run from its record, and say whether the new numbers lie inside the intervals of the old ones."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from keypoint_detection.command_flags import torch_device
from keypoint_detection.data.coco_parser import read_coco, write_coco
from keypoint_detection.dataset_files import relocated
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.files import write_json
from keypoint_detection.metric_contract import differences
from keypoint_detection.split_dataset import part_of
from keypoint_detection.train.cli import make_config
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.data_fingerprint import DATA_FIELDS, data_fingerprint, file_sha256
from keypoint_detection.train.run_record import environment, read_record
from keypoint_detection.train.train import train
from keypoint_detection.train.utils import build_data_module
from keypoint_detection.utils.load_checkpoints import read_checkpoint

VALIDATION_FILE, REPORT_FILE = "validation_images.json", "reproduction.json"
OLD_SCORES, NEW_SCORES = "eval_of_the_old_run", "eval"

SAME = 1e-9
"""Relative; numbers that differ by less differ by the order of sums only."""


@dataclass(frozen=True)
class Row:
    """Hold one number of both runs; None where it is undefined.

    Attributes:
        metric: Its name.
        old: Of the run that was repeated.
        interval: Of the old one; None where there is none.
        new: Of the repetition.
    """

    metric: str
    old: float | None
    interval: tuple[float, float] | None
    new: float | None

    @property
    def difference(self) -> float | None:
        """Return new minus old."""
        return None if self.old is None or self.new is None else self.new - self.old

    @property
    def is_inside(self) -> bool:
        """Return whether the new number lies inside the interval of the old one, or is the same."""
        if self.old is None or self.new is None:
            return self.old is self.new
        low, high = self.interval or (self.old, self.old)
        room = SAME * max(1.0, abs(self.old))
        return low - room <= self.new <= high + room


@dataclass(frozen=True)
class Reproduction:
    """Hold what came out of a repetition.

    Attributes:
        folder: Of the new run.
        identical: The weights are the same, bit by bit.
        rows: The numbers.
        notes: What differs in data and environment, and what was done otherwise.
    """

    folder: Path
    identical: bool
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def succeeded(self) -> bool:
        """Return whether every number lies inside the interval of the old one."""
        return self.identical or all(row.is_inside for row in self.rows)


@dataclass(frozen=True)
class ReproductionPlan:
    """Hold what a repetition does: its configuration, and what is to be said before it starts."""

    old: Path
    config: TrainConfig
    notes: tuple[str, ...]


def plan_reproduction(
    run: str | Path, output: str | Path, replaced: Mapping[str, Any] | None = None, *, force: bool = False
) -> ReproductionPlan:
    """Read the record of a run and compare data and environment with those of today.

    Args:
        run: Folder of the run.
        output: Folder of the new run; must not hold one.
        replaced: Settings that say where and how fast it runs, by name, such as another place of the data.
        force: Go on where the data are not the same.

    Raises:
        FileNotFoundError: The record, a checkpoint or a file of the data is missing.
        ValueError: The run has not finished, or the data have changed; one line.
    """
    old, output = Path(run), Path(output)
    record = read_record(old)
    if not record["ended"]:
        raise ValueError(f"{old}: expected a finished run, its record has no end; resume it with --ckpt_path")
    read_checkpoint(old / "checkpoints" / "last.ckpt")
    config, notes = _config(record, output, dict(replaced or {}))
    changes = [*_data_changes(record["data"], config), *_start_changes(record)]
    if changes and not force:
        raise ValueError(f"{old}: {'; '.join(changes)}; --force repeats the run all the same")
    apart = differences(record["environment"], json.loads(json.dumps(environment())))
    notes += [f"{name}: {_short(then)} then, {_short(now)} now" for name, then, now in apart]
    return ReproductionPlan(old, config, (*changes, *notes))


def reproduce(plan: ReproductionPlan, *, n_resamples: int = 1000, level: float = 0.95) -> Reproduction:
    """Train again, score the last weights of both runs on the validation images, and compare.

    Args:
        plan: Of `plan_reproduction`.
        n_resamples: Resamples behind the intervals.
        level: Coverage of the intervals.
    """
    folder = train(plan.config).run_dir
    options = EvalOptions(
        n_resamples=n_resamples,
        level=level,
        batch_size=plan.config.batch_size,
        device=torch_device(plan.config.accelerator),
        report=False,
    )
    labels = write_validation_images(plan.config, folder)
    checkpoints = [run / "checkpoints" / "last.ckpt" for run in (plan.old, folder)]
    outputs = [folder / OLD_SCORES, folder / NEW_SCORES]
    for checkpoint, output in zip(checkpoints, outputs, strict=True):
        evaluate(checkpoint, labels, output, options)
    old, new = (json.loads((output / "metrics.json").read_text())["metrics"] for output in outputs)
    found = Reproduction(folder, same_weights(*checkpoints), compare_metrics(old, new), plan.notes)
    write_json(folder / REPORT_FILE, _report(plan, found))
    return found


def compare_metrics(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Row, ...]:
    """Return the numbers of two `metrics.json`, those that are undefined in both left out."""
    rows = []
    for name, metric in old.items():
        interval = metric["interval"]
        ends = None if interval is None else (interval[0], interval[1])
        rows.append(Row(name, metric["value"], ends, new.get(name, {}).get("value")))
    return tuple(row for row in rows if row.old is not None or row.new is not None)


def same_weights(one: Path, other: Path) -> bool:
    """Return whether two checkpoints hold the same weights, bit by bit."""
    first, second = (read_checkpoint(path)["state_dict"] for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def write_validation_images(config: TrainConfig, folder: Path) -> Path:
    """Write a COCO file of the images that a run is validated on, and return its path."""
    dataset = build_data_module(config).validation_dataset
    if dataset is None:
        raise ValueError("expected validation images to compare the runs on, got none")
    source = Path(dataset.table.json_path)
    part = part_of(read_coco(source), dataset.image_ids)
    part.images = relocated(part.images, source.parent, folder)
    write_coco(part, folder / VALIDATION_FILE)
    return folder / VALIDATION_FILE


def reproduction_text(found: Reproduction, level: float = 0.95) -> str:
    """Return the table of a repetition and its verdict."""
    heading = f"{level:.0%} interval"
    lines = [f"{'metric':<20}{'old':>10}  {heading:<22}{'new':>10}{'new - old':>12}  inside"]
    for row in found.rows:
        interval = (
            "-" if row.interval is None else f"[{_number(row.interval[0])}, {_number(row.interval[1])}]"
        )
        lines.append(
            f"{row.metric:<20}{_number(row.old):>10}  {interval:<22}{_number(row.new):>10}"
            f"{_number(row.difference):>12}  {'yes' if row.is_inside else 'NO'}"
        )
    outside = [row.metric for row in found.rows if not row.is_inside]
    if found.identical:
        lines.append("reproduced: the weights are identical, bit by bit")
    elif outside:
        lines.append(f"not reproduced: outside of the interval of the old run: {', '.join(outside)}")
    else:
        lines.append("reproduced: other weights, every number inside the interval of the old run")
    return "\n".join(lines)


def _config(
    record: Mapping[str, Any], output: Path, replaced: dict[str, Any]
) -> tuple[TrainConfig, list[str]]:
    """Return the configuration of the new run, and what differs from the old one."""
    old, notes = TrainConfig(**record["config"]), []
    values: dict[str, Any] = {
        **record["config"],
        "ckpt_path": None,  # of the last part, if the run was resumed; the first part may have its own
        **{name: entry["path"] for name, entry in record["started_from"].items()},
        **_data_paths(record),
        "default_root_dir": str(output.parent),
        "run_name": output.name,
        "wandb_name": f"{old.wandb_name}-reproduced" if old.wandb_name else None,
        **replaced,
    }
    if len(record["parts"]) > 1:
        notes.append(f"the old run was resumed {len(record['parts']) - 1} times; this one goes through")
    if old.max_time:
        values |= {"max_time": None, "trainer": {**old.trainer, "max_steps": record["steps"]}}
        notes.append(
            f"a time limit is never the same twice: {record['steps']} steps instead of --max_time"
            f" {old.max_time}, with a learning rate that falls over the steps"
        )
    return make_config(values), notes


def _data_paths(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the place of each file of the data: as the flags have it, from the folder of the old run."""
    start, config = Path(record["parts"][-1]["folder"]), record["config"]
    places = {name: start / config[name] for name in DATA_FIELDS if config.get(name)}
    return {name: str(place if place.exists() else config[name]) for name, place in places.items()}


def _data_changes(then: Mapping[str, Any], config: TrainConfig) -> list[str]:
    """Return a line per COCO file or set of images that is not what it was."""
    now = data_fingerprint(config)
    changes = []
    for name, entry in then.items():
        other = now.get(name, {})
        for key, meaning in {"sha256": "the COCO file", "image_files": "an image of the COCO file"}.items():
            if entry[key] != other.get(key):
                changes.append(f"{meaning} {other.get('path')} has changed since the run")
                break
    return changes


def _start_changes(record: Mapping[str, Any]) -> list[str]:
    """Return a line per file of weights that the run started from and that is not what it was."""
    changes = []
    for entry in record["started_from"].values():
        path = Path(entry["path"])
        if not path.is_file() or file_sha256(path) != entry["sha256"]:
            changes.append(f"the weights {path} have changed since the run")
    return changes


def _report(plan: ReproductionPlan, found: Reproduction) -> dict[str, Any]:
    return {
        "old": str(plan.old.absolute()),
        "identical": found.identical,
        "reproduced": found.succeeded,
        "notes": list(found.notes),
        "metrics": {
            row.metric: {
                "old": row.old,
                "interval": row.interval,
                "new": row.new,
                "inside": row.is_inside,
            }
            for row in found.rows
        },
    }


def _number(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.4g}"


def _short(value: Any) -> str:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    text = ", ".join(map(str, value)) if several else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
