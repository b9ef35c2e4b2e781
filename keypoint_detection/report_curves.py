"""The curves of an evaluation: how errors are spread, PCK over its limit, precision over recall."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.precision_recall import Matches, average_precision_of_matches
from keypoint_detection.report_samples import Evaluated
from keypoint_detection.report_tables import ALL

ERROR_BINS = 40
SHOWN_SHARE = 0.99
"""The histogram reaches to where this share of the errors lies."""

PCK_TOP, PCK_STEPS = 0.5, 50
MOST_CURVE_POINTS = 200


def error_histogram(evaluated: Evaluated) -> dict[str, Any]:
    """Return how many errors of each channel lie between edges in pixels, how many beyond, how many missed.

    A bin holds its lower edge; all counts, "beyond" and "missed" add up to the labels that count.
    """
    pairs, channel = evaluated.pairs, evaluated.labels.channel
    there = ~np.isnan(pairs.distance)
    edges = error_edges(pairs.distance[there])
    counts = {
        name: np.histogram(pairs.distance[there & (channel == index)], edges)[0]
        for index, name in enumerate(evaluated.names)
    }
    inside = int(sum(count.sum() for count in counts.values()))
    return {
        "edges": edges.tolist(),
        "channels": {name: count.tolist() for name, count in counts.items()},
        "beyond": int(there.sum()) - inside,
        "missed": int(pairs.missed.sum()),
    }


def error_edges(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return edges in pixels from 0 to just above the 99th percentile, 20 to 41 round steps.

    Args:
        distances: Finite distances in pixels, any number of them.
    """
    reach = float(np.quantile(distances, SHOWN_SHARE)) if len(distances) else 0.0
    if reach <= 0:
        return np.linspace(0.0, 1.0, ERROR_BINS + 1)
    power = 10.0 ** math.floor(math.log10(reach / ERROR_BINS))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= reach / ERROR_BINS * (1 - 1e-9))
    bins = math.floor(reach / step * (1 + 1e-9)) + 1
    # A number such as 0.15 instead of 0.15000000000000002: it is read by people.
    return np.array([float(f"{index * step:.12g}") for index in range(bins + 1)])


def pck_curves(evaluated: Evaluated) -> dict[str, Any] | None:
    """Return the share of labels with an error below alpha lengths, over all and per channel.

    The alphas of the contract are among them. None where there are no labels to score by.
    """
    definition = evaluated.files.report["contract"].get("pck")
    if not definition or not evaluated.files.has_labels:
        return None
    asked = [float(alpha) for alpha in definition.get("alpha", [])]
    top = max([PCK_TOP, *asked])
    grid = [round(top * step / PCK_STEPS, 6) for step in range(PCK_STEPS + 1)]
    alphas = np.array(sorted({*grid, *asked}))
    labels, pairs = evaluated.labels, evaluated.pairs
    length = np.where(labels.length > 0, labels.length.astype(np.float64), np.nan)
    measured = pairs.counted & np.isfinite(length)
    chosen = {ALL: measured}
    chosen |= {name: measured & (labels.channel == index) for index, name in enumerate(evaluated.names)}
    curves = [
        {"channel": name, "values": _shares(pairs.distance[rows], length[rows], alphas)}
        for name, rows in chosen.items()
    ]
    return {"unit": definition.get("length", ""), "alphas": alphas.tolist(), "curves": curves}


def _shares(
    distance: NDArray[np.float64], length: NDArray[np.float64], alphas: NDArray[np.float64]
) -> list[float | None]:
    if not len(distance):
        return [None] * len(alphas)
    return [float(np.mean(distance < alpha * length)) for alpha in alphas]  # NaN, missed, is not below


def precision_recall_curves(evaluated: Evaluated) -> list[dict[str, Any]]:
    """Return the curve of every channel and threshold, with its average precision as in `metrics.json`."""
    statistic = evaluated.statistic("map")
    if not isinstance(statistic, AveragePrecisionStatistic):
        return []
    matches = Matches(*(getattr(statistic, name) for name in Matches._fields))
    table = average_precision_of_matches(matches, statistic.interpolation).tolist()
    n, c = matches.num_detections.shape
    channel = torch.arange(c).repeat(n).repeat_interleave(matches.num_detections.flatten()).numpy()
    scores, targets = matches.scores.numpy(), matches.num_targets.sum(0).tolist()
    curves = []
    for index, name in enumerate(statistic.channel_names):
        rows = channel == index
        for column, threshold in enumerate(statistic.threshold_names):
            area, kept = table[index][column], rows & ~matches.ignored[:, column].numpy()
            hits = matches.matched[:, column].numpy()
            recall, precision = precision_envelope(scores[kept], hits[kept], targets[index])
            curves.append(
                {
                    "channel": name,
                    "threshold": threshold.removeprefix("ap@"),
                    "ap": None if math.isnan(area) else area,
                    "recall": recall,
                    "precision": precision,
                }
            )
    return curves


def precision_envelope(
    scores: NDArray[np.float64], hits: NDArray[np.bool_], num_targets: int
) -> tuple[list[float], list[float]]:
    """Return the corners of the precision envelope over recall; the area below is the average precision.

    Plateaus of equal precision are one line each; of very many, neighbours are joined at their mean
    precision, which keeps the area.

    Args:
        scores: `[d]`, of detections of all images; equal ones enter together.
        hits: `[d]`, the true positives.
        num_targets: Labels to be found.

    Returns:
        Recall and precision, both in [0, 1], as many numbers each, at most `MOST_CURVE_POINTS`.
    """
    if not len(scores) or not num_targets:
        return [], []
    order = np.argsort(-scores, kind="stable")
    ends = np.append(np.diff(scores[order]) != 0, True)
    found = np.cumsum(hits[order])[ends]
    precision = np.maximum.accumulate((found / (np.flatnonzero(ends) + 1))[::-1])[::-1]
    gained = np.diff(found, prepend=0) / num_targets
    gained, precision = gained[gained > 0], precision[gained > 0]
    if not len(gained):
        return [], []
    level = np.append(0, np.cumsum(np.diff(precision) != 0))
    gained, precision = _joined(gained, precision, level)
    if 2 * len(gained) > MOST_CURVE_POINTS:
        way = np.cumsum(gained) / gained.sum() + (precision[0] - precision) / (precision[0] - precision[-1])
        place = (way / way[-1] * (MOST_CURVE_POINTS // 2 - 1)).astype(int)
        gained, precision = _joined(gained, precision, np.unique(place, return_inverse=True)[1])
    reached = np.cumsum(gained)
    recall = np.column_stack([np.append(0.0, reached[:-1]), reached])
    return recall.ravel().tolist(), np.repeat(precision, 2).tolist()


def _joined(
    gained: NDArray[np.float64], precision: NDArray[np.float64], level: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return plateaus with those of one level `[p]` joined: recall gained, and mean precision over it."""
    width = np.bincount(level, gained).astype(np.float64)
    return width, np.bincount(level, gained * precision) / width
