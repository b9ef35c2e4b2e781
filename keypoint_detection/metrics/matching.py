"""Match detections to ground truth, greedily in score order, for every image, channel and threshold at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PAIRS_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
"""Detection-target pairs held at once: on a CPU they stay in its cache, on a GPU they fill it."""


class Pairs(NamedTuple):
    """Hold the detection-target pairs within the widest limit; p pairs of g groups (one image and channel each).

    Attributes:
        detection: `[p]` index into the `g * k` detections.
        target: `[p]` index into the `g * m` targets.
        cost: `[p]` float64, lower is nearer.
    """

    detection: Tensor
    target: Tensor
    cost: Tensor


def check_shapes(preds: Tensor, scores: Tensor, target: Tensor, visibility: Tensor) -> None:
    """Raise a ValueError unless the four tensors of an update fit together.

    Args:
        preds: `[n, c, k, 2]`.
        scores: `[n, c, k]`.
        target: `[n, c, m, 2]`.
        visibility: `[n, c, m]`.
    """
    fits = (
        preds.ndim == target.ndim == 4
        and preds.shape[-1] == target.shape[-1] == 2
        and preds.shape[:2] == target.shape[:2]
        and scores.shape == preds.shape[:-1]
        and visibility.shape == target.shape[:-1]
    )
    if not fits:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in (preds, scores, target, visibility))
        raise ValueError(
            "expected preds [n, c, k, 2], scores [n, c, k], target [n, c, m, 2] and visibility [n, c, m] "
            f"with the same n, c, k and m, got {shapes}"
        )


def present_detections(preds: Tensor, scores: Tensor) -> Tensor:
    """Tell which detections are there: both coordinates finite.

    Args:
        preds: `[n, c, k, 2]`, NaN padded.
        scores: `[n, c, k]`.

    Returns:
        Booleans `[n, c, k]`.

    Raises:
        ValueError: A detection that is there has the score NaN, which no order can place.
    """
    present = preds.isfinite().all(-1)
    unordered = int((present & scores.isnan()).sum())
    if unordered:
        raise ValueError(
            f"expected a score for every detection, got NaN for {unordered}; give a detection that is not there NaN "
            "coordinates"
        )
    return present


def present_targets(target: Tensor, visibility: Tensor) -> Tensor:
    """Tell which targets `[n, c, m, 2]` are there: visibility above 0 and both coordinates finite; `[n, c, m]`."""
    return (visibility > 0) & target.isfinite().all(-1)


def squared_distances(preds: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance of every detection `[..., k, 2]` to every target `[..., m, 2]`, `[..., k, m]`."""
    (pred_x, pred_y), (target_x, target_y) = preds.unbind(-1), target.unbind(-1)
    x = pred_x[..., :, None] - target_x[..., None, :]
    y = pred_y[..., :, None] - target_y[..., None, :]
    return x.mul_(x).add_(y.mul_(y))


def sortable_bits(values: Tensor) -> Tensor:
    """Return int64 numbers in the same order as float64 `values`; torch sorts integers ten times faster."""
    bits = (values + 0.0).view(torch.int64)  # -0.0 + 0.0 is 0.0, so that both zeros are equal
    return bits ^ ((bits >> 63) & torch.iinfo(torch.int64).max)


def lexicographic_order(keys: Sequence[Tensor]) -> Tensor:
    """Return the stable order along the last axis by int64 keys of one shape, the first key first."""
    order = keys[-1].argsort(dim=-1, stable=True)
    for key in keys[-2::-1]:
        order = order.gather(-1, key.gather(-1, order).argsort(dim=-1, stable=True))
    return order


