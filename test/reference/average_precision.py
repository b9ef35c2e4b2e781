"""Average precision of keypoints, written slowly: one image, channel and threshold after the other."""

import math

import numpy as np


def similarity(detection, target, area=None, sigma=None):
    """Return how near two points `(x, y)` are: minus the distance, or the OKS when there is an area."""
    squared = (detection[0] - target[0]) ** 2 + (detection[1] - target[1]) ** 2
    if area is None:
        return -math.sqrt(squared)
    return math.exp(-squared / (2 * area * (2 * sigma) ** 2))


def true_positives(detections, scores, targets, threshold, *, areas=None, sigma=None):
    """Match one image and channel; return `[(score, is_true_positive)]`.

    `threshold` is the least similarity of a match: minus the pixels, or an OKS.
    """
    areas = [None] * len(targets) if areas is None else areas
    free = sorted(range(len(targets)), key=lambda j: (*targets[j], areas[j] or 0))
    table = {
        (i, j): similarity(detection, targets[j], areas[j], sigma)
        for i, detection in enumerate(detections)
        for j in free
    }

    def place(i):
        nearest = max((table[i, j] for j in range(len(targets))), default=-math.inf)
        return (-scores[i], -nearest, *detections[i])

    found = []
    for i in sorted(range(len(detections)), key=place):
        best = max(free, key=lambda j: table[i, j], default=None)
        hit = best is not None and table[i, best] >= threshold
        if hit:
            free.remove(best)
        found.append((scores[i], hit))
    return found


def area_under_curve(found, num_targets, interpolation="all"):
    """Return the AP of `[(score, is_true_positive)]`: equal scores enter the curve together."""
    if num_targets == 0:
        return math.nan
    curve, hits = [], 0
    found = sorted(found, key=lambda pair: -pair[0])
    for i, (score, hit) in enumerate(found):
        hits += hit
        if i + 1 == len(found) or found[i + 1][0] != score:
            curve.append((hits, hits / (i + 1)))
    for i in range(len(curve) - 2, -1, -1):
        curve[i] = (curve[i][0], max(curve[i][1], curve[i + 1][1]))
    if interpolation == "101":
        levels = [i * 0.01 for i in range(101)]
        return sum(next((p for h, p in curve if h / num_targets >= level), 0.0) for level in levels) / 101
    total, before = 0.0, 0
    for hits, precision in curve:
        total += (hits - before) * precision
        before = hits
    return total / num_targets


def average_precision(
    preds, scores, target, visibility, thresholds, *, areas=None, sigma=None, interpolation="all"
):
    """Return the AP table `[c, t]`; NumPy arrays shaped as for `keypoint_average_precision`.

    Args:
        areas: `[n, c, m]` for OKS thresholds, else None.
        sigma: The keypoint constant for OKS.
    """
    n, c = preds.shape[:2]
    table = np.full((c, len(thresholds)), np.nan)
    for channel in range(c):
        for column, threshold in enumerate(thresholds):
            found, num_targets = [], 0
            for image in range(n):
                kept = [i for i, xy in enumerate(preds[image, channel]) if np.isfinite(xy).all()]
                there = [
                    j
                    for j, xy in enumerate(target[image, channel])
                    if visibility[image, channel, j] > 0 and np.isfinite(xy).all()
                ]
                num_targets += len(there)
                found += true_positives(
                    [tuple(preds[image, channel, i].tolist()) for i in kept],
                    [float(scores[image, channel, i]) for i in kept],
                    [tuple(target[image, channel, j].tolist()) for j in there],
                    -threshold if areas is None else threshold,
                    areas=None if areas is None else [float(areas[image, channel, j]) for j in there],
                    sigma=sigma,
                )
            table[channel, column] = area_under_curve(found, num_targets, interpolation)
    return table
