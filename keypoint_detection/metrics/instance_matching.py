"""Object keypoint similarity, and the greedy matching of instances by it, as COCO defines both."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.metrics.instance_batch import InstanceBatch

AREA_RANGES = np.array([[0.0, 1e5**2], [32.0**2, 96.0**2], [96.0**2, 1e5**2]])
"""All, medium and large objects: least and greatest area in square pixels, both within; `[a, 2]`."""

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""Least similarities of a match, `[t]`."""

MAX_DETECTIONS = 20
"""Only the best detections of an image count."""

PAIRS_AT_ONCE = 2**20
NUMBERS_AT_ONCE = 2**17
"""Bounds of the memory: detection-target pairs of a block of images, and numbers of one table in it."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]


class InstanceMatches(NamedTuple):
    """Hold the best detections of every image, ordered by image and falling score.

    Attributes:
        image: `[d]` int64, index of the image.
        scores: `[d]` float64.
        matched: `[d, a, t]` bool: has a target, counted or ignored, for each area range and threshold.
        ignored: `[d, a, t]` bool: neither right nor wrong.
        num_targets: `[n, a]` int64, targets of each image that count.
    """

    image: Tensor
    scores: Tensor
    matched: Tensor
    ignored: Tensor
    num_targets: Tensor


class Rows(NamedTuple):
    """Say which rows belong to which image, for rows ordered by image.

    Attributes:
        index: `[r]`, the rows themselves.
        image: `[r]`, image of each.
        start: `[n]`, place in `index` of an image's first row.
        count: `[n]`, rows of each image.
    """

    index: Integers
    image: Integers
    start: Integers
    count: Integers


def match_instances(batch: InstanceBatch, sigmas: Sequence[float]) -> InstanceMatches:
    """Match the detections of every image to its targets, for all area ranges and thresholds.

    By falling score each detection takes the most similar free target of at least the threshold, of equal
    ones the last. Targets that count come before ignored ones: crowds (which are never used up), targets
    without labelled keypoints, and those outside the area range. A detection with an ignored target is
    ignored, and so is one without a target whose keypoints span an area outside the range.

    Args:
        batch: Instances of n images on the CPU; scores are not NaN, areas finite and >= 0.
        sigmas: Constants of the k keypoints, > 0, in units of the object's side.

    Source: COCO's keypoint evaluation (cocodataset.org), as pycocotools runs it.
    """
    keypoints, area = batch.keypoints.numpy(), batch.area.numpy()
    targets = _rows(batch.num_targets.numpy())
    found = best_detections(batch.scores.numpy(), _rows(batch.num_detections.numpy()))
    countable = batch.labelled.numpy().any(1) & ~batch.crowd.numpy()
    counted = countable[:, None] & _in_range(area)
    shape = (len(found.index), len(AREA_RANGES), len(OKS_THRESHOLDS))
    matched, ignored = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for images in _blocks(found.count, targets.count):
        oks = instance_similarities(batch, sigmas, *_pairs(images, found, targets))
        start = 0
        for group in _groups_of_equal_size(images, found.count, targets.count):
            rows = _ranges(found.start[group], found.count[group])
            num_pairs = len(rows) * targets.count[group[0]]
            part = oks[start : start + num_pairs].reshape(len(rows), -1)
            start += num_pairs
            labels = _ranges(targets.start[group], targets.count[group]).reshape(len(group), -1)
            of_counted, of_crowd = counted[labels], batch.crowd.numpy()[labels]
            matched[rows], ignored[rows] = _match_group(part, found.count[group], of_counted, of_crowd)
    outside = ~_in_range(spanned_area(keypoints[found.index]))
    ignored |= ~matched & outside[:, :, None]
    totals = np.concatenate([np.zeros((1, len(AREA_RANGES)), np.int64), counted.cumsum(0)])
    num_targets = totals[targets.start + targets.count] - totals[targets.start]
    scores = batch.scores[torch.from_numpy(found.index)]
    tables = (torch.from_numpy(table) for table in (matched, ignored, num_targets))
    return InstanceMatches(torch.from_numpy(found.image), scores, *tables)


def best_detections(scores: Floats, rows: Rows) -> Rows:
    """Return the rows of at most 20 detections of each image, by falling score, equal ones as they came."""
    order = np.lexsort((-scores, rows.image))
    kept = np.arange(len(order)) - np.repeat(rows.start, rows.count) < MAX_DETECTIONS
    best = _rows(np.minimum(rows.count, MAX_DETECTIONS))
    return best._replace(index=order[kept])


def spanned_area(keypoints: Floats) -> Floats:
    """Return width times height of what keypoints `[d, k, 2]` span, `[d]`, without those that are NaN."""
    missing: Booleans = np.any(np.isnan(keypoints), axis=2)
    if missing.any():
        keypoints = np.where(missing[..., None], np.nan, keypoints)
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.fmax.reduce(keypoints, axis=1) - np.fmin.reduce(keypoints, axis=1)
        area = size[:, 0] * size[:, 1]
    return np.where(missing.all(1), 0.0, area)


def _in_range(area: Floats) -> Booleans:
    """Tell which areas `[r]` are not outside each range, `[r, a]`."""
    low, high = AREA_RANGES.T
    return ~((area[:, None] < low) | (area[:, None] > high))


def _rows(count: Integers) -> Rows:
    return Rows(
        np.arange(count.sum()), np.repeat(np.arange(len(count)), count), count.cumsum() - count, count
    )


def _ranges(start: Integers, count: Integers) -> Integers:
    """Return `start[i], start[i] + 1, ...`, `count[i]` numbers, for one i after the other."""
    return np.repeat(start - (count.cumsum() - count), count) + np.arange(count.sum())


def _blocks(num_detections: Integers, num_targets: Integers) -> Iterator[Integers]:
    """Yield images with both sides, ordered by their numbers of targets and detections."""
    pairs = num_detections * num_targets
    images = np.lexsort((num_detections, num_targets))
    images = images[pairs[images] > 0]
    block = pairs[images].cumsum() // PAIRS_AT_ONCE
    yield from np.split(images, np.flatnonzero(np.diff(block)) + 1) if len(images) else []


def _groups_of_equal_size(
    images: Integers, num_detections: Integers, num_targets: Integers
) -> Iterator[Integers]:
    """Yield runs of images with the same number of targets, so few that their tables stay small."""
    size = num_targets[images]
    for run in np.split(images, np.flatnonzero(np.diff(size)) + 1):
        table = num_targets[run[0]] * len(AREA_RANGES) * len(OKS_THRESHOLDS)
        step = max(1, NUMBERS_AT_ONCE // table)
        yield from np.split(run, range(step, len(run), step))


def _pairs(images: Integers, found: Rows, targets: Rows) -> tuple[Integers, Integers]:
    """Return detection and target of every pair, by image, detection in order of score, and target."""
    rows = _ranges(found.start[images], found.count[images])
    image = found.image[rows]
    detection = np.repeat(found.index[rows], targets.count[image])
    return detection, _ranges(targets.start[image], targets.count[image])


def instance_similarities(
    batch: InstanceBatch, sigmas: Sequence[float], detection: Integers, target: Integers
) -> Floats:
    """Return the OKS of p pairs, `[p]`, to the last bit as NumPy sums one instance after the other."""
    num_labelled = batch.labelled.numpy().sum(1)
    order = np.argsort(num_labelled[target], kind="stable")
    sizes, starts = np.unique(num_labelled[target][order], return_index=True)
    oks = np.zeros(len(order))
    for size, group in zip(sizes.tolist(), np.split(order, starts[1:]), strict=True):
        step = max(1, NUMBERS_AT_ONCE // max(1, size or len(sigmas)))
        for chunk in np.split(group, range(step, len(group), step)):
            x, y, spread = _offsets(batch, sigmas, detection[chunk], target[chunk])
            oks[chunk] = object_similarity(x, y, spread, batch.area.numpy()[target[chunk]])
    return oks


def object_similarity(x: Floats, y: Floats, spread: Floats, area: Floats) -> Floats:
    """Return the OKS of p pairs, the mean of `exp(-(x^2 + y^2) / (2 spread area))` over l keypoints, `[p]`.

    Args:
        x: `[p, l]` offsets in pixels; those of a keypoint that was not found, NaN, add no similarity.
        y: `[p, l]`.
        spread: `(2 sigma)^2` of each keypoint, `[p, l]` or `[l]`.
        area: `[p]` square pixels.

    Source: COCO's keypoint evaluation, the operations in pycocotools' order.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        error = (x**2 + y**2) / spread / (area + np.spacing(1))[:, None] / 2
        similarity = np.exp(-error)
    similarity[np.isnan(similarity)] = 0
    return similarity.sum(1) / similarity.shape[1]


