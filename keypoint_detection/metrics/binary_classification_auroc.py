"""The area under the ROC curve for any weighting of units of points, with exact ties."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK_NUMBERS = 2**20
"""Numbers of one temporary array at most, so that memory does not grow with the number of weightings."""


class Ranks(NamedTuple):
    """Hold how the positives of a set of points stand among its negatives.

    Attributes:
        positive_unit: int64 `[q]`, the unit of each positive, in rising order of their scores.
        negative_unit: int64 `[m]`, likewise of the negatives.
        below: int64 `[q]`, number of negatives that score less than a positive, in [0, m].
        up_to: int64 `[q]`, number of negatives that score less or as much.
    """

    positive_unit: NDArray[np.int64]
    negative_unit: NDArray[np.int64]
    below: NDArray[np.int64]
    up_to: NDArray[np.int64]


def rank_points(
    scores: NDArray[np.float64], labels: NDArray[np.uint8], unit: NDArray[np.int64] | None = None
) -> Ranks:
    """Sort points once, for any number of weightings.

    Args:
        scores: `[p]`, finite; higher says positive.
        labels: `[p]`, 1 positive, 0 negative.
        unit: `[p]`, the unit that each point belongs to, >= 0; None puts all into unit 0.
    """
    unit = np.zeros(len(scores), np.int64) if unit is None else unit
    order = np.argsort(scores, kind="stable")
    positive, negative = order[labels[order] == 1], order[labels[order] == 0]
    below, up_to = (np.searchsorted(scores[negative], scores[positive], side) for side in ("left", "right"))
    return Ranks(unit[positive], unit[negative], below.astype(np.int64), up_to.astype(np.int64))


def area_under_roc(ranks: Ranks, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the share of pairs of a positive and a negative in which the positive scores higher.

    A pair of equal scores counts half. A point of unit u counts `weights[:, u]` times.

    Args:
        ranks: Of `rank_points`.
        weights: `[b, n]` for n units, >= 0.

    Returns:
        float64 `[b]` in [0, 1]; NaN where a class has no weight.

    Source:
        Hanley and McNeil, "The meaning and use of the area under a ROC curve" (1982).

    Example:
        >>> ranks = rank_points(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0, 1, 0, 1], np.uint8))
        >>> area_under_roc(ranks, np.array([[1]])).tolist()
        [0.875]
    """
    rows = max(1, CHUNK_NUMBERS // (len(ranks.positive_unit) + len(ranks.negative_unit) + 1))
    chunks = [_area(ranks, weights[first : first + rows]) for first in range(0, len(weights), rows)]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _area(ranks: Ranks, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    # Points lie along the first axis: what is added and picked below are then whole rows of memory.
    counts = np.ascontiguousarray(weights.T, dtype=np.float64)
    passed = np.zeros((len(ranks.negative_unit) + 1, counts.shape[1]))
    np.cumsum(counts[ranks.negative_unit], axis=0, out=passed[1:])
    positive = counts[ranks.positive_unit]
    # Sums of halves of whole numbers: exact in float64.
    wins = np.einsum("qb,qb->b", positive, passed[ranks.below] + passed[ranks.up_to]) / 2
    pairs = positive.sum(0) * passed[-1]
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
