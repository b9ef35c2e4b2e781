"""The whole evaluation of a classifier on points: numbers, predictions, distances of images, and the page."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keypoint_detection.files import write_json
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.distance import DistanceEstimate
from keypoint_detection.visibility.evaluate import evaluate_points
from keypoint_detection.visibility.evaluate_files import read_evaluation, write_evaluation
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.report import image_rows, write_report
from keypoint_detection.visibility.train_data import PointDataset

DISTANCES_FILE = "distances.json"
"""Of an evaluation: how far one can see in each image, and the truth where it is known."""

CLOSE = 0.15
"""Share of the true distance within which an estimate is good."""


def evaluate_to_folder(
    classifier: VisibilityClassifier,
    data: PointDataset,
    table: PointTable,
    folder: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    resampling: Resampling | None = None,
    has_page: bool = True,
) -> dict[str, Any]:
    """Judge points and write `predictions.csv`, `metrics.json`, `distances.json` and `report.html`.

    Args:
        classifier: On any device.
        data: The data set, for pyramid, images and truth.
        table: Those of its points that are judged.
        folder: Where to; made if need be.
        about: Plain values that are written beside the numbers.
        resampling: How the intervals are made.
        has_page: Also write the last two, which take the most time.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: The data set has other levels or channels than the classifier, or `table` no point.
    """
    logits = evaluate_points(classifier, table, data.pyramid)
    kept = {name: value for name, value in (about or {}).items() if value is not None}
    content = write_evaluation(folder, table, logits, resampling=resampling, about=kept)
    if not has_page:
        return content
    rows = image_rows(read_evaluation(folder), data.true_m)
    write_json(
        Path(folder) / DISTANCES_FILE, {row.name: distance_content(row.distance, row.true_m) for row in rows}
    )
    write_report(
        folder,
        images=data.images,
        rows=rows,
        title=f"Visibility: {Path(folder).resolve().parent.name}",
    )
    return content


def distance_content(found: DistanceEstimate | None, true_m: float = math.nan) -> dict[str, Any]:
    """Return an estimate as JSON has it: metres, None for what is unknown or without an end."""
    known = found if found is not None and math.isfinite(found.value_m) else None
    content: dict[str, Any] = {
        "visibility_m": known and known.value_m,
        "interval_m": known and [known.low_m, known.high_m if math.isfinite(known.high_m) else None],
        "kind": _kind(known),
    }
    return content if math.isnan(true_m) else {**content, "true_m": true_m}


def _kind(found: DistanceEstimate | None) -> str:
    """Return whether an estimate is a distance, or only an end of where it may be."""
    if found is None:
        return "unknown"
    return "at least" if found.is_open_above else "at most" if found.is_open_below else "estimate"


def read_distances(folder: str | Path) -> dict[str, dict[str, Any]]:
    """Return the content of `distances.json` of an evaluation."""
    return json.loads((Path(folder) / DISTANCES_FILE).read_text(encoding="utf-8"))


def share_of_close(distances: Mapping[str, Mapping[str, Any]], close: float = CLOSE) -> float:
    """Return the share of images whose estimate is within `close` of the truth; an open one is not.

    Returns:
        In [0, 1]; NaN where no truth is known.
    """
    known = [one for one in distances.values() if "true_m" in one]
    good = [
        one
        for one in known
        if one["kind"] == "estimate" and abs(one["visibility_m"] - one["true_m"]) <= close * one["true_m"]
    ]
    return len(good) / len(known) if known else math.nan


def scores_text(
    metrics: Mapping[str, Any],
    names: Sequence[str] = ("accuracy", "balanced_accuracy", "f1", "auroc", "loss", "ece"),
) -> str:
    """Return numbers of `metrics.json` with their intervals, a line each."""
    lines = []
    for name in names:
        value, ends = metrics["metrics"][name]["value"], metrics["metrics"][name]["interval"]
        interval = "" if ends is None else f"  ({ends[0]:.4f} to {ends[1]:.4f})"
        lines.append(f"{name:<18}" + ("-" if value is None else f"{value:.4f}{interval}"))
    return "\n".join([*lines, f"{metrics['points']} points of {metrics['images']} images"])


def close_text(distances: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how many estimates are close to the truth, in words; empty where no truth is known."""
    share, n = share_of_close(distances), sum("true_m" in one for one in distances.values())
    if math.isnan(share):
        return ""
    return (
        f"visibility distance within {100 * CLOSE:g} % of the truth in {round(share * n)} of {n} images "
        f"({100 * share:.0f} %)"
    )
