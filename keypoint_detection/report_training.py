"""The curves of a training from the `metrics.csv` of its run."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUN_METRICS_FILE = "metrics.csv"

# Title, whether its axis is logarithmic, and the columns: exact names, or with * all that start so.
CHARTS: tuple[tuple[str, bool, tuple[str, ...]], ...] = (
    ("loss", True, ("train/loss_epoch", "train/loss", "validation/loss", "validation/gt_loss")),
    ("average precision", False, ("validation/map", "validation/ap@*")),
    ("error (px)", False, ("validation/mean_error_px", "validation/rmse_px")),
    ("PCK", False, ("validation/pck@*",)),
    ("missed", False, ("validation/missed",)),
    ("learning rate", True, ("lr-*", "learning_rate")),
)


def training_curves(run_folder: Path | None) -> list[dict[str, Any]]:
    """Return the charts of a training over its epochs; none without a run or without its numbers.

    The parts of a run that was resumed are one curve. An epoch that is there twice counts by its last line.
    """
    series: dict[str, dict[int, float]] = {}
    for path in [] if run_folder is None else _parts_of_run(run_folder):
        for name, points in _read_series(path).items():
            series.setdefault(name, {}).update(points)
    series = {name: dict(sorted(points.items())) for name, points in series.items()}
    charts = []
    for title, log, patterns in CHARTS:
        lines = [
            {"name": _series_name(name), "x": list(points), "y": list(points.values())}
            for name in _matching(series, patterns)
            if (points := series[name])
        ]
        if lines:
            charts.append({"title": title, "log": log, "series": lines})
    return charts


def _parts_of_run(run_folder: Path) -> list[Path]:
    """Return the files of numbers, oldest first: a resumed run renames what is there to `metrics-1.csv`."""
    last = run_folder / RUN_METRICS_FILE
    earlier = {
        int(found[1]): path
        for path in run_folder.glob(f"{last.stem}-*{last.suffix}")
        if (found := re.fullmatch(rf"{last.stem}-(\d+)", path.stem))
    }
    return [*(earlier[number] for number in sorted(earlier)), last]


def _read_series(path: Path) -> dict[str, dict[int, float]]:
    """Return the finite numbers of every column by epoch; nothing of a file that is missing or no table."""
    if not path.is_file():
        return {}
    series: dict[str, dict[int, float]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        for line in csv.DictReader(file):
            epoch = _number(line.get("epoch"))
            if epoch is None:
                continue
            for name, text in line.items():
                value = _number(text)
                if name and value is not None:
                    series.setdefault(name, {})[int(epoch)] = value
    return series


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _matching(series: Mapping[str, Any], patterns: Sequence[str]) -> list[str]:
    names = []
    for pattern in patterns:
        start = pattern.removesuffix("*")
        names += [name for name in series if name == start or (pattern != start and name.startswith(start))]
    return names


def _series_name(column: str) -> str:
    """Return `train` for `train/loss_epoch`, `validation map` for `validation/map`."""
    return {
        "train/loss_epoch": "train",
        "train/loss": "train",
        "validation/loss": "validation",
        "validation/gt_loss": "least possible (entropy of the targets)",
    }.get(column, column.removeprefix("validation/"))
