"""Distances of targets to their detections, written slowly: every way of pairing them is tried."""

import itertools
import math

import numpy as np


def partner_distances(detections, scores, targets):
    """Return the distances of the pairs of one image and channel, and how many targets have no partner."""

    def place(i):
        nearest = min((math.dist(detections[i], target) for target in targets), default=math.inf)
        return (-scores[i], nearest, *detections[i])

    best = [detections[i] for i in sorted(range(len(detections)), key=place)[: len(targets)]]
    ways = (
        [math.dist(detection, target) for detection, target in zip(best, chosen, strict=True)]
        for chosen in itertools.permutations(targets, len(best))
    )
    return min(ways, key=math.fsum, default=[]), len(targets) - len(best)


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
