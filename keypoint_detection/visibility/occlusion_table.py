"""A comparison of ways to tell visibility, as a Markdown table, as plain values, and point by point."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.metrics.bootstrap import Interval
from keypoint_detection.visibility.occlusion_scores import LabelledPoints

LABELS, DETECTIONS = "labelled keypoints", "its own detections"
HEADINGS = ("way", "scored at", "seed", "points", "AUROC", "balanced accuracy", "AP", "training, s")


class Row(NamedTuple):
    """Hold one line of the table.

    Attributes:
        way: How visibility is told.
        scored_at: `LABELS` or `DETECTIONS`.
        n_points: Keypoints that are scored: labels, or labels that have a detection.
        auroc: With its interval over images.
        balanced_accuracy: Likewise.
        ap: Average precision of the detections; NaN at the labels.
        seed: Of the trainings.
        training_s: Seconds of the trainings behind it.
    """

    way: str
    scored_at: str
    n_points: int
    auroc: Interval
    balanced_accuracy: Interval
    ap: float = math.nan
    seed: int = 0
    training_s: float = 0.0


def table_text(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table; intervals stand behind their numbers."""
    lines = [f"| {' | '.join(HEADINGS)} |", "|" + "---|" * len(HEADINGS)]
    return "\n".join([*lines, *(f"| {' | '.join(_cells(row))} |" for row in rows)]) + "\n"


def _cells(row: Row) -> list[str]:
    scores = [
        f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in (row.auroc, row.balanced_accuracy)
    ]
    ap = "" if math.isnan(row.ap) else f"{row.ap:.3f}"
    return [row.way, row.scored_at, f"{row.seed}", f"{row.n_points}", *scores, ap, f"{row.training_s:.0f}"]


def row_content(row: Row) -> dict[str, Any]:
    """Return a row as JSON has it; None for what is undefined."""
    content = row._asdict()
    for name in ("auroc", "balanced_accuracy"):
        value, *interval = map(_known, content[name])
        content[name] = {"value": value, "interval": interval}
    return {**content, "ap": _known(row.ap)}


def _known(number: float) -> float | None:
    return number if math.isfinite(number) else None


def points_text(points: LabelledPoints, logits: Mapping[str, NDArray[np.float64]]) -> str:
    """Return a CSV table of the labelled points with the logits of every way, all digits kept."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "channel", "x", "y", "label", *(f"logit of {way}" for way in logits)])
    for row, (x, y) in enumerate(points.xy.tolist()):
        name = points.channel_names[points.channel[row]]
        told = [repr(float(column[row])) for column in logits.values()]
        writer.writerow([points.paths[points.image[row]].name, name, x, y, int(points.label[row]), *told])
    return text.getvalue()
