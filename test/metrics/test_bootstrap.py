import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import bootstrap as reference
from reference.bootstrap_cases import BATCHES, CASES, assert_covers, grouped_mean_error, mean_error, share_of

from keypoint_detection.metrics.bootstrap import (
    Interval,
    bootstrap_interval,
    bootstrap_statistics,
    interval_of_resamples,
    resample_statistics,
)
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.resampling import CHUNK_ROWS


def column(values) -> torch.Tensor:
    return torch.as_tensor(values, dtype=torch.float64)[:, None]


def mean_of(values, name: str = "mean") -> RatioStatistic:
    return RatioStatistic((name,), column(values), torch.ones(len(values), 1, dtype=torch.float64))


# Intervals.


def random_resamples(seed: int, undefined: float):
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(37, 6, generator=generator, dtype=torch.float64).pow(2)
    values[:, 3] = (values[:, 3] * 4).round() / 4  # ties
    values[torch.rand(37, 6, generator=generator) < undefined] = math.nan
    estimate = torch.tensor([0.3, 0.0, 2.0, 0.25, math.nan, 0.5], dtype=torch.float64)
    jackknife = torch.rand(9, 6, generator=generator, dtype=torch.float64).pow(3)
    jackknife[2, 0] = math.nan
    jackknife[:, 5] = 0.5
    return values, estimate, jackknife


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("undefined", [0.0, 0.1, 0.2])
@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
def test_interval_equals_the_slow_one(method, undefined: float, level: float) -> None:
    for seed in range(4):
        values, estimate, jackknife = random_resamples(seed, undefined)
        low, high = interval_of_resamples(values, estimate, jackknife, level=level, method=method)
        expected = [
            reference.interval(*parts, level, method)
            for parts in zip(values.T.tolist(), estimate.tolist(), jackknife.T.tolist(), strict=True)
        ]
        found = torch.stack([low, high], dim=1).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-11, equal_nan=True)
        assert np.isnan(found[4]).all()


def test_percentile_by_hand() -> None:
    # Places (9 + 1) * 0.1 = 1 and 9 at level 0.8; 2.5 and 7.5 at level 0.5.
    values, estimate = column(range(10, 100, 10)), torch.tensor([50.0])
    for level, ends in ((0.8, (10, 90)), (0.5, (25, 75)), (0.99, (10, 90))):
        low, high = interval_of_resamples(values, estimate, None, level=level, method="percentile")
        assert (float(low), float(high)) == pytest.approx(ends)


def test_bca_by_hand() -> None:
    # Half of the ties below: z0 = 0. Jackknife 0, 0, 3 about 1: influences 1, 1, -2, cubes -6, squares 6.
    values, estimate, jackknife = column(range(1, 100)), torch.tensor([50.0]), column([0, 0, 3])
    a = -6 / (6 * 6**1.5)
    low, high = interval_of_resamples(values, estimate, jackknife, level=0.9, method="bca")
    z = 1.6448536269514722
    expected = [100 * scipy.stats.norm.cdf(side / (1 - a * side)) for side in (-z, z)]
    assert [float(low), float(high)] == pytest.approx(expected)


def test_edges_of_the_interval() -> None:
    values, jackknife = torch.full((10, 1), 0.1, dtype=torch.float64), column([0.1, 0.1, 0.1])
    rounded = torch.tensor([0.1 + 1e-17 * 3], dtype=torch.float64)
    low, high = interval_of_resamples(values, rounded, jackknife, level=0.95, method="bca")
    assert low == high == rounded
    values[:2] = math.nan  # 80 % defined is enough, 70 % is not
    assert interval_of_resamples(values, rounded, jackknife, level=0.95, method="bca")[0] == rounded
    values[2] = math.nan
    for method in ("bca", "percentile"):
        ends = interval_of_resamples(values, rounded, jackknife, level=0.95, method=method)
        assert torch.cat(ends).isnan().all()


