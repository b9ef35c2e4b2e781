"""Simulated samples of images whose true numbers are known, for the coverage of intervals."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.precision_recall import Matches, average_precision_of_matches

COLUMNS = 50
"""Repetitions simulated at once: each is a column, and all of a batch share the resamples."""

BATCHES = 40
"""Batches of the slow tests: 2000 repetitions, whose share is off by half a percent; 500 are off by 1."""


def gamma(generator: torch.Generator, shape: float, *size: int) -> Tensor:
    """Draw gamma-distributed numbers of mean `shape` as sums of exponential ones; `shape` is whole."""
    uniform = torch.rand(int(shape), *size, generator=generator, dtype=torch.float64)
    return -torch.log1p(-uniform).sum(0)


def names_of(columns: int) -> tuple[str, ...]:
    return tuple(str(i) for i in range(columns))


def ratio(numerator: Tensor, denominator: Tensor | None = None, root: bool = False) -> RatioStatistic:
    bottom = torch.ones_like(numerator) if denominator is None else denominator
    return RatioStatistic(names_of(numerator.shape[1]), numerator.double(), bottom.double(), root)


def mean_error(generator: torch.Generator):
    """Errors of 100 images with mean 2 and skewness 1.4."""
    return ratio(gamma(generator, 2, 100, COLUMNS)), None, 100, 2.0


def grouped_mean_error(generator: torch.Generator):
    """Errors of 60 videos of 1 to 8 frames; half of the variance of an error is its video's."""
    groups = torch.arange(60).repeat_interleave(torch.arange(60) % 8 + 1)
    errors = gamma(generator, 2, 60, COLUMNS)[groups] + gamma(generator, 2, len(groups), COLUMNS)
    return ratio(errors), groups, len(groups), 4.0


def pooled_rmse(generator: torch.Generator):
    """The root of the mean squared distance of 1 to 8 points in each of 200 images, some of them hard."""
    points = torch.randint(1, 9, (200, COLUMNS), generator=generator)
    scale = gamma(generator, 3, 200, COLUMNS)  # mean square 12
    distances = scale * torch.randn(2, 8, 200, COLUMNS, generator=generator, dtype=torch.float64)
    there = torch.arange(8)[:, None, None] < points
    squares = (distances.square().sum(0) * there).sum(0)
    return ratio(squares, points, root=True), None, 200, math.sqrt(2 * 12)


def pck(generator: torch.Generator):
    """Correct points of 100 images; images with more points are harder."""
    hard = torch.rand(100, COLUMNS, generator=generator, dtype=torch.float64)
    points = 1 + torch.binomial(torch.full_like(hard, 11), hard, generator=generator)
    correct = torch.binomial(points, 0.9 - 0.4 * hard, generator=generator)
    # E[(1 + 11 h)(0.9 - 0.4 h)] / E[1 + 11 h] for h uniform in [0, 1]
    return ratio(correct, points), None, 100, (0.9 + (9.9 - 0.4) / 2 - 4.4 / 3) / 6.5


@dataclass(frozen=True)
class AveragePrecision:
    matches: Matches

    @property
    def columns(self) -> tuple[str, ...]:
        return names_of(self.matches.num_targets.shape[1])

    def __call__(self, weights: Tensor) -> Tensor:
        return average_precision_of_matches(self.matches, weights=weights)[..., 0]

    def value(self) -> Tensor:
        return average_precision_of_matches(self.matches)[:, 0]


def simulated_matches(generator: torch.Generator, n_images: int, columns: int) -> Matches:
    """Images of 1 to 4 targets, found less often in hard ones; scores of true and false overlap."""
    size = n_images, columns
    targets = torch.randint(1, 5, size, generator=generator)
    hard = torch.rand(size, generator=generator, dtype=torch.float64)
    found = torch.binomial(targets.double(), 1 - 0.4 * hard, generator=generator).long()
    wrong = torch.poisson(2 * hard, generator=generator).long()
    detections = (found + wrong).flatten()
    place = torch.arange(int(detections.sum())) - (detections.cumsum(0) - detections).repeat_interleave(
        detections
    )
    matched = place < found.flatten().repeat_interleave(detections)
    scores = torch.randn(len(matched), generator=generator, dtype=torch.float64) + 1.5 * matched
    return Matches(scores, matched[:, None], torch.zeros_like(matched[:, None]), found + wrong, targets)


@functools.cache
def true_average_precision() -> float:
    giant = simulated_matches(torch.Generator().manual_seed(12345), 1_000_000, 1)
    return float(average_precision_of_matches(giant))


def average_precision(generator: torch.Generator):
    """AP of 100 images."""
    matches = simulated_matches(generator, 100, COLUMNS)
    return AveragePrecision(matches), None, 100, true_average_precision()


CASES: dict[str, Callable] = {
    "mean error": mean_error,
    "mean error of groups": grouped_mean_error,
    "pooled rmse": pooled_rmse,
    "pck": pck,
    "average precision": average_precision,
}


def paired_errors(generator: torch.Generator, gain: float):
    """Two detectors on the same 200 images, whose difficulty they share; b is better by `gain` on average."""
    difficulty = gamma(generator, 2, 200, COLUMNS)
    a = difficulty * (0.5 + gamma(generator, 2, 200, COLUMNS) / 4)
    return ratio(a), ratio(difficulty * (1 - gain / 2) * (0.5 + gamma(generator, 2, 200, COLUMNS) / 4))


def share_of(batches: list[list[bool]]) -> float:
    return sum(map(sum, batches)) / sum(map(len, batches))


def assert_covers(case: str, batches: list[list[bool]]) -> None:
    first, all_batches = share_of(batches[:10]), share_of(batches)
    print(f"{case}: {all_batches:.2%} of {BATCHES * COLUMNS}, {first:.2%} of the first {10 * COLUMNS}")
    assert 0.92 <= first <= 0.98
    assert 0.92 <= all_batches <= 0.98
