"""Intervals of calibration errors: hand-worked, against a slow way, and how often they hold the truth."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import bootstrap as slow
from scipy.special import expit, logit

from keypoint_detection.metrics.binary_classification_calibration import CLEAR, calibration_interval
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals

NUM_BINS, NAMES = 15, ("ece", "ece_equal_mass")
PREDICTED = np.linspace(0.02, 0.98, 49)  # every bin of 1/15 holds three or four of them; none lies on an edge


def interval(gaps: list[float], moves: list[list[float]], level: float = 0.5) -> tuple[float, float]:
    return calibration_interval(torch.tensor(gaps).double(), torch.tensor(gaps) + torch.tensor(moves), level)


def test_one_clear_bin_has_the_basic_interval_by_hand() -> None:
    """7 moves -3 ... 3: the quartiles lie at places 2 and 6, -2 and 2; the deviation is 2, below 9 / 3."""
    moves = [[float(move)] for move in (3, -1, 0, 1, -3, 2, -2)]
    assert interval([9.0], moves) == pytest.approx((9 - 2, 9 + 2))
    assert interval([-9.0], moves) == pytest.approx((9 - 2, 9 + 2))
    skew = [[float(move)] for move in (0, 0, 0, 0, 0, 1, 8)]  # the gap's moves, of which the truth has none
    assert interval([50.0], skew) == pytest.approx((50 - 1, 50 + 0))
    assert interval([-50.0], skew) == pytest.approx((50 - 0, 50 + 1))


def test_one_unclear_bin_may_be_noise_alone_by_hand() -> None:
    """A gap of 5 is below 3 deviations of 2: sizes of moves 0 1 1 2 2 3 3 have 3 at place 6."""
    moves = [[float(move)] for move in (3, -1, 0, 1, -3, 2, -2)]
    assert interval([5.0], moves) == pytest.approx((5 - 3, 5 + 2))
    assert interval([1.0], moves) == pytest.approx((0.0, 1 + 2))  # clipped: there is no error below 0


def test_undefined_without_resamples() -> None:
    assert all(math.isnan(end) for end in interval([1.0], [[math.nan]] * 3 + [[0.0]] * 7))
    assert interval([1.0], [[math.nan]] * 2 + [[0.0]] * 8) == (1.0, 1.0)
    assert all(math.isnan(end) for end in interval([math.nan], [[0.0]]))
    ends = binary_intervals([1.0, -1.0], [1, 1], ["a", "a"])["ece"]
    assert ends.value == pytest.approx(0.5)
    assert math.isnan(ends.low)
    assert math.isnan(ends.high)


@given(
    st.lists(st.tuples(st.floats(-6, 6), st.booleans(), st.integers(0, 5)), min_size=2, max_size=40),
    st.sampled_from(["bca", "percentile"]),
)
def test_the_number_is_always_inside(points: list[tuple[float, bool, int]], method: str) -> None:
    logits, labels, image = zip(*points, strict=True)
    found = binary_intervals(logits, labels, image, n_resamples=30, method=method)  # pyright: ignore
    for name in NAMES:
        value, low, high = found[name]
        assert math.isnan(low) or -1e-12 <= low - 1e-12 <= value <= high + 1e-12


def drawn(
    slope: float, n_images: int, per_image: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits, labels and images of points that are visible with P = sigmoid(slope * logit)."""
    rng = np.random.default_rng(seed)
    logits = logit(rng.choice(PREDICTED, n_images * per_image))
    labels = (rng.random(len(logits)) < expit(slope * logits)).astype(np.uint8)
    return logits, labels, np.repeat(np.arange(n_images), per_image)


def true_error(slope: float) -> float:
    """Return the error of endless points: every prediction is as frequent as the others."""
    error = 0.0
    for number in range(NUM_BINS):
        inside = [p for p in PREDICTED if number <= p * NUM_BINS < number + 1]
        error += abs(sum(p - expit(slope * logit(p)) for p in inside)) / len(PREDICTED)
    return error


def test_the_true_error_is_that_of_very_many_points() -> None:
    assert true_error(1.0) == pytest.approx(0.0, abs=1e-12)
    logits, labels, _ = drawn(0.5, 1, 400_000, seed=0)
    assert binary_intervals(logits, labels, np.zeros(400_000))["ece"].value == pytest.approx(
        true_error(0.5), abs=0.003
    )


@pytest.mark.parametrize("slope", [1.0, 0.8, 0.2])
def test_intervals_hold_the_true_error_in_95_percent(slope: float) -> None:
    """Perfectly calibrated, slightly too sure and far too sure; BCa holds the truth of the first in 0 %."""
    truth, inside, trials = true_error(slope), 0, 100
    for trial in range(trials):
        logits, labels, image = drawn(slope, 40, 25, trial)
        found = binary_intervals(logits, labels, image, n_resamples=200, seed=trial)["ece"]
        assert found.low <= found.value <= found.high
        inside += found.low <= truth <= found.high
    assert inside / trials >= 0.88
    if slope == 0.2:
        assert found.low > 0, "an error that is plain to see is told from none"


def test_against_a_slow_way() -> None:
    logits, labels, image = drawn(0.3, 9, 12, seed=3)
    found = binary_intervals(logits, labels, image, n_resamples=90, seed=4, level=0.9)["ece"]
    place = [min(int(p * NUM_BINS), NUM_BINS - 1) for p in expit(logits)]

    def gaps(times: list[int]) -> list[float]:
        sums = [0.0] * NUM_BINS
        for k in range(len(logits)):
            sums[place[k]] += times[image[k]] * (expit(logits[k]) - labels[k])
        return [part / sum(times[index] for index in image) for part in sums]

    own = gaps([1] * 9)
    moves = [[a - b for a, b in zip(gaps(times), own, strict=True)] for times in slow.draw(9, 90, 4)]
    most, least = [], []
    for move in moves:
        outwards = [math.copysign(1, gap) * part if gap else 0.0 for gap, part in zip(own, move, strict=True)]
        least.append(sum(outwards))
        most.append(
            sum(
                part if abs(gap) > CLEAR * np.std([row[k] for row in moves]) else abs(part)
                for k, (gap, part) in enumerate(zip(own, outwards, strict=True))
            )
        )
    error = sum(map(abs, own))
    ends = max(0.0, error - slow.quantile(most, 0.95)), error - slow.quantile(least, 0.05)
    assert found == pytest.approx((error, *ends), rel=1e-9)
