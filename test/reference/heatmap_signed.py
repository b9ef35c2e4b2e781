"""Slow, obvious signed heatmaps: in every pixel the Gaussian that is furthest from 0."""

import math

import numpy as np
from numpy.typing import NDArray


def draw_signed_heatmap(
    keypoints: NDArray[np.float64],
    visibility: NDArray[np.float64],
    heatmap_hw: tuple[int, int],
    sigma_px: float,
) -> NDArray[np.float64]:
    """Return one map `[h, w]` of keypoints `[k, 2]`: positive for flag 2, negative for 1, 0 is absent."""
    heatmap = np.zeros(heatmap_hw)
    for row in range(heatmap_hw[0]):
        for column in range(heatmap_hw[1]):
            for (x, y), flag in zip(keypoints, visibility, strict=True):
                if not (flag > 0 and math.isfinite(x) and math.isfinite(y)):
                    continue
                height = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma_px**2))
                if height > abs(heatmap[row, column]):
                    heatmap[row, column] = height if flag == 2 else -height
    return heatmap
