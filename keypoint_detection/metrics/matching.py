"""Match detections to ground truth, greedily by score, for all images, channels and thresholds at once."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PAIRS_AT_ONCE = {"cpu": 2**19, "cuda": 2**24}
"""Detection-target pairs held at once: on a CPU they stay in its cache, on a GPU they fill it."""


class Pairs(NamedTuple):
    """Hold p pairs of a detection and a target of the same group; a group is an image and channel, g of them.

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
            f"expected a score for every detection, got NaN for {unordered}; "
            "where there is no detection, its coordinates are NaN"
        )
    return present


def present_targets(target: Tensor, visibility: Tensor) -> Tensor:
    """Tell which targets `[n, c, m, 2]` are there, `[n, c, m]`: visibility above 0, coordinates finite."""
    return (visibility > 0) & target.isfinite().all(-1)


def squared_distances(preds: Tensor, target: Tensor) -> Tensor:
    """Return `[..., k, m]`, the squared distances of detections `[..., k, 2]` to targets `[..., m, 2]`."""
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
    eligible: Tensor | None = None,
) -> Tensor:
    """Give each detection the nearest free target within the limit, best score first, per image and channel.

    The result does not depend on the order of the input. Equal scores go by the distance to the nearest
    target, then by x and y; of targets at the same distance the one with the lower x (then y, then variance)
    is taken.

    Args:
        preds: `[n, c, k, 2]` float64 pixels; not finite where there is no detection.
        scores: `[n, c, k]` float64.
        target: `[n, c, m, 2]` float64 pixels; not finite where there is no target.
        limits: Greatest costs of a match, t of them.
        variance: `[n, c, m]` float64 square pixels. The cost is the distance in pixels, or with a variance
            the squared distance divided by it.
        eligible: `[n, c, k, t]` bool, the detections that may take a target at each limit; None is all.

    Returns:
        Booleans `[n, c, k, t]`: the detections that take a target.
    """
    (n, c, k), m = preds.shape[:3], target.shape[2]
    costs = torch.tensor(list(limits), dtype=torch.float64, device=preds.device)
    preds, scores, target = preds.flatten(0, 1), scores.flatten(0, 1), target.flatten(0, 1)
    variance = None if variance is None else variance.flatten(0, 1)
    eligible = None if eligible is None else eligible.flatten(0, 1)
    step = max(1, PAIRS_AT_ONCE.get(preds.device.type, 2**19) // max(1, k * m))
    matched = []
    for start in range(0, max(1, n * c), step):
        rows = slice(start, start + step)
        spread = None if variance is None else variance[rows]
        may = None if eligible is None else eligible[rows].flatten(0, 1)
        matched.append(_match_groups(preds[rows], scores[rows], target[rows], costs, spread, eligible=may))
    return torch.cat(matched).reshape(n, c, k, len(costs))


def _match_groups(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    limits: Tensor,
    variance: Tensor | None,
    *,
    eligible: Tensor | None,
) -> Tensor:
    """Match within every group of detections `[g, k, 2]` and targets `[g, m, 2]`; returns `[g, k, t]`.

    Here `eligible` is `[g * k, t]`.
    """
    pairs = _pairs_within(preds, target, limits.amax(), variance)
    matched = torch.zeros(scores.numel(), len(limits), dtype=torch.bool, device=limits.device)
    # Most pairs compete with no other; only the rest has to be put in order.
    rivals = pairs.detection.bincount(minlength=scores.numel())[pairs.detection]
    rivals = rivals * pairs.target.bincount(minlength=target.shape[0] * target.shape[1])[pairs.target]
    alone, contested = (rivals == 1).nonzero().squeeze(-1), (rivals > 1).nonzero().squeeze(-1)
    single = Pairs(*(part[alone] for part in pairs))
    matched[single.detection] = _allowed(single, limits, eligible)
    if len(contested):
        pairs = Pairs(*(part[contested] for part in pairs))
        order = _priority(pairs, preds, scores, target, variance)
        pairs = Pairs(*(part[order] for part in pairs))
        _take_in_order(pairs, _allowed(pairs, limits, eligible), matched, target.shape[:2].numel())
    return matched.reshape(*scores.shape, len(limits))


def _pairs_within(preds: Tensor, target: Tensor, limit: Tensor, variance: Tensor | None) -> Pairs:
    """Return the pairs up to the limit, and a few just beyond it; NaN is beyond it."""
    squared = squared_distances(preds, target)
    reach = limit * limit if variance is None else (limit * variance)[:, None]
    (_, k, m) = squared.shape
    # The root is only taken of the pairs that remain; the margin covers its rounding.
    flat = (squared <= reach * (1 + 1e-9)).flatten().nonzero().squeeze(-1)
    detection = flat // max(1, m)
    near = detection // max(1, k) * m + flat % max(1, m)
    cost = squared.flatten()[flat]
    return Pairs(detection, near, cost.sqrt() if variance is None else cost / variance.flatten()[near])


def _allowed(pairs: Pairs, limits: Tensor, eligible: Tensor | None) -> Tensor:
    """Tell which pairs may match at each limit, `[p, t]`."""
    within = pairs.cost[:, None] <= limits
    return within if eligible is None else within & eligible[pairs.detection]


def _priority(pairs: Pairs, preds: Tensor, scores: Tensor, target: Tensor, variance: Tensor | None) -> Tensor:
    """Return the order `[p]` in which to take the pairs of a group; see `match_detections` for ties."""
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


def _take_in_order(pairs: Pairs, allowed: Tensor, matched: Tensor, num_targets: int) -> None:
    """Take every allowed pair whose two points are free, in the given order, for each of t limits.

    All the pairs that come first both for their detection and for their target are taken in one round:
    no earlier pair can want either point. The best free detection of a group is always among them, so
    `min(k, m)` rounds suffice.

    Args:
        pairs: p pairs in order of priority.
        allowed: `[p, t]` bool.
        matched: `[d, t]` bool, set to True for the detections of the pairs taken.
        num_targets: Greatest target index + 1.
    """
    pair, limit = allowed.nonzero().unbind(-1)
    num_limits = allowed.shape[1]
    detection = pairs.detection[pair] * num_limits + limit
    target = pairs.target[pair] * num_limits + limit
    taken = matched.new_zeros(num_targets * num_limits)
    matched = matched.view(-1)
    while len(detection):
        place = torch.arange(len(detection), device=matched.device)
        first_of_detection = _first(detection, place, len(matched))
        first_of_target = _first(target, place, len(taken))
        winner = (first_of_detection[detection] == place) & (first_of_target[target] == place)
        matched[detection[winner]] = True
        taken[target[winner]] = True
        free = ~(matched[detection] | taken[target])
        detection, target = detection[free], target[free]


def _first(index: Tensor, place: Tensor, size: int) -> Tensor:
    """Return the lowest place of each index, `[size]`."""
    return place.new_full((size,), len(place)).scatter_reduce(0, index, place, "amin")