def match_detections(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    limits: Sequence[float],
    *,
    variance: Tensor | None = None,
) -> Tensor:
    """Give each detection the nearest free target within the limit, best score first, per image and channel.

    The result does not depend on the order of the input. Equal scores go by the distance to the nearest target,
    then by x and y; of targets at the same distance the one with the lower x (then y, then variance) is taken.

    Args:
        preds: `[n, c, k, 2]` float64 pixels; not finite where there is no detection.
        scores: `[n, c, k]` float64.
        target: `[n, c, m, 2]` float64 pixels; not finite where there is no target.
        limits: Greatest costs of a match, t of them.
        variance: `[n, c, m]` float64 square pixels. The cost is the distance in pixels, or with a variance the
            squared distance divided by it.

    Returns:
        Booleans `[n, c, k, t]`: true positives.
    """
    (n, c, k), m = preds.shape[:3], target.shape[2]
    costs = torch.tensor(list(limits), dtype=torch.float64, device=preds.device)
    preds, scores, target = preds.reshape(-1, k, 2), scores.reshape(-1, k), target.reshape(-1, m, 2)
    variance = None if variance is None else variance.reshape(-1, m)
    step = max(1, PAIRS_AT_ONCE.get(preds.device.type, 2**18) // max(1, k * m))
    matched = []
    for start in range(0, max(1, n * c), step):
        rows = slice(start, start + step)
        spread = None if variance is None else variance[rows]
        matched.append(_match_groups(preds[rows], scores[rows], target[rows], costs, spread))
    return torch.cat(matched).reshape(n, c, k, len(costs))


def _match_groups(
    preds: Tensor, scores: Tensor, target: Tensor, limits: Tensor, variance: Tensor | None
) -> Tensor:
    """Match within every group of detections `[g, k, 2]` and targets `[g, m, 2]`; returns `[g, k, t]`."""
    cost = squared_distances(preds, target)
    cost = cost.sqrt_() if variance is None else cost.div_(variance[:, None])
    pairs = _pairs_within(cost, limits.amax())
    pairs = Pairs(*(part[_priority(pairs, preds, scores, target, variance)] for part in pairs))
    return _take_in_order(pairs, limits, scores.shape, target.shape[:2])


def _pairs_within(cost: Tensor, limit: Tensor) -> Pairs:
    """Return the pairs of `cost [g, k, m]` up to the limit; NaN is beyond it."""
    flat, m = (cost <= limit).flatten().nonzero().squeeze(-1), max(1, cost.shape[2])
    detection = flat // m
    group = detection // max(1, cost.shape[1])
    return Pairs(detection, group * m + flat % m, cost.flatten()[flat])


def _priority(pairs: Pairs, preds: Tensor, scores: Tensor, target: Tensor, variance: Tensor | None) -> Tensor:
    """Return the order `[p]` in which the pairs of a group are to be taken; see `match_detections` for ties."""
    group = pairs.detection // max(1, preds.shape[1])
    score, near = sortable_bits(-scores.flatten()[pairs.detection]), sortable_bits(pairs.cost)
    order = lexicographic_order([group, score, near])
    same_score = (group[order].diff() == 0) & (score[order].diff() == 0)
    decided = (pairs.detection[order].diff() == 0) & (near[order].diff() != 0)
    if not bool((same_score & ~decided).any()):
        return order
    nearest = preds.new_full(scores.shape, torch.inf).flatten()
    nearest = nearest.scatter_reduce(0, pairs.detection, pairs.cost, "amin")[pairs.detection]
    detection_keys = [nearest, *preds.reshape(-1, 2)[pairs.detection].unbind(-1)]
    target_keys = [*target.reshape(-1, 2)[pairs.target].unbind(-1)]
    target_keys += [] if variance is None else [variance.flatten()[pairs.target]]
    ties = [sortable_bits(key) for key in (*detection_keys, pairs.cost, *target_keys)]
    return lexicographic_order([group, score, *ties])


def _take_in_order(
    pairs: Pairs, limits: Tensor, detection_shape: Sequence[int], target_shape: Sequence[int]
) -> Tensor:
    """Take every pair whose two points are free, in the given order, for each of t limits; returns `[g, k, t]`.

    All the pairs that come first both for their detection and for their target are taken in one round: no earlier
    pair can want either point. The best free detection of a group is among them, so `min(k, m)` rounds suffice.
    """
    (groups, k), m = detection_shape, target_shape[1]
    limit, pair = (pairs.cost <= limits[:, None]).nonzero().unbind(-1)
    detection = limit * (groups * k) + pairs.detection[pair]
    target = limit * (groups * m) + pairs.target[pair]
    matched = torch.zeros(len(limits) * groups * k, dtype=torch.bool, device=limits.device)
    taken = torch.zeros(len(limits) * groups * m, dtype=torch.bool, device=limits.device)
    while len(detection):
        place = torch.arange(len(detection), device=limits.device)
        first_of_detection = _first(detection, place, len(matched))
        first_of_target = _first(target, place, len(taken))
        winner = (first_of_detection[detection] == place) & (first_of_target[target] == place)
        matched[detection[winner]] = True
        taken[target[winner]] = True
        free = ~(matched[detection] | taken[target])
        detection, target = detection[free], target[free]
    return matched.reshape(len(limits), groups, k).permute(1, 2, 0)


def _first(index: Tensor, place: Tensor, size: int) -> Tensor:
    """Return the lowest place of each index, `[size]`."""
    return place.new_full((size,), len(place)).scatter_reduce(0, index, place, "amin")