def test_far_estimates_stay_within_the_resamples() -> None:
    values, jackknife = column(range(1000)), column([0.0] * 30 + [1.0])
    for estimate in (-5.0, 0.0, 999.0, 5000.0):
        for level in (0.5, 0.95, 1 - 1e-12):
            for side in (jackknife, -jackknife):
                ends = interval_of_resamples(
                    values, torch.tensor([estimate]), side, level=level, method="bca"
                )
                assert 0 <= float(ends[0]) <= float(ends[1]) <= 999


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("seed", [0, 1])
def test_scipy_agrees(method, seed: int) -> None:
    errors = np.random.default_rng(seed).gamma(1.0, 3.0, 40)
    ours = bootstrap_interval(errors, n_resamples=20_000, method=method, seed=seed)
    name = "BCa" if method == "bca" else method
    referee = scipy.stats.bootstrap((errors,), np.mean, n_resamples=20_000, method=name, rng=seed)
    # An end of 20,000 resamples is off by 0.02 standard errors (BCa 0.03), and so is the referee's.
    tolerance = 4 * 0.03 * math.sqrt(2) * errors.std() / math.sqrt(40)
    assert ours.value == pytest.approx(errors.mean(), rel=1e-14)
    assert ours[1:] == pytest.approx(tuple(referee.confidence_interval), abs=tolerance)
    other = scipy.stats.bootstrap((errors,), np.mean, n_resamples=2000, method="basic", rng=seed)
    assert ours[1:] != pytest.approx(tuple(other.confidence_interval), abs=tolerance)


# Statistics.


def test_statistics_share_their_resamples() -> None:
    errors = torch.rand(30, 2, dtype=torch.float64)
    both = RatioStatistic(("x", "y"), errors, torch.ones_like(errors))
    twice = RatioStatistic(("2x",), 2 * errors[:, :1], torch.ones(30, 1))
    intervals = bootstrap_statistics([both, twice], n_images=30, seed=4)
    assert list(intervals) == ["x", "y", "2x"]
    assert isinstance(intervals["x"], Interval)
    assert intervals["2x"] == pytest.approx([2 * number for number in intervals["x"]])
    assert intervals["y"] == pytest.approx(bootstrap_interval(errors[:, 1], seed=4))


