"""Slow, obvious heatmaps: every pixel from every keypoint, and peaks by flooding plateaus pixel by pixel."""

import math

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float64]


def draw_heatmap(
    keypoints: NDArray[np.float64],
    visibility: NDArray[np.float64],
    heatmap_hw: tuple[int, int],
    sigma_px: float,
) -> Map:
    """Return one map `[h, w]`: in each pixel the highest Gaussian of the keypoints `[k, 2]`."""
    heatmap = np.zeros(heatmap_hw)
    for row in range(heatmap_hw[0]):
        for column in range(heatmap_hw[1]):
            for (x, y), flag in zip(keypoints, visibility, strict=True):
                if flag > 0 and math.isfinite(x) and math.isfinite(y):
                    squared = (column - x) ** 2 + (row - y) ** 2
                    heatmap[row, column] = max(heatmap[row, column], math.exp(-squared / (2 * sigma_px**2)))
    return heatmap


def find_peaks(heatmap: Map, min_distance_px: int, threshold: float) -> list[tuple[float, float, float]]:
    """Return `(x, y, score)` of every peak of a map `[h, w]`, best first, equal scores in reading order.

    A plateau is at its centre of mass, but competes with its middle pixel in reading order.
    """
    heatmap = np.where(np.isnan(heatmap), -np.inf, heatmap)
    plateaus = [plateau for plateau in _plateaus(heatmap, threshold) if _is_top(heatmap, plateau)]
    middles = [plateau[len(plateau) // 2] for plateau in plateaus]
    peaks = []
    for plateau, (row, column) in zip(plateaus, middles, strict=True):
        score = heatmap[row, column]
        rows = slice(max(row - min_distance_px, 0), row + min_distance_px + 1)
        columns = slice(max(column - min_distance_px, 0), column + min_distance_px + 1)
        rivals = [
            other
            for other in middles
            if max(abs(other[0] - row), abs(other[1] - column)) <= min_distance_px
            and heatmap[other] == score
            and other < (row, column)
        ]
        if heatmap[rows, columns].max() <= score and not rivals:
            y, x = np.mean(plateau, axis=0)
            peaks.append(((row, column), (float(x), float(y), float(score))))
    return [peak for _, peak in sorted(peaks, key=lambda item: (-item[1][2], item[0]))]


def _around(heatmap: Map, pixel: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the pixels of the map that touch a pixel."""
    return [
        (row, column)
        for row in range(max(pixel[0] - 1, 0), min(pixel[0] + 2, heatmap.shape[0]))
        for column in range(max(pixel[1] - 1, 0), min(pixel[1] + 2, heatmap.shape[1]))
        if (row, column) != pixel
    ]


def _plateaus(heatmap: Map, threshold: float) -> list[list[tuple[int, int]]]:
    """Return the groups of touching equal pixels above the threshold, each in reading order."""
    plateaus, seen = [], set()
    for start in zip(*np.nonzero(heatmap > threshold), strict=True):
        if start in seen:
            continue
        plateau, todo = {start}, [start]
        while todo:
            for pixel in _around(heatmap, todo.pop()):
                if heatmap[pixel] == heatmap[start] and pixel not in plateau:
                    plateau.add(pixel)
                    todo.append(pixel)
        seen |= plateau
        plateaus.append(sorted(plateau))
    return plateaus


def _is_top(heatmap: Map, plateau: list[tuple[int, int]]) -> bool:
    """Tell whether nothing that touches the plateau is higher."""
    return all(heatmap[near] <= heatmap[pixel] for pixel in plateau for near in _around(heatmap, pixel))
