"""Light and air over drawn ground: sun, clouds, sky, and haze that follows Koschmieder's law exactly.

Ground of colour J at distance d has the colour `J t + A (1 - t)` with `t = exp(-3.912 d / V)`: A is the
colour of the air (the sky at the horizon), V the visibility in metres. At d = V the contrast against the
horizon is 2 % of what it is close by; below that the eye is said to see nothing (ln 0.02 = -3.912).
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keypoint_detection.visibility.synthetic_cover import mixed, noise, soft
from keypoint_detection.visibility.synthetic_terrain import View

Floats = NDArray[np.float32]

CONTRAST_EXPONENT = 3.912
"""`-ln(0.02)`: the optical depth at which 2 % of the contrast is left."""

_SKY_HEIGHT = 0.07
"""Share of the picture's height over which the air in front of the sky gets thinner by a factor e."""


@dataclass(frozen=True)
class Weather:
    """Hold what differs between the images of one view.

    Attributes:
        visibility_m: Koschmieder's V in metres.
        air: Colour of the haze, `[3]`, 0..1.
        sun: Unit vector towards the sun (right, away, up), `[3]`.
        sunlight: Share of the light that comes from the sun, 0..1.
        exposure: Brightness of the ground, about 1.
        noise_levels: Standard deviation of the sensor's noise in grey levels of 255.
    """

    visibility_m: float
    air: Floats
    sun: Floats
    sunlight: float
    exposure: float
    noise_levels: float


def draw_weather(depth_m: Floats, rng: np.random.Generator) -> Weather:
    """Draw the weather of one image; V is log-uniform between the 25th and 90th percentile of log depth.

    The nearest ground lies along the lower border, where no points are sampled: V is beyond it, so that both
    visible and not visible points occur in every image.

    Args:
        depth_m: Depth of the view, `[h, w]`; NaN is sky.
        rng: Source of every choice.
    """
    low, high = np.quantile(np.log(depth_m[np.isfinite(depth_m)]), [0.25, 0.9])
    azimuth, elevation = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 1.1)
    flat = math.cos(elevation)
    sun = (flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation))
    brightness, warmth = rng.uniform(0.66, 0.86), rng.uniform(-0.035, 0.025)
    return Weather(
        visibility_m=float(math.exp(rng.uniform(low, high))),
        air=np.array([brightness + warmth, brightness + 0.2 * warmth, brightness - warmth], dtype=np.float32),
        sun=np.array(sun, dtype=np.float32),
        sunlight=float(rng.uniform(0.35, 0.75)),
        exposure=float(rng.uniform(0.9, 1.25)),
        noise_levels=float(rng.uniform(1.0, 2.0)),
    )


def transmission(distance_m: NDArray[np.floating], visibility_m: float) -> NDArray[np.floating]:
    """Return the share of contrast that the air leaves, `exp(-3.912 d / V)`, of the same shape."""
    return np.exp(distance_m * np.asarray(-CONTRAST_EXPONENT / visibility_m, dtype=distance_m.dtype))


def hazed(
    ground: NDArray[np.floating],
    depth_m: NDArray[np.floating],
    visibility_m: float,
    air: NDArray[np.floating],
) -> NDArray[np.floating]:
    """Return `J t + A (1 - t)`.

    Args:
        ground: Colour without air J, `[..., c]`.
        depth_m: Metres, `[...]`.
        visibility_m: V in metres.
        air: Colour of the haze A, `[c]`.
    """
    left = transmission(depth_m, visibility_m)[..., None]
    return air + left * (ground - air)


def lit_ground(view: View, weather: Weather) -> Floats:
    """Return the colour of the ground in this light without air (J), `[h, w, 3]`; 0 in the sky."""
    shade = np.maximum(view.normals @ weather.sun, 0.0)
    light = weather.exposure * ((1.0 - weather.sunlight) + 1.25 * weather.sunlight * shade)
    return np.minimum(view.albedo * light.astype(np.float32)[..., None], np.float32(1.0))


def clear_sky(shape: tuple[int, int], air: Floats, rng: np.random.Generator) -> Floats:
    """Return the sky without haze, blue with clouds, `[h, w, 3]`; `air` is the colour of the haze, `[3]`."""
    clouds = np.full(shape, rng.uniform(-1.4, 0.6), dtype=np.float32)
    for size, weight in ((0.5, 1.0), (0.2, 0.7), (0.07, 0.4), (0.03, 0.2)):
        clouds += np.float32(weight) * noise(shape, (0.25 * size * shape[1], size * shape[1]), rng)
    share = np.float32(0.85) * soft(clouds, 0.9)
    blue = np.array([0.36, 0.55, 0.82], np.float32) * np.float32(air.mean() / 0.76)
    return mixed(np.broadcast_to(blue, (*shape, 3)), np.minimum(air * np.float32(1.12), 1.0), share)


def radiance(view: View, weather: Weather, rng: np.random.Generator) -> Floats:
    """Return the picture of a view before the sensor's noise, RGB `[h, w, 3]`, 0..1.

    The sky lies behind all ground: the air in front of it is at the skyline as thick as 1.5 times the depth
    of the farthest ground, so that ground beyond V has nothing to stand out against, and thinner higher up.
    """
    is_sky, colors, distance_m = np.isnan(view.depth_m), lit_ground(view, weather), view.depth_m
    if is_sky.any():
        farthest_m = np.float32(1.5 * np.nanmax(view.depth_m))
        distance_m = np.where(is_sky, farthest_m * np.exp(view.above_skyline / -_SKY_HEIGHT), view.depth_m)
        rows = int(np.flatnonzero(is_sky.any(axis=1))[-1]) + 1
        sky = clear_sky((rows, is_sky.shape[1]), weather.air, rng)
        np.copyto(colors[:rows], sky, where=is_sky[:rows, :, None])
    return hazed(colors, distance_m, weather.visibility_m, weather.air).astype(np.float32, copy=False)


def photograph(view: View, weather: Weather, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return the picture of a view in some weather, RGB `[h, w, 3]`, with the sensor's noise."""
    image = np.float32(255.0) * radiance(view, weather, rng)
    image += np.float32(weather.noise_levels) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(np.clip(image, 0.0, 255.0)).astype(np.uint8)
