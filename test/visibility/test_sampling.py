"""Sampling: weights from the histogram of log depth, no pixel twice, nothing near the border."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keypoint_detection.visibility.sampling import depth_bins, point_weights, sample_points

DEPTHS = st.floats(0.01, 3e5) | st.sampled_from([np.nan, np.inf, 0.0, -3.0])


def bin_of(depth):
    """Say it again, slowly."""
    if not math.isfinite(depth) or depth <= 0:
        return -1
    return min(max(round(255 * math.log(depth) / math.log(1e5)), 0), 255)


def test_bins_worked_by_hand():
    # ln(10) / ln(1e5) = 1 / 5: 51; ln(1000) / ln(1e5) = 3 / 5: 153
    depths = np.array([1.0, 10.0, 1e3, 1e5, 0.2, 0.999, 1e7, np.nan, np.inf, 0.0, -1.0])
    assert depth_bins(depths).tolist() == [0, 51, 153, 255, 0, 0, 255, -1, -1, -1, -1]


@given(hnp.arrays(np.float64, st.integers(0, 40), elements=DEPTHS))
def test_bins_and_weights_equal_the_slow_way(depths):
    bins = [bin_of(depth) for depth in depths.tolist()]
    assert depth_bins(depths).tolist() == bins
    expected = [0.0 if one < 0 else 1 / bins.count(one) for one in bins]
    np.testing.assert_allclose(point_weights(depths), expected, rtol=1e-15)


def test_weights_keep_the_shape():
    depths = np.array([[10.0, 10.0], [np.nan, 1e3]], dtype=np.float32)
    assert point_weights(depths).tolist() == [[0.5, 0.5], [0.0, 1.0]]


@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 14), st.integers(1, 14)), elements=st.floats(1, 1e4, width=32)
    ),
    st.integers(0, 60),
    st.integers(0, 8),
    st.integers(0, 2**32),
)
def test_points_are_labelled_unlike_and_away_from_the_border(depth_m, count, border_px, seed):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, depth_m.shape).astype(np.uint8)
    depth_m[rng.random(depth_m.shape) < 0.2] = np.nan
    xy, labels, depths = sample_points(depth_m, label, count, border_px, rng)
    height, width = depth_m.shape
    allowed = {
        (x, y)
        for x in range(width)
        for y in range(height)
        if min(x, y, width - 1 - x, height - 1 - y) >= border_px
        and label[y, x] != 2
        and not math.isnan(depth_m[y, x])
    }
    drawn = [tuple(point) for point in xy.astype(int).tolist()]
    assert set(drawn) <= allowed
    assert len(set(drawn)) == len(drawn) == min(count, len(allowed))
    assert labels.tolist() == [label[y, x] for x, y in drawn]
    assert depths.tolist() == [depth_m[y, x] for x, y in drawn]
    assert (xy.dtype, labels.dtype, depths.dtype) == (np.float64, np.uint8, np.float64)


def test_near_ground_does_not_dominate():
    """Of four depths with 90, 9, 0.9 and 0.1 % of the pixels each gets a quarter of the points."""
    depth_m = np.full((100, 100), 20.0)
    flat = depth_m.reshape(-1)
    flat[:900], flat[900:990], flat[990:1000] = 300.0, 4000.0, 30_000.0
    label = np.ones(depth_m.shape, np.uint8)
    counts = dict.fromkeys((20.0, 300.0, 4000.0, 30_000.0), 0)
    n_tries = 1200
    for seed in range(n_tries):
        for depth in sample_points(depth_m, label, 2, 0, np.random.default_rng(seed))[2]:
            counts[depth] += 1
    expected = n_tries * 2 / 4
    for count in counts.values():  # four standard deviations of a binomial; the ten rare pixels run dry a bit
        assert abs(count - expected) < 4 * math.sqrt(expected * 0.75) + 0.02 * expected


def test_points_are_uniform_over_log_depth():
    """Log depth grows with the square root of the row: far pixels are many, far points are not."""
    share = (np.arange(800)[:, None] + np.arange(600)[None, :] / 600) / 800
    depth_m = 10.0 * 1000.0 ** np.sqrt(share)
    label, edges = np.ones(depth_m.shape, np.uint8), np.linspace(math.log(10), math.log(1e4), 11)
    samples = [sample_points(depth_m, label, 1000, 0, np.random.default_rng(seed))[2] for seed in range(4)]
    counts = np.histogram(np.log(np.concatenate(samples)), bins=edges)[0]
    pixels = np.histogram(np.log(depth_m), bins=edges)[0]
    assert pixels.max() / pixels.min() > 15
    assert counts.min() > 0.8 * 400
    assert counts.max() < 1.2 * 400


def test_probabilities_without_replacement_worked_by_hand():
    """Three pixels of one bin and one of another: weights 1/3, 1/3, 1/3, 1.

    The lone one is drawn first with 1 / 2, second with 1 / 2 * 1 / (1 + 2 / 3) = 3 / 10: 4 / 5 within two.
    """
    depth_m, label = np.array([[10.0, 10.0, 10.0, 5000.0]]), np.ones((1, 4), np.uint8)
    first, within_two, n_tries = 0, 0, 6000
    for seed in range(n_tries):
        xy = sample_points(depth_m, label, 2, 0, np.random.default_rng(seed))[0]
        first += xy[0, 0] == 3
        within_two += (xy[:, 0] == 3).any()
    assert abs(first / n_tries - 0.5) < 0.03
    assert abs(within_two / n_tries - 0.8) < 0.025


def test_a_larger_sample_begins_with_the_smaller_one():
    rng = np.random.default_rng(3)
    depth_m, label = rng.uniform(10, 1e4, (40, 50)), rng.integers(0, 2, (40, 50)).astype(np.uint8)
    small = sample_points(depth_m, label, 20, 4, np.random.default_rng(1))[0]
    large = sample_points(depth_m, label, 300, 4, np.random.default_rng(1))[0]
    np.testing.assert_array_equal(large[:20], small)


def test_maps_that_do_not_fit_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"one size \[h, w\], got \(3, 4\) and \(4, 3\)"):
        sample_points(np.ones((3, 4)), np.ones((4, 3), np.uint8), 1, 0, rng)
    with pytest.raises(ValueError, match="0 or more, got 5 and -1"):
        sample_points(np.ones((3, 4)), np.ones((3, 4), np.uint8), 5, -1, rng)
