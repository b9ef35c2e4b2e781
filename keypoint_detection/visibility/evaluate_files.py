"""The files of an evaluation of points: `predictions.csv` and `metrics.json`."""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from keypoint_detection.files import atomic_write, write_json
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.metric_contract import HASH, with_hash
from keypoint_detection.metrics.binary_classification import (
    NUM_BINS,
    binary_scores,
    check_points,
    confusion_counts,
)
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals
from keypoint_detection.visibility.points import COLUMNS, PointTable, read_points

METRICS_FILE, PREDICTIONS_FILE = "metrics.json", "predictions.csv"
CLASSES = ("not visible", "visible")
"""The classes by their label; rows (label) and columns (prediction) of the confusion counts."""

EVALUATE_AGAIN = "evaluate again with keypoint-detection visibility eval"

TOLERANCE = 1e-9
"""A number of `metrics.json` and the same one computed again differ by rounding only."""


@dataclass(frozen=True)
class PointEvaluation:
    """Hold what a classifier said of labelled points.

    Attributes:
        name: The folder that was asked for.
        contract: The definitions of the numbers, and the hash of the points.
        table: The points.
        logits: float64 `[p]`.
    """

    name: str
    contract: Mapping[str, Any]
    table: PointTable
    logits: NDArray[np.float64]


def points_hash(table: PointTable) -> str:
    """Return hex digits that are equal for the same points, labels and views in any order.

    Depths do not count: no number depends on them.
    """
    images = sorted(np.unique(table.image).tolist(), key=table.image_names.__getitem__)
    place = np.zeros(len(table.image_names), np.int64)
    place[images] = np.arange(len(images))
    image, xy = place[table.image], table.xy + 0.0  # there is one zero only
    order = np.lexsort((table.label, xy[:, 1], xy[:, 0], image))
    heads = [(table.image_names[index], table.views[index]) for index in images]
    digest = hashlib.sha256(json.dumps(heads).encode("utf-8"))
    for column, kind in ((image, "<i8"), (xy, "<f8"), (table.label, "u1")):
        digest.update(column[order].astype(kind).tobytes())
    return digest.hexdigest()[:12]


def evaluation_contract(table: PointTable) -> dict[str, Any]:
    """Return every definition that the numbers depend on, with a short hash of it."""
    return with_hash(
        {
            "points": points_hash(table),
            "n_points": len(table),
            "n_images": len(np.unique(table.image)),
            "predicted_visible": "P(visible) > 1/2",
            "loss": "mean binary cross entropy of the logits, natural log",
            "balanced_accuracy": "mean over both classes of the share that is predicted right",
            "f1": "mean over both classes; f1_visible of the visible ones",
            "auroc": "equal logits count half",
            "ece": f"{NUM_BINS} bins of P(visible) of equal width; ece_equal_mass of equally many points",
        }
    )