def _offsets(
    batch: InstanceBatch,
    sigmas: Sequence[float],
    detection: Integers,
    target: Integers,
) -> tuple[Floats, Floats, Floats]:
    """Return x, y and spread of p pairs, `[p, l]`, at the l keypoints that are labelled of each target.

    Where none is, the offsets are those from the box, doubled on each side, to all k keypoints.
    """
    spread = (np.asarray(sigmas, np.float64) * 2) ** 2
    keypoints, labelled = batch.keypoints.numpy(), batch.labelled.numpy()
    if not labelled[target[0]].any():
        x, y = np.moveaxis(keypoints[detection], -1, 0)
        left, top, width, height = batch.boxes.numpy()[target].T[..., None]
        return _beyond(x, left, width), _beyond(y, top, height), spread
    # One step of the loop has few distinct targets, so their labelled keypoints are found once for each.
    distinct, inverse = np.unique(target, return_inverse=True)
    column = np.nonzero(labelled[distinct])[1].reshape(len(distinct), -1)
    labels = np.take_along_axis(batch.target_keypoints.numpy()[distinct], column[..., None], axis=1)
    column = column[inverse]
    offset = keypoints[detection[:, None], column] - labels[inverse]
    return offset[..., 0], offset[..., 1], spread[column]


def _beyond(position: Floats, start: Floats, length: Floats) -> Floats:
    """Return how far positions lie outside a side that is extended by its length at both ends."""
    low, high = start - length, start + length * 2
    with np.errstate(invalid="ignore"):
        return np.maximum(0, low - position) + np.maximum(0, position - high)


