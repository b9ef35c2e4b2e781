"""The numbers that a classifier of points is judged by: label 1 is visible, label 0 is not visible.

Everything starts from logits. A point is predicted visible where its logit is above 0, P(visible) above 1/2.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from keypoint_detection.metrics.binary_classification_auroc import area_under_roc, rank_points

SCORES = (
    *("loss", "accuracy", "balanced_accuracy", "f1", "f1_visible"),
    *("auroc", "brier", "ece", "ece_equal_mass"),
)
"""The name of each number, in order."""

NUM_BINS = 15
"""Bins of the calibration, unless told otherwise."""

Binning = Literal["equal_width", "equal_mass"]
"""Bins of P(visible): of one width each, or that hold as many points each."""


class CalibrationBins(NamedTuple):
    """Hold what was predicted and what was true in each of m bins of P(visible).

    Attributes:
        edges: float64 `[m + 1]` from 0 to 1; a bin holds its lower edge, and the last one 1 as well.
        count: int64 `[m]`, points in the bin.
        p_visible: float64 `[m]`, mean of P(visible) over the points; NaN without any.
        share_visible: float64 `[m]`, share of them that are visible; NaN without any.
    """

    edges: NDArray[np.float64]
    count: NDArray[np.int64]
    p_visible: NDArray[np.float64]
    share_visible: NDArray[np.float64]


def binary_scores(logits: ArrayLike, labels: ArrayLike) -> dict[str, float]:
    """Return all numbers of a set of points.

    - `loss`: mean of the binary cross entropy (natural log), from the logits.
    - `accuracy`: share of points that are predicted right; `balanced_accuracy`: mean over both classes of
      the share of their points that is.
    - `f1`: mean over both classes of 2 tp / (2 tp + fp + fn); `f1_visible`: that of the visible ones.
    - `auroc`: share of pairs of a visible and a not visible point that are in order; equal logits count half.
    - `brier`: mean of (P(visible) - label)^2.
    - `ece`: expected calibration error, the mean over all points of |mean P(visible) - share visible| of
      their bin, with 15 bins of equal width; `ece_equal_mass`: with 15 bins of equally many points.

    Args:
        logits: `[p]`, finite.
        labels: `[p]`, 1 visible, 0 not visible.

    Returns:
        By name, in the order of `SCORES`; NaN where undefined: all without a point; balanced_accuracy and
        auroc without a point of each class; f1 where a class is neither labelled nor predicted.

    Raises:
        ValueError: A shape, a logit or a label is none of these.

    Example:
        >>> scores = binary_scores([2.0, -1.0, 0.5, -3.0], [1, 0, 0, 0])
        >>> scores["accuracy"], round(scores["balanced_accuracy"], 4), scores["auroc"]
        (0.75, 0.8333, 1.0)
    """
    logit, label = check_points(logits, labels)
    unit = np.zeros(len(logit), np.int64)
    numbers = scores_of_sums(unit_sums(logit, label, unit, 1))[0]
    area = area_under_roc(rank_points(logit, label), np.ones((1, 1), np.int64))
    return dict(zip(SCORES, with_auroc(numbers[None], area)[0].tolist(), strict=True))


def check_points(logits: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return logits as float64 `[p]` and labels as uint8 `[p]`.

    Raises:
        ValueError: They are not one of each for every point, a logit is not finite or a label not 0 or 1.
    """
    logit, label = np.asarray(logits, np.float64), np.asarray(labels)
    if logit.ndim != 1 or label.shape != logit.shape:
        raise ValueError(
            f"expected one logit and one label for each point, got shapes {list(logit.shape)} and"
            f" {list(label.shape)}; pass two flat sequences of one length"
        )
    wrong = np.flatnonzero(~np.isfinite(logit))
    if len(wrong):
        raise ValueError(
            f"expected finite logits, got {logit[wrong[0]]} for point {wrong[0]} ({len(wrong)} in all);"
            " the weights of the network are broken: take another checkpoint"
        )
    wrong = np.flatnonzero((label != 0) & (label != 1))
    if len(wrong):
        raise ValueError(
            f"expected labels 1 (visible) and 0 (not visible), got {label[wrong[0]]} for point {wrong[0]}"
            f" ({len(wrong)} in all); leave unlabelled points out"
        )
    return logit, label.astype(np.uint8)