def write_evaluation(
    folder: str | Path,
    table: PointTable,
    logits: NDArray[np.float64],
    *,
    resampling: Resampling | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `predictions.csv` and `metrics.json`, each atomically, the latter last.

    `metrics.json` holds the contract, every number with its interval and the confusion counts, over all
    points and for each view. A resample draws images: the points of one image are drawn together.

    Args:
        folder: Where to; made if need be.
        table: The points; images without points are left out.
        logits: `[p]`, finite.
        resampling: How the intervals are made.
        about: Plain values that are written beside the numbers, such as the checkpoint.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: There is no point, or not one finite logit for each.
    """
    folder, made = Path(folder), resampling or Resampling()
    logits, _ = check_points(logits, table.label)
    if not len(table):
        raise ValueError(f"{folder}: expected at least one labelled point to evaluate, got none")
    views = table.point_views
    content = {
        "contract": evaluation_contract(table),
        **_scores(table, logits, made),
        "intervals": {
            "unit": "image",
            "units": len(np.unique(table.image)),
            "resamples": made.n_resamples,
            "level": made.level,
            "method": made.method,
            "seed": made.seed,
        },
        "views": {
            view: _scores(table.select(views == view), logits[views == view], made)
            for view in dict.fromkeys(views.tolist())
        },
        "about": dict(about or {}),
    }
    _write_predictions(folder / PREDICTIONS_FILE, table, logits)
    write_json(folder / METRICS_FILE, content)
    return content


def _scores(table: PointTable, logits: NDArray[np.float64], made: Resampling) -> dict[str, Any]:
    intervals = binary_intervals(
        logits,
        table.label,
        table.image,
        level=made.level,
        n_resamples=made.n_resamples,
        method=made.method,
        seed=made.seed,
    )
    return {
        "points": len(table),
        "images": len(np.unique(table.image)),
        "metrics": {
            name: {
                "value": None if math.isnan(value) else value,
                "interval": [low, high] if math.isfinite(low) and math.isfinite(high) else None,
            }
            for name, (value, low, high) in intervals.items()
        },
        "confusion": {"classes": list(CLASSES), "counts": confusion_counts(logits, table.label).tolist()},
    }


def _write_predictions(path: Path, table: PointTable, logits: NDArray[np.float64]) -> None:
    """Write a row per point: the columns of the points, logit and p_visible; each number with all digits."""
    heads = list(zip(table.image_names, table.views, *table.image_hw.T.tolist(), strict=True))
    depths = ["" if math.isnan(depth) else depth for depth in table.depth_m.tolist()]
    ends = zip(table.label.tolist(), logits.tolist(), expit(logits).tolist(), strict=True)
    points = zip(table.image.tolist(), table.xy.tolist(), depths, ends, strict=True)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "logit", "p_visible"])
        writer.writerows([*heads[image], x, y, depth, *end] for image, (x, y), depth, end in points)


def read_evaluation(folder: str | Path) -> PointEvaluation:
    """Read the folder of an evaluation, and check that its two files belong together.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or the two are of two evaluations; one line.
    """
    path = Path(folder)
    for file in (path / METRICS_FILE, path / PREDICTIONS_FILE):
        if not file.is_file():
            raise FileNotFoundError(
                f"{path}: expected the {METRICS_FILE} and {PREDICTIONS_FILE} of an evaluation, found no"
                f" {file.name}; make them with keypoint-detection visibility eval"
            )
    contract, loss = _read_metrics(path / METRICS_FILE)
    table, logits = read_points(path / PREDICTIONS_FILE), _read_logits(path / PREDICTIONS_FILE)
    again = binary_scores(logits, table.label)["loss"]
    if contract["points"] != points_hash(table) or not math.isclose(loss, again, rel_tol=TOLERANCE):
        raise ValueError(
            f"{path}: {METRICS_FILE} and {PREDICTIONS_FILE} are of two evaluations: the points are"
            f" {contract['points']} with loss {loss:g} in one and {points_hash(table)} with {again:g} in the"
            f" other; {EVALUATE_AGAIN}"
        )
    return PointEvaluation(str(folder), contract, table, logits)


def _read_metrics(file: Path) -> tuple[Mapping[str, Any], float]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        contract, loss = content["contract"], float(content["metrics"]["loss"]["value"])
        if not isinstance(contract[HASH], str) or not isinstance(contract["points"], str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: expected the numbers of an evaluation of points and the contract that defines them, got"
            f" something else; {EVALUATE_AGAIN}"
        ) from None
    return contract, loss


def _read_logits(path: Path) -> NDArray[np.float64]:
    """Return the logits of the points of `predictions.csv`, whose other columns are checked already."""
    line = 1
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            logits = []
            for row in reader:
                line = reader.line_num
                logit = float(row["logit"])
                if not math.isfinite(logit):
                    raise ValueError
                logits.append(logit)
    except (KeyError, ValueError):
        raise ValueError(
            f"{path}, line {line}: expected the finite logit of a point, got none; {EVALUATE_AGAIN}"
        ) from None
    return np.array(logits, dtype=np.float64)
