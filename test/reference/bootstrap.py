"""Bootstrap intervals, written slowly: one number, one image, one resample at a time."""

import math
from statistics import NormalDist

import numpy as np

NORMAL = NormalDist()


def draw(num_units, n_resamples, seed):
    """Return how often each unit counts in each resample, from the raw bits of the generator."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(0,)))
    rows = []
    for _ in range(n_resamples):
        counts = [0] * num_units
        for _ in range(num_units):
            counts[int((int(bits.random_raw()) >> 11) / 2**53 * num_units)] += 1
        rows.append(counts)
    return rows


def quantile(values, p):
    """Return the value at place (m + 1) p of the sorted values, counted from 1."""
    ordered = sorted(values)
    place = min(max((len(ordered) + 1) * p, 1), len(ordered))
    left = math.floor(place)
    if left == len(ordered):
        return ordered[-1]
    return ordered[left - 1] * (left + 1 - place) + ordered[left] * (place - left)


def bias(values, estimate):
    """Return z0."""
    below = sum(value < estimate for value in values) + sum(value == estimate for value in values) / 2
    return NORMAL.inv_cdf(min(max(below, 0.5), len(values) - 0.5) / len(values))


def acceleration(jackknife):
    """Return the acceleration from the defined leave-one-out numbers."""
    defined = [value for value in jackknife if not math.isnan(value)]
    mean = math.fsum(defined) / len(defined)
    squares = math.fsum((mean - value) ** 2 for value in defined)
    cubes = math.fsum((mean - value) ** 3 for value in defined)
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def bca_level(p, z0, a):
    """Return the level at which the resamples are read instead of p."""
    shifted = z0 + NORMAL.inv_cdf(p)
    if 1 - a * shifted <= 0:
        return 1.0 if shifted > 0 else 0.0
    return NORMAL.cdf(z0 + shifted / (1 - a * shifted))


def interval(values, estimate, jackknife, level, method):
    """Return the ends of the interval of one number."""
    defined = [value for value in values if not math.isnan(value)]
    too_few = len(jackknife) < 2 or len(defined) < 0.8 * len(values)
    if math.isnan(estimate) or too_few:
        return math.nan, math.nan
    levels = [(1 - level) / 2, (1 + level) / 2]
    if method == "bca":
        z0, a = bias(defined, estimate), acceleration(jackknife)
        levels = [bca_level(p, z0, a) for p in levels]
    return tuple(quantile(defined, p) for p in levels)


def p_value(values, estimate, jackknife):
    """Return 1 minus the level of the widest interval that excludes 0, found by bisection of the level."""
    inside, outside = 1.0, 0.0
    for _ in range(60):
        level = (inside + outside) / 2
        low, high = interval(values, estimate, jackknife, level, "bca")
        if low <= 0 <= high:
            inside = level
        else:
            outside = level
    return 1 - inside
