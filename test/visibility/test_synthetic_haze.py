"""Haze follows Koschmieder's law to the digit, and texture is lost where the labels say so."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.visibility.synthetic_haze import (
    Weather,
    draw_weather,
    hazed,
    lit_ground,
    photograph,
    radiance,
    transmission,
)
from keypoint_detection.visibility.synthetic_terrain import View, draw_view

HW = (256, 384)


@pytest.fixture(scope="module")
def views():
    return [draw_view(HW, np.random.default_rng([3, index])) for index in range(3)]


def weather_of(visibility_m, noise_levels=0.0, brightness=0.75):
    air, sun = np.full(3, brightness, np.float32), np.array([0, 0, 1], np.float32)
    return Weather(visibility_m, air, sun, sunlight=0.5, exposure=1.0, noise_levels=noise_levels)


def test_contrast_at_the_limit_is_two_percent():
    left = transmission(np.array([0.0, 500.0, 1000.0, 2000.0]), 1000.0)
    np.testing.assert_allclose(left, [1.0, math.sqrt(0.02), 0.02, 0.0004], rtol=3e-4)
    assert math.exp(-3.912) == pytest.approx(0.02, abs=2e-6)


def test_a_hazed_colour_worked_by_hand():
    """At half the limit t = 0.1414: black ground before air of 0.8 is 0.8 * 0.8586 = 0.6869."""
    seen = hazed(np.array([[0.0, 0.4, 1.0]]), np.array([500.0]), 1000.0, np.array([0.8, 0.8, 0.6]))
    np.testing.assert_allclose(seen, [[0.6869, 0.7434, 0.6566]], atol=1e-4)


@given(st.floats(10, 1e5), st.floats(10, 1e5), st.floats(0, 1), st.floats(0.3, 1))
def test_haze_is_a_mixture_of_ground_and_air(distance_m, visibility_m, ground, air):
    seen = hazed(np.array([[ground]]), np.array([distance_m]), visibility_m, np.array([air]))[0, 0]
    t = math.exp(-3.912 * distance_m / visibility_m)
    assert seen == pytest.approx(ground * t + air * (1 - t), abs=1e-12)


def test_every_ground_pixel_is_j_t_plus_a_one_minus_t(views):
    for index, view in enumerate(views):
        weather = draw_weather(view.depth_m, np.random.default_rng(index))
        seen = radiance(view, weather, np.random.default_rng(0))
        ground = np.isfinite(view.depth_m)
        clean = lit_ground(view, weather)[ground].astype(np.float64)
        t = np.exp(-3.912 * view.depth_m[ground].astype(np.float64) / weather.visibility_m)[:, None]
        np.testing.assert_allclose(seen[ground], clean * t + weather.air * (1 - t), atol=2e-6)


def test_light_of_the_sun_worked_by_hand():
    """Facing the sun: 0.5 + 1.25 * 0.5 of the albedo; turned away: 0.5; half turned: 0.8125."""
    normals = np.array([[[0, 0, 1], [0, 0, 0], [0, math.sqrt(0.75), 0.5]]], np.float32)
    view = View(
        np.ones((1, 3), np.float32),
        np.full((1, 3, 3), 0.4, np.float32),
        normals,
        np.zeros((1, 3), np.float32),
    )
    lit = lit_ground(view, weather_of(1000.0))
    np.testing.assert_allclose(lit[0, :, 0], [0.4 * 1.125, 0.4 * 0.5, 0.4 * 0.8125], rtol=1e-5)


def test_visibility_is_log_uniform_within_the_depths_of_the_view(views):
    for view in views:
        drawn = [draw_weather(view.depth_m, np.random.default_rng([1, n])).visibility_m for n in range(150)]
        low, high = np.quantile(np.log(view.depth_m[np.isfinite(view.depth_m)]), [0.25, 0.9])
        places = np.sort((np.log(drawn) - low) / (high - low))
        # Kolmogorov and Smirnov: 1.63 / sqrt(150) is exceeded once in a hundred
        assert np.abs(places - (np.arange(150) + 0.5) / 150).max() < 1.63 / math.sqrt(150)
        shares = [np.nanmean(np.where(np.isnan(view.depth_m), np.nan, view.depth_m < v)) for v in drawn]
        assert min(shares) > 0.24
        assert max(shares) < 0.91


def windows_at(view, visibility_m, ratio, size=7):
    """Return slices of windows whose ground lies at `ratio` times the limit, within 10 %."""
    height, width = view.depth_m.shape
    for y in range(0, height - size, size):
        for x in range(0, width - size, size):
            place = np.s_[y : y + size, x : x + size]
            if (np.abs(np.log(view.depth_m[place] / (ratio * visibility_m))) < 0.1).all():  # False for sky
                yield place


def contrast_over_noise(views, ratio):
    """Return the median over windows of texture (without noise) over the deviation of the noise."""
    contrasts = []
    for number, view in enumerate(views):
        for visibility_m in np.exp(np.nanquantile(np.log(view.depth_m), [0.3, 0.45, 0.6])):
            weather = replace(
                draw_weather(view.depth_m, np.random.default_rng(number)), visibility_m=visibility_m
            )
            pure = 255 * radiance(view, weather, np.random.default_rng(0))[..., 1].astype(np.float64)
            contrasts += [pure[w].std() / weather.noise_levels for w in windows_at(view, visibility_m, ratio)]
    assert len(contrasts) > 30
    return float(np.median(contrasts))


def test_texture_is_evident_nearer_than_the_limit_and_gone_beyond(views):
    half, limit, double = (contrast_over_noise(views, ratio) for ratio in (0.5, 1.0, 2.0))
    assert half > 1.0
    assert 0.05 < limit < 1.0
    assert double < 0.05
    # contrast falls as the law says: by sqrt(0.02) and 0.02
    assert limit / half == pytest.approx(math.sqrt(0.02), rel=0.45)


def test_beyond_twice_the_limit_ground_is_the_colour_of_the_air_within_half_a_level(views):
    for view in views:
        visibility_m = float(np.exp(np.nanquantile(np.log(view.depth_m), 0.4)))
        seen = 255 * radiance(view, weather_of(visibility_m), np.random.default_rng(0))
        beyond = view.depth_m > 2 * visibility_m
        assert beyond.sum() > 100
        assert np.abs(seen[beyond] - 255 * 0.75).max() < 0.5


def test_a_skyline_beyond_the_limit_does_not_stand_out(views):
    for view in views:
        is_sky = np.isnan(view.depth_m)
        rim = is_sky[:-1] & ~is_sky[1:]  # sky right above ground
        seen = 255 * radiance(view, weather_of(float(np.nanmedian(view.depth_m))), np.random.default_rng(0))
        far = rim & (view.depth_m[1:] > 2 * np.nanmedian(view.depth_m))
        assert far.any()
        assert np.abs(seen[:-1][far] - seen[1:][far]).max() < 1.0


def test_noise_is_that_of_the_sensor(views):
    weather = weather_of(50.0, noise_levels=1.6)  # thick fog: even but for the noise
    picture = photograph(views[0], weather, np.random.default_rng(4))
    assert (picture.dtype, picture.shape) == (np.uint8, (*HW, 3))
    upper = picture[:100].astype(np.float64)
    assert upper.mean() == pytest.approx(255 * 0.75, abs=0.1)
    assert upper.std() == pytest.approx(math.hypot(1.6, math.sqrt(1 / 12)), abs=0.05)
    np.testing.assert_array_equal(picture, photograph(views[0], weather, np.random.default_rng(4)))


def test_a_picture_without_sky(views):
    view = views[0]
    lower = View(*(part[150:] for part in (view.depth_m, view.albedo, view.normals, view.above_skyline)))
    assert not np.isnan(lower.depth_m).any()
    assert photograph(lower, weather_of(1e4), np.random.default_rng(0)).shape == (HW[0] - 150, HW[1], 3)
