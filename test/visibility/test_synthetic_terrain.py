"""Drawn terrain: each pixel's depth is that of the first ground that its line of sight meets."""

import numpy as np
import pytest

from keypoint_detection.visibility.synthetic_cover import noise, soft
from keypoint_detection.visibility.synthetic_terrain import (
    FARTHEST_M,
    NEAREST_M,
    _above_skyline,
    _first_hits,
    _normals,
    draw_view,
)

HW = (192, 288)


@pytest.fixture(scope="module")
def views():
    return [draw_view(HW, np.random.default_rng([7, index])) for index in range(4)]


def slow_hit(profile, aim):
    """Walk along the ground until it rises to the line of sight."""
    if profile[0] >= aim:
        return 0.0
    for step in range(1, len(profile)):
        low, high = profile[step - 1], profile[step]
        if high >= aim:
            return step - 1 + (aim - low) / (high - low)
    return np.nan


def test_first_hits_equal_a_walk_along_each_column():
    rng = np.random.default_rng(0)
    slopes = (np.linspace(-1, 0.4, 30)[:, None] + 0.5 * rng.standard_normal((30, 17))).astype(np.float32)
    rows = np.linspace(1.5, -1.5, 41).astype(np.float32)
    hits = _first_hits(slopes, rows)
    expected = [[slow_hit(slopes[:, column], aim) for column in range(17)] for aim in rows]
    np.testing.assert_allclose(hits, expected, atol=2e-4)
    assert 0.05 < np.isnan(hits).mean() < 0.95


def test_normals_of_a_plane():
    """Ground at height `0.1 right + 0.2 away - 30` has the normal (-0.1, -0.2, 1) amid the view."""
    log_distance = np.linspace(4, 8, 401, dtype=np.float32)
    slope_per_px, columns = 0.01, np.arange(-20, 21, dtype=np.float32)
    slopes = 0.1 * columns * slope_per_px + 0.2 - 30 / np.exp(log_distance)[:, None]
    normal = _normals(slopes.astype(np.float32), log_distance, slope_per_px)[200, 20]
    expected = np.array([-0.1, -0.2, 1]) / np.sqrt(1.05)
    np.testing.assert_allclose(normal, expected, atol=2e-3)


def test_depth_spreads_over_orders_of_magnitude_with_sky_on_top(views):
    for view in views:
        sky = np.isnan(view.depth_m)
        assert 0.03 < sky.mean() < 0.6
        assert sky[0].mean() > 0.5
        assert not sky[-1].any()
        assert (np.diff(sky.astype(int), axis=0) <= 0).all()  # no sky below ground
        log_depth = np.log(view.depth_m[~sky])
        assert log_depth.min() > np.log(NEAREST_M) - 1e-3
        assert log_depth.max() < np.log(FARTHEST_M) + 1e-3
        shares = np.histogram(log_depth, bins=8)[0] / log_depth.size
        assert shares.min() > 0.01
        assert shares.max() < 0.35
        # Ground below is never farther than ground above it: nothing hides behind what lies under it.
        steps = np.diff(np.where(sky, 1e9, view.depth_m), axis=0)
        assert not (steps[~sky[1:] & ~sky[:-1]] > 1e-2).any()


def test_ridges_hide_what_lies_behind_them(views):
    for view in views:
        log_depth = np.log(view.depth_m)
        jumps = -np.diff(log_depth, axis=0)
        assert (np.nan_to_num(jumps) > 0.2).sum() > HW[1] / 4


def test_fields_of_a_view(views):
    for view in views:
        sky = np.isnan(view.depth_m)
        assert view.depth_m.dtype == view.albedo.dtype == view.normals.dtype == np.float32
        assert view.albedo[~sky].min() >= 0.015
        assert view.albedo.max() <= 0.92
        assert (view.albedo[sky] == 0).all()
        lengths = np.linalg.norm(view.normals[~sky], axis=1)
        assert np.median(lengths) > 0.98
        assert view.normals[~sky][:, 2].min() >= 0
        assert (view.above_skyline[~sky] == 0).all()
        assert view.above_skyline.max() > 0.02


def test_views_differ_and_come_back(views):
    again = draw_view(HW, np.random.default_rng([7, 0]))
    np.testing.assert_array_equal(again.albedo, views[0].albedo)
    np.testing.assert_array_equal(again.depth_m, views[0].depth_m)
    colors = np.array([view.albedo[-40:].mean((0, 1)) for view in views])
    for one in range(4):
        for other in range(one):
            assert np.abs(colors[one] - colors[other]).max() > 0.01
            assert np.nanmean(np.abs(np.log(views[one].depth_m / views[other].depth_m))) > 0.1


def test_the_smooth_skyline_is_never_below_the_true_one():
    rng = np.random.default_rng(1)
    is_ground = np.arange(60)[:, None] >= rng.integers(5, 50, 80)[None, :]
    above = _above_skyline(is_ground)
    assert (above[is_ground] == 0).all()
    assert np.abs(np.diff(above, axis=1)).max() < 0.1
    assert above[0].min() > 0


def test_noise_is_standard_and_as_coarse_as_asked():
    for cell in ((3.0, 3.0), (2.0, 9.0), (0.5, 4.0)):
        field = noise((400, 500), cell, np.random.default_rng(0))
        assert field.shape == (400, 500)
        assert abs(field.mean()) < 0.1
        assert 0.75 < field.std() < 1.4
    wide = noise((400, 500), (2.0, 12.0), np.random.default_rng(0))
    assert np.abs(np.diff(wide, axis=0)).mean() > 3 * np.abs(np.diff(wide, axis=1)).mean()


def test_soft_step():
    values = soft(np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), 1.0)
    np.testing.assert_allclose(values, [0, 0, 0.5, 1, 1])