def test_global_generators_are_left_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap_interval([1.0, 2.0, 4.0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def test_seed_decides() -> None:
    errors = np.random.default_rng(0).gamma(1.0, 3.0, 40)
    assert bootstrap_interval(errors) == bootstrap_interval(errors, seed=0)
    assert bootstrap_interval(errors) != bootstrap_interval(errors, seed=1)


def test_statistics_see_bounded_chunks() -> None:
    n, seen = 20_000, []

    class Watched(RatioStatistic):
        def __call__(self, weights: torch.Tensor) -> torch.Tensor:
            seen.append(len(weights))
            return super().__call__(weights)

    values = torch.rand(n, 1, dtype=torch.float64)
    resamples = resample_statistics(
        [Watched(("x",), values, torch.ones_like(values))], n_images=n, groups=None, n_resamples=100, seed=0
    )
    assert resamples.values.shape == (100, 1)
    assert resamples.jackknife.shape == (200, 1)
    assert max(seen) == CHUNK_ROWS
    assert sum(seen) == 300


@settings(deadline=None, max_examples=30)
@given(
    values=st.lists(st.floats(0, 1e6) | st.just(math.nan), min_size=1, max_size=25),
    method=st.sampled_from(["percentile", "bca"]),
    grouped=st.booleans(),
)
def test_interval_of_any_values(values: list[float], method, grouped: bool) -> None:
    groups = [i // 3 for i in range(len(values))] if grouped else None
    there = [i for i, value in enumerate(values) if not math.isnan(value)]
    units = {groups[i] if groups else i for i in there}
    interval = bootstrap_interval(values, groups, method=method, n_resamples=100)
    if not there:
        assert all(math.isnan(number) for number in interval)
        return
    assert interval.value == pytest.approx(math.fsum(values[i] for i in there) / len(there), rel=1e-12)
    if len(units) < 2:
        assert math.isnan(interval.low)
        assert math.isnan(interval.high)
    else:
        kept = [values[i] for i in there]
        slack = 1e-9 * max(kept)
        assert min(kept) - slack <= interval.low <= interval.high <= max(kept) + slack


def test_containers_give_the_same() -> None:
    values, groups = [0.5, 2.0, 3.5, 1.0], [0, 1, 1, 2]
    expected = bootstrap_interval(values, groups)
    assert expected == bootstrap_interval(np.array(values), np.array(groups))
    assert expected == bootstrap_interval(torch.tensor(values), torch.tensor(groups))
    assert expected == bootstrap_interval(values, ["a", "b", "b", "c"])
    assert expected == bootstrap_interval([math.nan, *values], [1, *groups])
    assert expected != bootstrap_interval(values)


def test_a_single_informed_image_has_no_interval() -> None:
    # The ratio is defined by one image alone: 2 of 3 resamples give its value, which says nothing.
    lone = RatioStatistic(("pck",), column([1.0, 0, 0, 0, 0]), column([2.0, 0, 0, 0, 0]))
    interval = bootstrap_statistics([lone], n_images=5)["pck"]
    assert interval.value == 0.5
    assert math.isnan(interval.low)
    two = RatioStatistic(("pck",), column([1.0, 2, 0, 0, 0]), column([2.0, 2, 0, 0, 0]))
    assert bootstrap_statistics([two], n_images=5)["pck"] == Interval(0.75, 0.5, 1.0)


def test_equal_values_give_one_point() -> None:
    assert bootstrap_interval([0.1] * 7) == pytest.approx((0.1, 0.1, 0.1), rel=1e-15)
    interval = bootstrap_interval([0.1] * 7)
    assert interval.low == interval.high == interval.value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_image_values": []}, "at least 1 image"),
        ({"per_image_values": [[1.0]]}, "flat sequence"),
        ({"level": 0.0}, "level needs"),
        ({"level": 1.0}, "level needs"),
        ({"level": 95}, "level needs"),
        ({"groups": [1]}, "each of the 2 images"),
        ({"method": "basic"}, "percentile, bca"),
        ({"n_resamples": 0}, "n_resamples"),
        ({"seed": -1}, "seed needs"),
    ],
)
def test_errors(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        bootstrap_interval(**{"per_image_values": [1.0, 2.0], **arguments})
    assert "\n" not in str(error.value)


def test_errors_of_statistics() -> None:
    with pytest.raises(ValueError, match="'mean' twice"):
        bootstrap_statistics([mean_of([1, 2]), mean_of([3, 4])], n_images=2)
    with pytest.raises(ValueError, match="needs the jackknife"):
        interval_of_resamples(column([1, 2]), torch.tensor([1.0]), None, level=0.9, method="bca")
    assert bootstrap_statistics([], n_images=2) == {}


# Coverage.


def covered(case: Callable, seed: int, n_resamples: int = 1000, method="bca") -> list[bool]:
    """Return whether the interval of each repetition of a batch holds the truth."""
    statistic, groups, n_images, truth = case(torch.Generator().manual_seed(seed))
    intervals = bootstrap_statistics(
        [statistic],
        n_images=n_images,
        groups=groups,
        n_resamples=n_resamples,
        seed=seed,
        method=method,
    )
    return [interval.low <= truth <= interval.high for interval in intervals.values()]


def test_coverage_quickly() -> None:
    # At a coverage of 94 to 95 %, 500 repetitions stay within these bounds but for 1 run in 1,000.
    lowest, highest = (
        scipy.stats.binom.ppf(0.0005, 500, 0.94) / 500,
        scipy.stats.binom.ppf(0.9995, 500, 0.95) / 500,
    )
    share = share_of([covered(mean_error, seed, n_resamples=500) for seed in range(10)])
    assert lowest <= share <= highest


def test_ungrouped_intervals_of_videos_are_too_narrow() -> None:
    def frames(generator: torch.Generator):
        statistic, _, n_images, truth = grouped_mean_error(generator)
        return statistic, None, n_images, truth

    assert share_of([covered(frames, seed, n_resamples=500) for seed in range(4)]) < 0.8


@pytest.mark.slow
@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("case", CASES)
def test_coverage(case: str, method) -> None:
    assert_covers(f"{case}, {method}", [covered(CASES[case], seed, 1000, method) for seed in range(BATCHES)])
