"""The tables of an evaluation as CSV: a row per keypoint channel, and a row per sample."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.files import atomic_write
from keypoint_detection.report_samples import Evaluated

PER_KEYPOINT_FILE, PER_IMAGE_FILE = "per_keypoint.csv", "per_image.csv"

ALL = "all"


def write_tables(evaluated: Evaluated, folder: Path) -> None:
    """Write `per_keypoint.csv` and `per_image.csv` into a folder; an empty cell is undefined."""
    _write_csv(folder / PER_KEYPOINT_FILE, _keypoint_rows(evaluated))
    _write_csv(folder / PER_IMAGE_FILE, _sample_rows(evaluated))


def _write_csv(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def _keypoint_rows(evaluated: Evaluated) -> list[list[Any]]:
    """Return the header, a row for all channels and one per channel: value, low and high of every metric."""
    metrics = evaluated.files.report["metrics"]
    header = ["channel", *(f"{name}{end}" for name in metrics for end in ("", "_low", "_high"))]
    rows: list[list[Any]] = [header, [ALL]]
    for metric in metrics.values():
        rows[1] += [metric["value"], *(metric.get("interval") or (None, None))]
    for channel in evaluated.names:
        row: list[Any] = [channel]
        for metric in metrics.values():
            interval = metric.get("per_channel_interval", {}).get(channel)
            row += [metric.get("per_channel", {}).get(channel), *(interval or (None, None))]
        rows.append(row)
    return rows


def _sample_rows(evaluated: Evaluated) -> list[list[Any]]:
    """Return the header and a row per sample: an image, or in instance mode a crop of one."""
    table, crops, groups = evaluated.table, evaluated.crops, evaluated.groups()
    header = ["image_id", "file_name", *(["annotation_id"] if crops else []), *(["group"] if groups else [])]
    header += ["labels", "detections", "mean_error_px", "max_error_px", "missed"]
    rows: list[list[Any]] = [[*header, *(f"{name}/mean_error_px" for name in evaluated.names)]]
    numbers = _sample_numbers(evaluated)
    for sample, row in enumerate(evaluated.row.tolist()):
        image_id = int(table.image_ids[row])
        cells: list[Any] = [image_id, table.file_names[row]]
        if crops:
            cells.append(int(table.instance_ids[crops.instance[sample]]))
        if groups:
            cells.append(groups[image_id])
        rows.append([*cells, *numbers[sample]])
    return rows


def _sample_numbers(evaluated: Evaluated) -> list[list[Any]]:
    """Return for every sample: labels, detections, mean and greatest error, missed, error per channel."""
    labels, pairs = evaluated.labels, evaluated.pairs
    q, c = len(evaluated.row), len(evaluated.channels)
    detections = np.bincount(evaluated.detections.sample, minlength=q).tolist()
    if not evaluated.files.has_labels:
        return [[None, count, None, None, None, *[None] * c] for count in detections]
    has_error = ~np.isnan(pairs.distance)
    distance, group = pairs.distance[has_error], (labels.sample * c + labels.channel)[has_error]
    total = np.bincount(group, distance, q * c).reshape(q, c)
    count = np.bincount(group, minlength=q * c).reshape(q, c)
    greatest = np.full(q, np.nan)
    np.fmax.at(greatest, labels.sample[has_error], distance)
    with np.errstate(invalid="ignore"):
        mean, per_channel = total.sum(1) / count.sum(1), total / count
    counted = np.bincount(labels.sample, pairs.counted, q).astype(int).tolist()
    missed = np.bincount(labels.sample, pairs.missed, q).astype(int).tolist()
    columns = zip(counted, detections, mean, greatest, missed, per_channel.tolist(), strict=True)
    return [[a, b, _cell(m), _cell(g), lost, *map(_cell, each)] for a, b, m, g, lost, each in columns]


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
