import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from keypoint_detection.visibility.distance import (
    DistanceEstimate,
    metres_text,
    spatial_blocks,
    visibility_distance,
)
from keypoint_detection.visibility.distance_curve import BINS_PER_PLACE, WIDTHS, bin_points, fit_curves


def simulated(
    seed: int,
    *,
    n: int = 500,
    width: float = 0.15,
    over: float = 1.0,
    wrong_near: float = 0.0,
    wrong_far: float = 0.0,
    block_error: float = 0.0,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Return a true distance, and P(visible), depth and block of points whose farther ones lie higher up."""
    rng = np.random.default_rng(seed)
    truth = np.exp(rng.uniform(np.log(1000), np.log(15000)))
    log_depth = rng.uniform(np.log(100), np.log(40000), n)
    up = np.clip((log_depth - np.log(100)) / 6 + rng.normal(0, 0.12, n), 0, 0.999)
    xy = np.stack([rng.uniform(0, 599, n), 599 * (1 - up)], 1)
    blocks = spatial_blocks(xy, (600, 600))
    error = rng.normal(0, 1, n) + rng.normal(0, block_error, 36)[blocks]
    p = expit(over * ((np.log(truth) - log_depth) / width + error))
    is_near = log_depth < np.log(truth)
    is_wrong = rng.uniform(size=n) < np.where(is_near, wrong_near, wrong_far)
    return truth, np.where(is_wrong, 1 - p, p), np.exp(log_depth), blocks


CASES = {
    "plain": {},
    "sharp": {"width": 0.03},
    "smooth": {"width": 0.5},
    "too sure": {"over": 5.0},
    "too unsure": {"over": 0.4},
    "wrong points": {"wrong_near": 0.1, "wrong_far": 0.1},
    "wrong far points": {"wrong_far": 0.2},
    "wrong near points": {"wrong_near": 0.2},
    "blocks that err": {"block_error": 1.5},
    "few points": {"n": 80},
}


@pytest.mark.parametrize("case", CASES)
def test_estimates_have_little_bias_and_their_intervals_hold_the_truth(case: str) -> None:
    errors, held = [], []
    for seed in range(8):
        truth, p, depth, blocks = simulated(seed, **CASES[case])
        found = visibility_distance(p, depth, blocks=blocks, n_resamples=100)
        assert not found.is_open_above
        assert not found.is_open_below
        errors.append(np.log(found.value_m / truth))
        held.append(found.low_m <= truth <= found.high_m)
    assert abs(np.mean(errors)) < 0.08
    assert np.max(np.abs(errors)) < 0.25
    assert np.sum(held) >= 6  # 95 % intervals: 5 or fewer of 8 come by chance once in 2600 times


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_intervals_hold_the_truth_as_often_as_they_say(case: str) -> None:
    errors, held = [], []
    for seed in range(100, 180):
        truth, p, depth, blocks = simulated(seed, **CASES[case])
        found = visibility_distance(p, depth, blocks=blocks)
        errors.append(np.log(found.value_m / truth))
        held.append(found.low_m <= truth <= found.high_m)
    assert abs(np.mean(errors)) < 0.04
    assert np.mean(np.abs(errors) < 0.14) >= 0.9
    assert np.mean(held) >= 0.86


def test_a_hand_made_limit_lies_between_its_two_points() -> None:
    depth = np.array([100, 200, 300, 400, 500, 600, 700, 1400, 1600, 1800, 2000, 2200, 2400.0])
    p = np.array([1.0] * 7 + [0.0] * 6)
    found = visibility_distance(p, depth)
    assert 700 < found.value_m < 1400
    assert found.value_m == pytest.approx(np.sqrt(700 * 1400), rel=0.1)  # the middle in log distance
    assert found.low_m <= 700  # nothing says where between the two points it is
    assert found.high_m >= 1400


def test_all_visible_is_at_least_and_nothing_visible_is_at_most() -> None:
    rng = np.random.default_rng(0)
    depth = np.exp(rng.uniform(np.log(100), np.log(20000), 400))
    wrong = rng.uniform(size=400) < 0.08
    above = visibility_distance(np.where(wrong, 0.1, 0.95), depth)
    assert (above.is_open_above, above.is_open_below, above.high_m) == (True, False, np.inf)
    assert 18000 < above.value_m <= depth.max()
    assert above.low_m <= above.value_m
    assert str(above).startswith("at least ")
    below = visibility_distance(np.where(wrong, 0.9, 0.05), depth)
    assert (below.is_open_above, below.is_open_below, below.low_m) == (False, True, 0.0)
    assert depth.min() <= below.value_m < 120
    assert str(below).startswith("at most ")


def test_points_without_a_distance_change_nothing() -> None:
    _, p, depth, blocks = simulated(1)
    found = visibility_distance(p, depth, blocks=blocks)
    bad_p, bad_depth = [0.0, 1.0, 1.0, 0.0, np.nan], [np.nan, np.inf, 0.0, -5.0, 500.0]
    longer = visibility_distance(
        np.concatenate([p, bad_p]),
        np.concatenate([depth, bad_depth]),
        blocks=np.concatenate([blocks, [0] * 5]),
    )
    assert longer == found


@pytest.mark.parametrize("n", [0, 1, 9])
def test_too_few_points_say_nothing(n: int) -> None:
    found = visibility_distance(np.ones(n), np.full(n, 100.0))
    assert np.isnan(found.value_m)
    assert (found.low_m, found.high_m) == (0.0, np.inf)
    assert found.is_open_above
    assert found.is_open_below
    assert str(found) == "unknown (too few points)"


def test_blocks_that_err_together_widen_the_interval() -> None:
    lengths = []
    for seed in range(6):
        _, p, depth, blocks = simulated(seed, block_error=3.0)
        pair = [visibility_distance(p, depth, blocks=given) for given in (None, blocks)]
        lengths.append([np.log(found.high_m / found.low_m) for found in pair])
    alone, together = np.mean(lengths, axis=0)
    assert together > 1.2 * alone


@settings(deadline=None, max_examples=5)
@given(st.integers(0, 10_000), st.floats(0.01, 100))
def test_the_answer_scales_with_the_unit_and_ignores_the_order(seed: int, scale: float) -> None:
    _, p, depth, blocks = simulated(seed, n=120)
    found = visibility_distance(p, depth, blocks=blocks, n_resamples=20)
    order = np.random.default_rng(seed).permutation(len(p))
    again = visibility_distance(p[order], depth[order] * scale, blocks=blocks[order], n_resamples=20)
    assert again.value_m == pytest.approx(found.value_m * scale, rel=0.03)
    assert again.low_m <= again.value_m <= again.high_m


def test_the_fit_by_sums_equals_a_plain_one() -> None:
    _, p, depth, blocks = simulated(3, n=200, wrong_far=0.2)
    points = bin_points(p, np.log(depth), blocks - blocks.min())
    curves = fit_curves(points, np.ones((1, len(points.square))), 5)
    place, width = np.unravel_index(curves.loss[0].argmin(), curves.loss[0].shape)
    low_edge, step = np.log(depth).min(), points.log_distance[1] - points.log_distance[0]
    middle = np.minimum((np.log(depth) - low_edge) // step, len(points.log_distance) - 1)
    shape = expit(
        (points.log_distance[BINS_PER_PLACE * place + 1] - (low_edge + (middle + 0.5) * step)) / WIDTHS[width]
    )
    ends = np.linspace(0, 0.45, 46)
    losses = [((p - (a + (1 - b - a) * shape)) ** 2).sum() for a in ends for b in ends]
    assert curves.loss[0, place, width] == pytest.approx(min(losses), rel=2e-3)
    assert curves.loss[0, place, width] <= min(losses) + 1e-9


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="as many probabilities as depths"):
        visibility_distance(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="apply the sigmoid"):
        visibility_distance(np.array([2.0, 0.5]), np.ones(2))
    with pytest.raises(ValueError, match="level between 0 and 1"):
        visibility_distance(np.ones(2), np.ones(2), level=95)


def test_blocks_are_tiles_of_the_image() -> None:
    xy = np.array([[-0.5, -0.5], [99.4, 0], [0, 49.4], [99.5, 49.5]])
    assert spatial_blocks(xy, (50, 100), tiles=4).tolist() == [0, 3, 12, 15]


def test_distances_are_written_as_people_write_them() -> None:
    assert [metres_text(value) for value in (850.4, 3421.0, 41_700.0)] == ["850 m", "3.42 km", "41.7 km"]
    assert str(DistanceEstimate(1000.0, 900.0, np.inf, False, False)) == "1.00 km (900 m to any distance)"
