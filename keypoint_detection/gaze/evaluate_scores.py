"""The numbers of an evaluation of gaze: of each person, and over all with intervals."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.gaze.evaluate import PeopleJudged
from keypoint_detection.gaze.people import INSIDE, OUTSIDE, GazeTable
from keypoint_detection.metrics.bootstrap import bootstrap_statistics
from keypoint_detection.metrics.gaze_angle import gaze_angles
from keypoint_detection.metrics.gaze_distance import gaze_distances
from keypoint_detection.metrics.gaze_in_frame import InFrameStatistic, why_undefined
from keypoint_detection.metrics.image_statistics import RatioStatistic

POINT_SCORES = ("min_distance", "avg_distance", "min_angle_deg", "avg_angle_deg")
"""Of a single point."""

SAMPLE_SCORES = ("best_mode_distance", "sample_distance", "sample_spread")
"""Of several maps."""

IN_OUT_AP = "in_out_ap"
SCORES = ("auc", *POINT_SCORES, IN_OUT_AP, *SAMPLE_SCORES)
"""All numbers, in the order in which they are written."""

Columns = Mapping[str, NDArray[np.float64]]


def eyes(table: GazeTable) -> NDArray[np.float64]:
    """Return where each gaze begins, `[p, 2]`: the eye, or the centre of the head where it is not given."""
    centre = table.head_box.reshape(-1, 2, 2).mean(1)
    return np.where(np.isfinite(table.eye_xy), table.eye_xy, centre)


def person_scores(table: GazeTable, judged: PeopleJudged) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of each person by name, float64 `[p]`; NaN for people who do not count."""
    return {
        "auc": judged.auc,
        **point_scores(table, judged.point_xy),
        "best_mode_distance": _distance_of_best(table, [one.modes_xy for one in judged.predictions]),
        "sample_distance": _mean_distance(table, [one.samples_xy for one in judged.predictions]),
        "sample_spread": _spread(table, judged),
    }


def _spread(table: GazeTable, judged: PeopleJudged) -> NDArray[np.float64]:
    """Return how far the maps of each person are apart, `[p]`; one map is not apart from anything."""
    spread = np.array([one.spread for one in judged.predictions])
    return np.where(counts(table) & (judged.samples > 1), spread, np.nan)


def point_scores(table: GazeTable, point_xy: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return distances and angles of one point `[p, 2]` for each person, by the names of `POINT_SCORES`."""
    point, gaze, size, in_frame = _tensors(table, point_xy)
    distance = gaze_distances(point, gaze, size, in_frame)
    angle = gaze_angles(point, gaze, torch.from_numpy(eyes(table)), in_frame)
    both = torch.cat([distance, angle], dim=1).T.numpy()
    return dict(zip(POINT_SCORES, both, strict=True))


def counts(table: GazeTable) -> NDArray[np.bool_]:
    """Return who counts for everything but in/out: inside, and it is known where; `[p]`."""
    return (table.in_frame == INSIDE) & (table.n_annotators > 0)


def _distance_of_best(table: GazeTable, points: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the least distance of any of a person's points to any annotator, `[p]`."""
    return np.array([part.min() for part in _distances(table, points)])


def _mean_distance(table: GazeTable, points: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean over a person's points of the distance to the nearest annotator, `[p]`."""
    return np.array([part.mean() for part in _distances(table, points)])


def _distances(table: GazeTable, points: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Return the distance of each of a person's points to the nearest annotator; NaN who does not count."""
    lengths = [len(part) for part in points]
    rows = np.repeat(np.arange(len(table)), lengths)
    point, gaze, size, in_frame = _tensors(table, np.concatenate(points), rows)
    nearest = gaze_distances(point, gaze, size, in_frame)[:, 0].numpy()
    return np.split(nearest, np.cumsum(lengths)[:-1])


def _tensors(
    table: GazeTable, point_xy: NDArray[np.float64], rows: NDArray[np.int64] | None = None
) -> tuple[torch.Tensor, ...]:
    """Return points, annotators, sizes of pictures and in/out of people, for the metrics."""
    rows = np.arange(len(table)) if rows is None else rows
    columns = (point_xy, table.gaze_xy[rows], table.person_hw[rows], table.in_frame[rows])
    return tuple(torch.from_numpy(np.ascontiguousarray(column)) for column in columns)


def scores_with_intervals(
    table: GazeTable,
    columns: Columns,
    p_in: NDArray[np.float64],
    resampling: Resampling,
    *,
    by_group: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return the mean of each number over the people that count, and the AP of in/out, with intervals.

    People are drawn in the order of their names, so that their order in the table changes no bit.

    Args:
        table: The people.
        columns: By name, of each person, `[p]`; NaN for who does not count.
        p_in: Higher says inside, `[p]`.
        resampling: How the intervals are made.
        by_group: Draw whole groups (clips, or images) instead of people.

    Returns:
        By name in the order of `SCORES`: `value`, `interval`, and `reason` where there is no value.
    """
    order = np.array(sorted(range(len(table)), key=table.person.__getitem__))
    values = torch.from_numpy(np.stack([column[order] for column in columns.values()], axis=1))
    means = RatioStatistic(tuple(columns), values.nan_to_num(0.0), (~values.isnan()).double())
    label = torch.from_numpy(table.in_frame[order])
    intervals = bootstrap_statistics(
        [means, InFrameStatistic(torch.from_numpy(p_in[order]).double(), label)],
        n_images=len(table),
        groups=[table.group[row] for row in order] if by_group else None,
        n_resamples=resampling.n_resamples,
        level=resampling.level,
        method=resampling.method,
        seed=resampling.seed,
    )
    reasons = _reasons(table)
    return {
        name: _number(*intervals[name], reasons.get(name, reasons["points"]))
        for name in SCORES
        if name in intervals
    }


def _reasons(table: GazeTable) -> dict[str, str]:
    inside, outside = (int((table.in_frame == kind).sum()) for kind in (INSIDE, OUTSIDE))
    n_counted = int(counts(table).sum())
    needed = f"needs people who look into the picture at a known place, got {n_counted} of {len(table)}"
    return {
        IN_OUT_AP: (why_undefined(inside, outside) or "not defined").removeprefix("in/out AP "),
        "sample_spread": "needs several maps of each person, got one" if n_counted else needed,
        "points": needed if not n_counted else "not defined for pictures of these people",
    }


def _number(value: float, low: float, high: float, reason: str) -> dict[str, Any]:
    is_known = math.isfinite(value)
    has_ends = math.isfinite(low) and math.isfinite(high)
    number: dict[str, Any] = {
        "value": value if is_known else None,
        "interval": [low, high] if has_ends else None,
    }
    return number if is_known else {**number, "reason": reason}