def _match_group(
    oks: Floats, num_detections: Integers, counted: Booleans, crowd: Booleans
) -> tuple[Booleans, Booleans]:
    """Match images with g targets each.

    Args:
        oks: `[d, g]`, detections by image and falling score.
        num_detections: `[n]`.
        counted: `[n, g, a]`.
        crowd: `[n, g]`.

    Returns:
        Which detections have a target, `[d, a, t]`, and which of them an ignored one.
    """
    n, g, a = counted.shape
    place = _rows(num_detections)
    rank = place.index - place.start[place.image]
    most = int(num_detections.max())
    near, priority = np.full((most, g, n), -1.0), np.zeros((most, g, n), np.int32)
    near[rank, :, place.image] = oks
    order = np.argsort(oks, axis=1, kind="stable")
    priority_of_row = np.empty_like(order)
    np.put_along_axis(priority_of_row, order, np.broadcast_to(np.arange(g), oks.shape), axis=1)
    priority[rank, :, place.image] = priority_of_row
    # Tables are [g, a, t, n]. Priorities are distinct: the most similar, the last of equals, ignored below.
    bonus = (counted.transpose(1, 2, 0) * g).astype(np.int32)
    limits = np.minimum(OKS_THRESHOLDS, 1 - 1e-10)[:, None]
    free = np.ones((g, a, len(limits), n), np.bool_)
    taken = np.empty((most, a, len(limits), n), np.int32)
    for detection in range(most):
        candidate = free & (near[detection, :, None, None] >= limits)
        wish = np.where(candidate, (priority[detection, :, None] + bonus)[:, :, None], -1)
        taken[detection] = wish.max(0)
        free &= (wish != np.maximum(taken[detection], 0)) | crowd.T[:, None, None]
    taken = taken[rank, :, :, place.image]
    return taken >= 0, (taken >= 0) & (taken < g)
