"""Distances of targets to their detections, written slowly: every way of pairing them is tried."""

import itertools
import math

import numpy as np


def rows_of_group(detections, scores, targets):
    """Return the distance of each target of one image and channel to its partner, NaN for those without."""

    def place(i):
        nearest = min((math.dist(detections[i], target) for target in targets), default=math.inf)
        return (-scores[i], nearest, *detections[i])

    best = [detections[i] for i in sorted(range(len(detections)), key=place)[: len(targets)]]
    ways = []
    for chosen in itertools.permutations(range(len(targets)), len(best)):
        row = [math.nan] * len(targets)
        for detection, index in zip(best, chosen, strict=True):
            row[index] = math.dist(detection, targets[index])
        ways.append((math.fsum(d for d in row if not math.isnan(d)), row))
    return min(ways, key=lambda way: way[0])[1]


def partner_distances(detections, scores, targets):
    """Return the distances of the pairs of one image and channel, and how many targets have no partner."""
    row = rows_of_group(detections, scores, targets)
    found = [distance for distance in row if not math.isnan(distance)]
    return found, len(row) - len(found)


def keypoint_errors(preds, scores, target, visibility):
    """Return the distances of each channel over all images, and the number of its missed targets."""
    n, c = preds.shape[:2]
    distances, missed = [[] for _ in range(c)], [0] * c
    for image, channel in itertools.product(range(n), range(c)):
        kept = np.isfinite(preds[image, channel]).all(-1)
        there = (visibility[image, channel] > 0) & np.isfinite(target[image, channel]).all(-1)
        found, without = partner_distances(
            [tuple(xy) for xy in preds[image, channel][kept].tolist()],
            scores[image, channel][kept].tolist(),
            [tuple(xy) for xy in target[image, channel][there].tolist()],
        )
        distances[channel] += found
        missed[channel] += without
    return distances, missed


def error_rows(preds, scores, target, visibility, *, ignored=None, length=None):
    """Return (image, channel, distance, length) of every target that counts; NaN where missed or undefined.

    `length` is `[n, c, m]`, or None for 1 pixel. Where several pairings are best, one of them.
    """
    rows = []
    for image, channel in itertools.product(*map(range, preds.shape[:2])):
        kept = np.isfinite(preds[image, channel]).all(-1)
        there = (visibility[image, channel] > 0) & np.isfinite(target[image, channel]).all(-1)
        distances = rows_of_group(
            [tuple(xy) for xy in preds[image, channel][kept].tolist()],
            scores[image, channel][kept].tolist(),
            [tuple(xy) for xy in target[image, channel][there].tolist()],
        )
        for index, distance in zip(there.nonzero()[0], distances, strict=True):
            if ignored is not None and ignored[image, channel, index]:
                continue
            long = 1.0 if length is None else float(length[image, channel, index])
            rows.append((image, channel, distance, long if 0 < long < math.inf else math.nan))
    return rows


def mean_of(values):
    """Return the mean of some numbers, NaN of none."""
    values = list(values)
    return math.fsum(values) / len(values) if values else math.nan


def correct_share(rows, alpha):
    """Return PCK of `error_rows`: distance < alpha * length among the rows with a length."""
    return mean_of(distance < alpha * long for _, _, distance, long in rows if not math.isnan(long))


def pck_area(rows, alpha, steps=4000):
    """Return the mean of PCK over limits between 0 and alpha, by midpoints."""
    return mean_of(correct_share(rows, (step + 0.5) / steps * alpha) for step in range(steps))


def image_rmse(rows):
    """Return the root mean square distance of each image with a pair, averaged over those images."""
    squares = {}
    for image, _, distance, _ in rows:
        if not math.isnan(distance):
            squares.setdefault(image, []).append(distance * distance)
    return mean_of(math.sqrt(mean_of(image)) for image in squares.values())
