"""Small random detections and targets with many ties, gaps and empty sides, for property tests."""

from typing import NamedTuple

import numpy as np
import torch
from hypothesis import strategies as st


class Case(NamedTuple):
    """Hold NumPy arrays shaped as for a metric's update."""

    preds: np.ndarray
    scores: np.ndarray
    target: np.ndarray
    visibility: np.ndarray
    areas: np.ndarray
    ignored: np.ndarray
    regions: np.ndarray
    sigmas: np.ndarray

    def tensors(self):
        """Return preds, scores, target, visibility as tensors."""
        return tuple(torch.from_numpy(array) for array in self[:4])

    def ignoring(self):
        """Return what is to be ignored as keywords."""
        return {name: torch.from_numpy(getattr(self, name)) for name in ("ignored", "regions")}

    def repeated(self, counts):
        """Return the case with image i `counts[i]` times."""
        return Case(*(np.repeat(array, counts, axis=0) for array in self))

    def shuffled(self, seed):
        """Return the same points with images, detections and targets in another order."""
        rng = np.random.default_rng(seed)
        n, _, k, m = *self.scores.shape, self.target.shape[2]
        images, detections, targets = rng.permutation(n), rng.permutation(k), rng.permutation(m)
        return Case(
            self.preds[images][:, :, detections],
            self.scores[images][:, :, detections],
            self.target[images][:, :, targets],
            self.visibility[images][:, :, targets],
            self.areas[images][:, :, targets],
            self.ignored[images][:, :, targets],
            self.regions[images][:, rng.permutation(self.regions.shape[1])],
            self.sigmas[images][:, :, targets],
        )


def make_case(seed, sizes, grid=6, score_levels=4):
    """Draw a case of `sizes` (n, c, k, m); integer points on a small grid, or real ones without a grid."""
    rng = np.random.default_rng(seed)
    n, c, k, m = sizes

    def points(count):
        return (
            rng.integers(0, grid, (n, c, count, 2)).astype(float)
            if grid
            else rng.random((n, c, count, 2)) * 20
        )

    preds, target = points(k), points(m)
    preds[rng.random((n, c, k)) < 0.2] = np.nan
    visibility = rng.integers(0, 3, (n, c, m)).astype(np.uint8)
    target[(visibility == 0) & (rng.random((n, c, m)) < 0.5)] = np.nan
    scores = rng.integers(0, score_levels, (n, c, k)) / 4 if score_levels else rng.random((n, c, k))
    areas = rng.choice([4.0, 9.0, 16.0], (n, c, m))
    ignored = rng.random((n, c, m)) < 0.4
    corners, sides = rng.integers(-1, 6, (n, 2, 2)), rng.integers(0, 4, (n, 2, 2))
    regions = np.concatenate([corners, sides], axis=2) + rng.choice([0.0, 0.5], (n, 2, 4))
    regions[rng.random((n, 2)) < 0.6] = np.nan
    return Case(
        preds, scores, target, visibility, areas, ignored, regions, rng.choice([0.15, 0.3, 0.6], (n, c, m))
    )


def cases(**options):
    """Return a hypothesis strategy of cases; a side may be empty."""
    sizes = st.tuples(*(st.integers(low, high) for low, high in ((0, 6), (1, 3), (0, 6), (0, 5))))
    return st.builds(lambda seed, shape: make_case(seed, shape, **options), st.integers(0, 10**6), sizes)
