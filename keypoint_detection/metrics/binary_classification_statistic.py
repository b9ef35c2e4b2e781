"""The numbers of a classifier of points as functions of how often each image counts, with intervals."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from keypoint_detection.metrics.binary_classification import (
    NUM_BINS,
    SCORES,
    check_points,
    scores_of_sums,
    unit_sums,
    with_auroc,
)
from keypoint_detection.metrics.binary_classification_auroc import Ranks, area_under_roc, rank_points
from keypoint_detection.metrics.binary_classification_calibration import calibration_interval
from keypoint_detection.metrics.bootstrap import (
    Interval,
    IntervalMethod,
    bootstrap_statistics,
    resample_statistics,
)
from keypoint_detection.metrics.image_statistics import RatioStatistic, sorted_sum
from keypoint_detection.metrics.resampling import Groups, units_of_images


@dataclass(frozen=True)
class BinaryStatistic:
    """Give the numbers of any weighting of n images, whose points count together; an `ImageStatistic`.

    Attributes:
        sums: float64 `[n, 6 + 2 m]`, of `unit_sums`.
        positive_image: int64 `[q]`; this and the next three as in `Ranks`, with images as units.
        negative_image: int64 `[r]`.
        below: int64 `[q]`.
        up_to: int64 `[q]`.
    """

    sums: Tensor
    positive_image: Tensor
    negative_image: Tensor
    below: Tensor
    up_to: Tensor

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each number."""
        return SCORES

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers for weights int64 `[b, n]`, float64 `[b, s]`; NaN where undefined."""
        return self._numbers(weights.double() @ self.sums, weights)

    def value(self) -> Tensor:
        """Return the numbers with every image counted once, float64 `[s]`: the same bits in any order."""
        once = torch.ones(1, len(self.sums), dtype=torch.int64)
        return self._numbers(sorted_sum(self.sums)[None], once)[0]

    def _numbers(self, sums: Tensor, weights: Tensor) -> Tensor:
        parts = (self.positive_image, self.negative_image, self.below, self.up_to)
        area = area_under_roc(Ranks(*(part.numpy() for part in parts)), weights.numpy())
        return torch.from_numpy(with_auroc(scores_of_sums(sums.numpy()), area))


def binary_statistic(
    logits: ArrayLike, labels: ArrayLike, image: ArrayLike, n_images: int
) -> BinaryStatistic:
    """Sort and add up points once, for any number of resamples of their images.

    Args:
        logits: `[p]`, finite.
        labels: `[p]`, 1 visible, 0 not visible.
        image: `[p]`, the image of each point, in [0, n).
        n_images: Number n of images; some may have no point.

    Raises:
        ValueError: A shape, a logit, a label or an image is none of these.

    Example:
        >>> statistic = binary_statistic([2.0, -1.0, 0.5, -3.0], [1, 0, 0, 0], [0, 0, 1, 1], 2)
        >>> statistic(torch.tensor([[1, 1], [2, 0]]))[:, 1].tolist()
        [0.75, 1.0]
    """
    logit, label = check_points(logits, labels)
    unit = np.asarray(image, np.int64)
    if unit.shape != logit.shape or (len(unit) and not 0 <= unit.min() <= unit.max() < n_images):
        raise ValueError(
            f"image needs a number below {n_images} for each of {len(logit)} points, got shape"
            f" {list(unit.shape)} with {sorted(set(unit.ravel().tolist()))[-3:]} at the end"
        )
    ranks = rank_points(logit, label, unit)
    tensors = (torch.from_numpy(np.ascontiguousarray(part)) for part in ranks)
    return BinaryStatistic(torch.from_numpy(unit_sums(logit, label, unit, n_images)), *tensors)


def binary_intervals(
    logits: ArrayLike,
    labels: ArrayLike,
    groups: Groups | None = None,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    method: IntervalMethod = "bca",
    seed: int = 0,
) -> dict[str, Interval]:
    """Return all numbers of a set of points with their bootstrap intervals.

    Points of one image are alike, so that drawing points by themselves gives intervals that are far too
    narrow: pass the images, or the views that several images show. The two calibration errors have
    intervals of their own for either method, see `calibration_interval`.

    Args:
        logits: `[p]`, finite.
        labels: `[p]`, 1 visible, 0 not visible.
        groups: What each point belongs to, `[p]`: points of one label are drawn together. Without it each
            point is drawn by itself.
        level: Share of such intervals that should hold the truth, in (0, 1).
        n_resamples: Number of resamples, > 0.
        method: "bca" or "percentile".
        seed: Seed of the resamples, >= 0.

    Returns:
        By name, as `binary_scores`; NaN ends with fewer than 2 groups. The bins of equal mass stay those of
        all points.

    Raises:
        ValueError: An argument has another shape or range.

    Example:
        >>> intervals = binary_intervals([2.0, -1.0, 0.5, -3.0], [1, 0, 0, 0])
        >>> intervals["accuracy"].value, intervals["accuracy"].high
        (0.75, 1.0)
    """
    logit, label = check_points(logits, labels)
    unit, num_units = units_of_images(len(logit), groups)
    statistic = binary_statistic(logit, label, unit.numpy(), num_units)
    return statistic_intervals(statistic, level=level, n_resamples=n_resamples, method=method, seed=seed)


def statistic_intervals(
    statistic: BinaryStatistic,
    *,
    level: float = 0.95,
    n_resamples: int = 1000,
    method: IntervalMethod = "bca",
    seed: int = 0,
) -> dict[str, Interval]:
    """Return what `binary_intervals` does for points that are added up already; a resample draws images."""
    n_images = len(statistic.sums)
    intervals = bootstrap_statistics(
        [statistic], n_images=n_images, n_resamples=n_resamples, level=level, method=method, seed=seed
    )
    gaps = _gaps(statistic)
    drawn = resample_statistics([gaps], n_images=n_images, groups=None, n_resamples=n_resamples, seed=seed)
    for place, name in enumerate(("ece", "ece_equal_mass")):
        bins = slice(place * NUM_BINS, (place + 1) * NUM_BINS)
        ends = calibration_interval(drawn.estimate[bins], drawn.values[:, bins], level)
        intervals[name] = Interval(intervals[name].value, *ends)
    return intervals


def _gaps(statistic: BinaryStatistic) -> RatioStatistic:
    """Return the sums of P(visible) - label in each bin, divided by the number of all points."""
    gaps, n_points = statistic.sums[:, 6:], statistic.sums[:, 2:6].sum(1, keepdim=True)
    return RatioStatistic(tuple(map(str, range(gaps.shape[1]))), gaps, n_points.expand_as(gaps))
