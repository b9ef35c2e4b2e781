import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import bootstrap as reference
from reference.bootstrap_cases import BATCHES, assert_covers, paired_errors

from keypoint_detection.metrics.bootstrap import bootstrap_interval, interval_of_resamples
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.paired_bootstrap import (
    Difference,
    compare_statistics,
    p_value_of_resamples,
    resolvable_difference,
)


def mean_of(values, *names: str) -> RatioStatistic:
    values = torch.as_tensor(values, dtype=torch.float64).reshape(-1, len(names))
    return RatioStatistic(names, values, torch.ones_like(values))


def sides(n: int = 60, gain: float = 0.3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    difficulty = torch.rand(n, generator=generator, dtype=torch.float64) * 20
    noise = torch.randn(2, n, generator=generator, dtype=torch.float64)
    return difficulty + noise[0], difficulty + noise[1] - gain


def test_difference_is_the_interval_of_the_differences() -> None:
    a, b = sides()
    labels = [i // 2 for i in range(60)]
    for groups in (None, labels):
        difference = compare_statistics(
            [mean_of(a, "x")], [mean_of(b, "x")], n_images=60, groups=groups, level=0.9, seed=3
        )["x"]
        paired = bootstrap_interval(b - a, groups, level=0.9, seed=3)
        assert isinstance(difference, Difference)
        assert difference[2:5] == pytest.approx(paired)
        assert difference[:2] == pytest.approx((float(a.mean()), float(b.mean())))


def test_pairing_removes_the_shared_difficulty() -> None:
    a, b = sides()
    paired = compare_statistics([mean_of(a, "x")], [mean_of(b, "x")], n_images=60)["x"]
    alone = bootstrap_interval(b)
    assert paired.high - paired.low < (alone.high - alone.low) / 3


def test_only_shared_columns() -> None:
    a, b = sides()
    left = [mean_of(a, "only a"), mean_of(torch.stack([a, a**2], 1), "y", "x")]
    right = [mean_of(torch.stack([b**2, b], 1), "x", "only b"), mean_of(b, "y")]
    found = compare_statistics(left, right, n_images=60)
    assert list(found) == ["y", "x"]
    alone = compare_statistics([mean_of(a**2, "x")], [mean_of(b**2, "x")], n_images=60)
    assert found["x"] == pytest.approx(alone["x"])
    assert compare_statistics(left[:1], right, n_images=60) == {}


def test_identical_sides() -> None:
    a, _ = sides()
    found = compare_statistics([mean_of(a, "x")], [mean_of(a, "x")], n_images=60)["x"]
    assert found.value_a == found.value_b == pytest.approx(float(a.mean()))
    assert found[2:] == (0, 0, 0, 1, 0)
    # The same ratios, with sums that round otherwise.
    scaled = RatioStatistic(("x",), a[:, None] / 3, torch.full((60, 1), 1 / 3, dtype=torch.float64))
    found = compare_statistics([mean_of(a, "x")], [scaled], n_images=60)["x"]
    assert found[2:] == (0, 0, 0, 1, 0)


def test_constant_difference_is_certain() -> None:
    a, _ = sides()
    found = compare_statistics([mean_of(a, "x")], [mean_of(a + 1, "x")], n_images=60, n_resamples=99)["x"]
    assert found[2:5] == pytest.approx((1, 1, 1))
    assert found.p_value == pytest.approx(0.01)  # 1 / (99 + 1): never 0
    assert found.resolvable == pytest.approx(0, abs=1e-9)


def test_undefined_numbers() -> None:
    one = compare_statistics([mean_of([1.0], "x")], [mean_of([3.0], "x")], n_images=1)["x"]
    assert one[:3] == (1, 3, 2)
    assert all(math.isnan(number) for number in one[3:])
    nothing = RatioStatistic(("x",), torch.zeros(5, 1), torch.zeros(5, 1))
    found = compare_statistics([nothing], [mean_of(range(5), "x")], n_images=5)["x"]
    assert found.value_b == 2
    assert all(math.isnan(number) for number in (found.value_a, *found[2:]))


def test_p_value_by_hand() -> None:
    # 3 of 99 at or below 0, the next value 0.75 above it and 0.25 below: place 3 + 0.25, no bias, no skew.
    values = torch.arange(1, 100, dtype=torch.float64)[:, None] - 3.25
    p = p_value_of_resamples(torch.tensor([46.75]), values, torch.ones(4, 1, dtype=torch.float64))
    assert float(p) == pytest.approx(2 * 3.25 / 100)


def random_resamples(seed: int):
    generator = np.random.default_rng(seed)
    values = generator.gamma(3.0, 1.0, 59) - generator.uniform(0.5, 6.0)
    values[: seed % 7] = math.nan
    if seed % 2:
        values = values.round()  # ties, with 0 too
    return values, float(np.nanmean(values)), generator.gamma(0.3, 1.0, 12)


def tensors(values, estimate, jackknife):
    columns = (torch.tensor(part, dtype=torch.float64)[..., None] for part in (estimate, values, jackknife))
    return tuple(columns)


@pytest.mark.parametrize("seed", range(30))
def test_p_value_equals_the_slow_one(seed: int) -> None:
    values, estimate, jackknife = random_resamples(seed)
    expected = reference.p_value(values.tolist(), estimate, jackknife.tolist())
    p = float(p_value_of_resamples(*tensors(values, estimate, jackknife)))
    assert p == pytest.approx(expected, abs=1e-9) or expected < p < 1 / 30
    assert p > 0


@given(seed=st.integers(0, 10**6), level=st.floats(0.5, 0.97))
def test_p_value_is_small_just_where_the_interval_excludes_zero(seed: int, level: float) -> None:
    estimate, values, jackknife = tensors(*random_resamples(seed))
    low, high = interval_of_resamples(values, estimate, jackknife, level=level, method="bca")
    p = float(p_value_of_resamples(estimate, values, jackknife))
    # Exactly so where 0 lies among the resamples; about their ends, up to their steps.
    if abs(p - (1 - level)) > (1e-9 if p > 0.1 else 2 / 53):
        assert (p < 1 - level) == (not float(low) <= 0 <= float(high))


def test_t_test_agrees() -> None:
    for seed, gain in enumerate((0.0, 0.1, 0.2, 0.3)):
        a, b = sides(300, gain, seed)
        found = compare_statistics([mean_of(a, "x")], [mean_of(b, "x")], n_images=300, n_resamples=20_000)[
            "x"
        ]
        expected = scipy.stats.ttest_rel(a.numpy(), b.numpy()).pvalue
        # As normal quantiles, which are off by up to 0.04 for 20,000 resamples, and by the skew.
        quantiles = scipy.stats.norm.isf([found.p_value / 2, expected / 2])
        assert quantiles[0] == pytest.approx(quantiles[1], abs=0.15)


def test_resolvable_by_hand() -> None:
    values = torch.tensor([[1.0], [3.0], [math.nan], [5.0]], dtype=torch.float64)  # deviation 2
    expected = (1.959963984540054 + 0.8416212335729143) * 2
    assert float(resolvable_difference(values, 0.95)) == pytest.approx(expected)


def test_resolvable_difference_is_seen_four_times_in_five() -> None:
    n, repetitions = 150, 400
    true = (1.959963984540054 + 0.8416212335729143) / math.sqrt(n)  # of differences with deviation 1
    generator = torch.Generator().manual_seed(0)
    names = [str(i) for i in range(repetitions)]
    a = torch.randn(n, repetitions, generator=generator, dtype=torch.float64) * 5
    b = a + true + torch.randn(n, repetitions, generator=generator, dtype=torch.float64)
    found = compare_statistics([mean_of(a, *names)], [mean_of(b, *names)], n_images=n, n_resamples=500)
    assert np.mean([difference.resolvable for difference in found.values()]) == pytest.approx(true, rel=0.03)
    seen = np.mean([difference.p_value < 0.05 for difference in found.values()])
    assert seen == pytest.approx(0.8, abs=0.06)  # three standard errors of 400 repetitions


@pytest.mark.parametrize(
    ("options", "message"),
    [({"level": 1.5}, "level needs"), ({"groups": [0]}, "each of the 2 images"), ({"n_resamples": 0}, "> 0")],
)
def test_errors(options: dict, message: str) -> None:
    side = [mean_of([1, 2], "x")]
    with pytest.raises(ValueError, match=message):
        compare_statistics(side, side, n_images=2, **options)
    with pytest.raises(ValueError, match="'x' twice"):
        compare_statistics(side, side * 2, n_images=2)


def covered_differences(seed: int, gain: float) -> list[bool]:
    a, b = paired_errors(torch.Generator().manual_seed(seed), gain)
    found = compare_statistics([a], [b], n_images=200, seed=seed).values()
    if gain == 0:  # the p-value then errs as often as the interval
        assert [d.p_value < 0.05 for d in found] == [not d.low <= 0 <= d.high for d in found]
    return [difference.low <= -gain <= difference.high for difference in found]


@pytest.mark.slow
@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_coverage_of_differences(gain: float) -> None:
    assert_covers(f"difference {gain}", [covered_differences(seed, gain) for seed in range(BATCHES)])
