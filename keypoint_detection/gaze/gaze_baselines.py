"""What somebody scores who does not look at the picture: by chance, and always at its usual place."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.gaze.evaluate_scores import POINT_SCORES, counts, point_scores
from keypoint_detection.gaze.people import GazeTable

CHANCE, CENTRE_BIAS = "chance", "centre bias"

_GRID = 20
_MAP = 256
_AT_ONCE = 64
_UNTOLD_STD = 0.25
_LEAST_STD = 0.05


class CentreBias(NamedTuple):
    """Hold a Gaussian in shares of width and height, x before y.

    Attributes:
        mean: Middle of it.
        std: Standard deviation along x and y.
    """

    mean: tuple[float, float]
    std: tuple[float, float]


def centre_bias_of(training: GazeTable | None) -> CentreBias:
    """Return where people of a training look on average; the middle of the picture without any.

    Every person counts once, with the mean of its annotators.
    """
    if training is None or not counts(training).any():
        return CentreBias((0.5, 0.5), (_UNTOLD_STD, _UNTOLD_STD))
    inside = training.select(counts(training))
    points = (np.nanmean(inside.gaze_xy, axis=1) + 0.5) / inside.person_hw[:, ::-1]
    mean, std = points.mean(0), np.maximum(points.std(0), _LEAST_STD)
    return CentreBias((float(mean[0]), float(mean[1])), (float(std[0]), float(std[1])))


def chance_scores(table: GazeTable) -> dict[str, NDArray[np.float64]]:
    """Return what a point anywhere in the picture scores on average, and a map of noise, by person `[p]`.

    The point is averaged over the middles of 20x20 cells, so that no draw decides; a random order of the
    pixels has an area of 1/2.
    """
    place = (np.arange(_GRID) + 0.5) / _GRID
    grid = np.stack(np.meshgrid(place, place), axis=-1).reshape(-1, 2)
    found = {name: np.full(len(table), np.nan) for name in POINT_SCORES}
    for rows in _parts(np.flatnonzero(counts(table))):
        repeated = table.select(np.repeat(rows, len(grid)))
        points: NDArray[np.float64] = np.tile(grid, (len(rows), 1)) * repeated.person_hw[:, ::-1] - 0.5
        for name, values in point_scores(repeated, points).items():
            found[name][rows] = values.reshape(len(rows), -1).mean(1)
    return {"auc": np.where(counts(table), 0.5, np.nan), **found}


def centre_scores(table: GazeTable, bias: CentreBias) -> dict[str, NDArray[np.float64]]:
    """Return what the same Gaussian for everybody scores, by person `[p]`; its middle is the point.

    The area counts 256x256 cells instead of the pixels of each picture: the Gaussian is stretched with it.
    """
    mean, std = np.array(bias.mean), np.array(bias.std)
    place = (np.arange(_MAP) + 0.5) / _MAP
    across, down = (np.square((place - mean[axis]) / std[axis]) for axis in (0, 1))
    cells = np.sort((down[:, None] + across).ravel())
    size = table.person_hw[:, None, ::-1]
    off = np.square(((table.gaze_xy + 0.5) / size - mean) / std).sum(-1)
    nearer, up_to = (np.searchsorted(cells, np.nan_to_num(off), side) for side in ("left", "right"))
    lower = np.where(np.isfinite(off), 1 - (nearer + up_to) / (2 * len(cells)), 0.0).sum(1)
    auc = np.where(counts(table), lower / np.maximum(table.n_annotators, 1), np.nan)
    points: NDArray[np.float64] = np.asarray(mean * table.person_hw[:, ::-1] - 0.5, np.float64)
    return {"auc": auc, **point_scores(table, points)}


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [rows[first : first + _AT_ONCE] for first in range(0, len(rows), _AT_ONCE)]
