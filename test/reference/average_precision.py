"""Average precision of keypoints, written slowly: one image, channel and threshold after the other."""

import math

import numpy as np


def similarity(detection, target, area=None, sigma=None):
    """Return how near two points `(x, y)` are: minus the distance, or with an area the log of the OKS.

    Of the log, since two different exponents may have the same exponential and would tie.
    """
    squared = (detection[0] - target[0]) ** 2 + (detection[1] - target[1]) ** 2
    if area is None:
        return -math.sqrt(squared)
    return -squared / (2 * area * (2 * sigma) ** 2)


def take_targets(detections, scores, targets, threshold, *, areas=None, sigmas=None):
    """Let detections, best score first, take the nearest free target; return the indices that take one.

    Args:
        detections: Points by index, a dictionary.
        threshold: Least similarity of a match: minus the pixels, or the log of an OKS.
    """
    areas = [None] * len(targets) if areas is None else areas
    sigmas = [None] * len(targets) if sigmas is None else sigmas
    free = sorted(range(len(targets)), key=lambda j: (*targets[j], (areas[j] or 0) * (sigmas[j] or 0) ** 2))
    table = {
        (i, j): similarity(detection, targets[j], areas[j], sigmas[j])
        for i, detection in detections.items()
        for j in free
    }

    def place(i):
        nearest = max((table[i, j] for j in range(len(targets))), default=-math.inf)
        return (-scores[i], -nearest, *detections[i])

    taking = set()
    for i in sorted(detections, key=place):
        best = max(free, key=lambda j: table[i, j], default=None)
        if best is not None and table[i, best] >= threshold:
            free.remove(best)
            taking.add(i)
    return taking


def true_positives(detections, scores, targets, threshold, **sizes):
    """Match one image and channel; return `[(score, is_true_positive)]`; see `take_targets`."""
    hits = take_targets(dict(enumerate(detections)), scores, targets, threshold, **sizes)
    return [(score, i in hits) for i, score in enumerate(scores)]


def inside(point, boxes):
    """Tell whether a point, counted from the centre of a pixel, is in a box counted from the corner."""
    x, y = point[0] + 0.5, point[1] + 0.5
    return any(left <= x <= left + width and top <= y <= top + height for left, top, width, height in boxes)


def counted_detections(detections, scores, targets, ignored, threshold, *, boxes=(), areas=None, sigmas=None):
    """Match one image and channel; return `[(score, is_true_positive)]` of the detections that count.

    Args:
        ignored: For each target, whether it is neither to be found nor false.
        boxes: Regions (x, y, width, height) in which a detection is not false.
    """

    def take(points, of_ignored):
        chosen = [j for j, flag in enumerate(ignored) if flag == of_ignored]
        sizes = {"areas": areas, "sigmas": sigmas}
        sizes = {name: values and [values[j] for j in chosen] for name, values in sizes.items()}
        return take_targets(points, scores, [targets[j] for j in chosen], threshold, **sizes)

    hits = take(dict(enumerate(detections)), False)
    rest = {i: xy for i, xy in enumerate(detections) if i not in hits and not inside(xy, boxes)}
    false = set(rest) - take(rest, True)
    return [(score, i in hits) for i, score in enumerate(scores) if i in hits or i in false]


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
    preds,
    scores,
    target,
    visibility,
    thresholds,
    *,
    areas=None,
    sigma=None,
    interpolation="all",
    ignored=None,
    regions=None,
):
    """Return the AP table `[c, t]`; NumPy arrays shaped as for `keypoint_average_precision`.

    Args:
        areas: `[n, c, m]` for OKS thresholds, else None.
        sigma: The keypoint constant for OKS, one or `[n, c, m]`.
        ignored: `[n, c, m]` booleans, or None.
        regions: `[n, r, 4]` boxes, or None.
    """
    n, c = preds.shape[:2]
    ignored = np.zeros(target.shape[:3], dtype=bool) if ignored is None else ignored
    sigmas = np.broadcast_to(1.0 if sigma is None else sigma, target.shape[:3])
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
                num_targets += sum(not ignored[image, channel, j] for j in there)
                found += counted_detections(
                    [tuple(preds[image, channel, i].tolist()) for i in kept],
                    [float(scores[image, channel, i]) for i in kept],
                    [tuple(target[image, channel, j].tolist()) for j in there],
                    [bool(ignored[image, channel, j]) for j in there],
                    -threshold if areas is None else math.log(threshold),
                    boxes=[]
                    if regions is None
                    else [box for box in regions[image] if np.isfinite(box).all()],
                    areas=None if areas is None else [float(areas[image, channel, j]) for j in there],
                    sigmas=None if areas is None else [float(sigmas[image, channel, j]) for j in there],
                )
            table[channel, column] = area_under_curve(found, num_targets, interpolation)
    return table