def predicted_visible(logits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which points are called visible: P(visible) > 1/2."""
    return logits > 0


def binary_loss(logits: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the binary cross entropy of each point, float64 `[p]`, >= 0: -ln P(its label).

    It is ln(1 + exp(-logit)) of a visible point and ln(1 + exp(logit)) of another, without overflow.

    Args:
        logits: `[p]`, not probabilities.
        labels: `[p]`, 1 or 0.
    """
    return np.logaddexp(0.0, np.where(labels == 1, -logits, logits))


def confusion_counts(logits: ArrayLike, labels: ArrayLike) -> NDArray[np.int64]:
    """Return the number of points by label (row) and prediction (column), int64 `[2, 2]`; 0 not visible.

    Example:
        >>> confusion_counts([2.0, -1.0, 0.5, -3.0], [1, 0, 0, 0]).tolist()
        [[2, 1], [0, 1]]
    """
    logit, label = check_points(logits, labels)
    return np.bincount(_outcome(logit, label), minlength=4).reshape(2, 2)


def _outcome(logits: NDArray[np.float64], labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return 0 true negative, 1 false positive, 2 false negative, 3 true positive."""
    return 2 * labels.astype(np.int64) + predicted_visible(logits)


def calibration_bins(
    logits: ArrayLike, labels: ArrayLike, n_bins: int = NUM_BINS, binning: Binning = "equal_width"
) -> CalibrationBins:
    """Return how often points are visible, by what was predicted.

    Args:
        logits: `[p]`, finite.
        labels: `[p]`, 1 or 0.
        n_bins: Number m of bins, > 0.
        binning: "equal_width": edges 0, 1/m, 2/m ... 1. "equal_mass": bin k starts at the point that has
            floor(k p / m) others before it; points of one probability share a bin, so that where many have
            it other bins hold fewer, or none.

    Source:
        Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (2015); bins of
        equal mass: Nixon et al., "Measuring calibration in deep learning" (2019).
    """
    logit, label = check_points(logits, labels)
    p_visible = expit(logit)
    edges = bin_edges(p_visible, n_bins, binning)
    place = bin_of(p_visible, edges)
    count = np.bincount(place, minlength=n_bins)
    sums = (np.bincount(place, weights=values, minlength=n_bins) for values in (p_visible, label))
    means = [np.divide(top, count, out=np.full(n_bins, np.nan), where=count > 0) for top in sums]
    return CalibrationBins(edges, count, *means)


def bin_edges(p_visible: NDArray[np.float64], n_bins: int, binning: Binning) -> NDArray[np.float64]:
    """Return the m + 1 edges of the bins of `calibration_bins`.

    Raises:
        ValueError: There is no bin, or no such binning.
    """
    if n_bins < 1:
        raise ValueError(f"n_bins needs a number > 0, got {n_bins}; {NUM_BINS} is usual")
    if binning not in get_args(Binning):
        raise ValueError(f"binning needs one of {', '.join(get_args(Binning))}, got {binning!r}")
    edges = np.arange(n_bins + 1) / n_bins
    if binning == "equal_mass" and len(p_visible):
        first = np.arange(1, n_bins) * len(p_visible) // n_bins
        edges[1:-1] = np.sort(p_visible)[first]
    return edges


def bin_of(p_visible: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of each point, int64 `[p]`."""
    return np.searchsorted(edges[1:-1], p_visible, side="right").astype(np.int64)


def unit_sums(
    logits: NDArray[np.float64], labels: NDArray[np.uint8], unit: NDArray[np.int64], num_units: int
) -> NDArray[np.float64]:
    """Add up over the points of each unit what all numbers but the AUROC are made of.

    The bins of equal mass are those of all points together, for every weighting of the units.

    Args:
        logits: `[p]`.
        labels: `[p]`.
        unit: `[p]`, the unit of each point, in [0, n).
        num_units: Number n of units.

    Returns:
        float64 `[n, 6 + 2 m]`: loss, squared error, points by label and prediction (4), and sums of
        P(visible) - label over each bin of equal width and of equal mass (m each).
    """
    p_visible = expit(logits)
    gap = p_visible - labels
    table = [_totals(unit, values, num_units) for values in (binary_loss(logits, labels), gap**2)]
    table.append(_totals(4 * unit + _outcome(logits, labels), None, num_units, 4))
    for binning in get_args(Binning):
        place = bin_of(p_visible, bin_edges(p_visible, NUM_BINS, binning))
        table.append(_totals(NUM_BINS * unit + place, gap, num_units, NUM_BINS))
    return np.concatenate(table, axis=1)


def _totals(
    cell: NDArray[np.int64], values: NDArray[np.float64] | None, num_units: int, width: int = 1
) -> NDArray[np.float64]:
    """Add up values, or count points, by cell; `[n, width]`."""
    totals = np.bincount(cell, weights=values, minlength=num_units * width)
    return totals.reshape(num_units, width).astype(np.float64)


def scores_of_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers of `SCORES` but the AUROC, in their order, float64 `[b, 8]`; NaN where undefined.

    Args:
        sums: `[b, 6 + 2 m]`, rows of `unit_sums` or weighted sums of them.
    """
    negative_right, negative_wrong, positive_wrong, positive_right = sums[:, 2:6].T
    count = sums[:, 2:6].sum(1)
    wrong = negative_wrong + positive_wrong
    f1_visible = _share(2 * positive_right, 2 * positive_right + wrong)
    f1_not_visible = _share(2 * negative_right, 2 * negative_right + wrong)
    recalls = [
        _share(right, right + missed)
        for right, missed in ((negative_right, negative_wrong), (positive_right, positive_wrong))
    ]
    gaps = [np.abs(part).sum(1) for part in np.split(sums[:, 6:], 2, axis=1)]
    numbers: Sequence[NDArray[np.float64]] = [
        _share(sums[:, 0], count),
        _share(negative_right + positive_right, count),
        (recalls[0] + recalls[1]) / 2,
        (f1_visible + f1_not_visible) / 2,
        f1_visible,
        _share(sums[:, 1], count),
        *(_share(gap, count) for gap in gaps),
    ]
    return np.stack(numbers, axis=1)


def with_auroc(numbers: NDArray[np.float64], area: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put the AUROC `[b]` to its place among the numbers of `scores_of_sums`; `[b, 9]`."""
    return np.insert(numbers, SCORES.index("auroc"), area, axis=1)


def _share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
