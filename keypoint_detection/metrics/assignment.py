"""Pair every target with a detection of its own by the least total distance; point errors are theirs."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from keypoint_detection.metrics.matching import (
    check_shapes,
    lexicographic_order,
    present_detections,
    present_targets,
    sortable_bits,
    squared_distances,
)


class Partners(NamedTuple):
    """Hold the partner of every target.

    Attributes:
        distance: `[n, c, m]` float64 pixels to the partner; NaN where no target counts or has no partner.
        detection: `[n, c, m]` int64 index of the partner among the k detections, or -1 likewise.
        missed: `[n, c, m]` bool, targets that count and have no partner.
        counted: `[n, c, m]` bool, targets that count: those that are there and not ignored.
    """

    distance: Tensor
    detection: Tensor
    missed: Tensor
    counted: Tensor


@torch.no_grad()
def assign_partners(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    ignored: Tensor | None = None,
    length: Tensor | None = None,
) -> Partners:
    """Pair the m targets of an image and channel with its m best detections by the least total distance.

    With fewer detections than targets the targets left over are missed. An ignored target takes part like
    any other, and afterwards neither its pair nor its miss counts. Equal scores go by the distance to the
    nearest target, then by x and y, so the order of the input has no influence.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        ignored: `[n, c, m]` bool, targets on which a detection is neither right nor wrong.
        length: `[n, c, m]` float64, what the distances are divided by later: of targets equally far from a
            detection, x, y, `ignored` and this say which one gets it, so that their order does not matter.

    Raises:
        ValueError: Shapes that do not fit, or a score that is NaN.

    Example:
        >>> preds = torch.tensor([[[[0.0, 0.0], [4.0, 0.0]]]])
        >>> target = torch.tensor([[[[5.0, 0.0], [0.0, 3.0], [90.0, 90.0]]]])
        >>> partners = assign_partners(preds, torch.tensor([[[0.9, 0.8]]]), target, torch.full((1, 1, 3), 2))
        >>> partners.distance.tolist(), partners.detection.tolist()
        ([[[1.0, 3.0, nan]]], [[[1, 0, -1]]])
    """
    check_shapes(preds, scores, target, visibility)
    counted = present = present_targets(target, visibility)
    if ignored is not None:
        check_ignored(ignored, visibility)
        counted = present & ~ignored
    if target.shape[2] < 2 or (ignored is None and length is None):
        distance, detection = _assign(preds, scores, target, present)
    else:
        order = _fixed_order(target, present, counted, length)
        placed = target.gather(2, order[..., None].expand(-1, -1, -1, 2))
        back = order.argsort(-1)
        found = _assign(preds, scores, placed, present.gather(2, order))
        distance, detection = (part.gather(2, back) for part in found)
    without = ~counted | (detection < 0)
    return Partners(
        distance.masked_fill(without, torch.nan),
        detection.masked_fill(without, -1),
        counted & without,
        counted,
    )


def check_ignored(ignored: Tensor, visibility: Tensor) -> None:
    """Raise a ValueError unless `ignored` is boolean and shaped as `visibility` `[n, c, m]`."""
    if ignored.shape != visibility.shape or ignored.dtype != torch.bool:
        raise ValueError(
            f"expected ignored to be bool and shaped as visibility {list(visibility.shape)}, "
            f"got {ignored.dtype} {list(ignored.shape)}"
        )


def _fixed_order(target: Tensor, present: Tensor, counted: Tensor, length: Tensor | None) -> Tensor:
    """Return an order `[n, c, m]` of the targets of each group that does not depend on their order."""
    # A second NaN could have other bits.
    goals = target.double().masked_fill(~present[..., None], torch.nan)
    keys = [~present, *(sortable_bits(axis) for axis in goals.unbind(-1)), ~counted]
    if length is not None:
        keys.append(sortable_bits(length.double().masked_fill(length.isnan(), torch.nan)))
    return lexicographic_order([key.long() for key in keys])


def _assign(preds: Tensor, scores: Tensor, target: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance to the partner of each target, NaN without one, and its index, -1 without one.

    Args:
        preds: `[n, c, k, 2]` pixels, NaN padded.
        scores: `[n, c, k]`.
        target: `[n, c, m, 2]` pixels.
        present: `[n, c, m]`, which targets are there.
    """
    detected = present_detections(preds, scores)
    (n, c, k), m = scores.shape, target.shape[2]
    points = preds.double().masked_fill(~detected[..., None], torch.nan).reshape(n * c, k, 2)
    goals = target.double().masked_fill(~present[..., None], torch.nan).reshape(n * c, m, 2)
    distance = squared_distances(points, goals).sqrt_()
    partner = torch.full((n * c, m), -1, dtype=torch.int64, device=target.device)
    if distance.numel():
        order = _best_first(points, scores.double().reshape(n * c, k), distance)[:, : min(k, m)]
        ranked = distance.gather(1, order[..., None].expand(-1, -1, m))
        partner = _least_total(ranked, goals)
        partner = torch.where(partner < 0, -1, order.gather(1, partner.clamp(min=0)))
        apart = distance.gather(1, partner.clamp(min=0)[:, None])[:, 0].masked_fill(partner < 0, torch.nan)
    else:
        apart = distance.new_full(partner.shape, torch.nan)
    return apart.reshape(n, c, m), partner.reshape(n, c, m)


def _best_first(points: Tensor, scores: Tensor, distance: Tensor) -> Tensor:
    """Return the order `[g, k]` of the detections `points [g, k, 2]`, best first and absent ones last.

    Args:
        points: `[g, k, 2]` pixels, NaN where absent.
        scores: `[g, k]`.
        distance: `[g, k, m]` pixels, m > 0, NaN where the detection or the target is absent.
    """
    absent = points[..., 0].isnan()
    last = torch.iinfo(torch.int64).max
    rank = sortable_bits(-scores).masked_fill(absent, last)
    ranked, order = rank.sort(dim=-1, stable=True)
    if not bool(((ranked[:, 1:] == ranked[:, :-1]) & (ranked[:, 1:] != last)).any()):
        return order
    nearest = distance.nan_to_num(torch.inf).amin(-1)
    ties = [sortable_bits(key) for key in (nearest, *points.unbind(-1))]
    return lexicographic_order([rank, *ties])


def _least_total(distance: Tensor, goals: Tensor) -> Tensor:
    """Return the partner of each target among as many detections, best first; -1 for none.

    Where the nearest targets of these detections are distinct, they are the optimum; scipy solves the other
    groups.

    Args:
        distance: `[g, r, m]` pixels, detections best first, NaN where either is absent.
        goals: `[g, m, 2]` targets in pixels, NaN where absent.
    """
    present = ~goals[..., 0].isnan()
    wanted = present.sum(-1, keepdim=True) > torch.arange(distance.shape[1], device=distance.device)
    chosen = wanted & ~distance.isnan().all(-1)
    nearest = distance.nan_to_num(torch.inf).argmin(-1)
    claims = torch.zeros_like(present, dtype=torch.int64).scatter_add(1, nearest, chosen.long())
    contested = (claims > 1).any(-1)
    partner = torch.full_like(claims, -1)
    group, rank = (chosen & ~contested[:, None]).nonzero().unbind(-1)
    partner[group, nearest[group, rank]] = rank
    if bool(contested.any()):
        partner[contested] = _solve(distance[contested], chosen[contested], goals[contested])
    return partner


def _solve(distance: Tensor, chosen: Tensor, goals: Tensor) -> Tensor:
    """Solve the assignment of each of g groups exactly; `[g, m]` as `_least_total`."""
    from scipy.optimize import linear_sum_assignment

    # Targets in a fixed order, since of several optima the solver returns one that depends on it.
    x, y = (sortable_bits(axis) for axis in goals.unbind(-1))
    absent = goals[..., 0].isnan()
    orders = lexicographic_order([absent.long(), x, y]).cpu().numpy()
    costs, detections, targets = distance.cpu().numpy(), chosen.sum(-1).tolist(), (~absent).sum(-1).tolist()
    partner = np.full(orders.shape, -1)
    for group, count in enumerate(targets):
        order = orders[group, :count]
        ranks, columns = linear_sum_assignment(costs[group, : detections[group]][:, order])
        partner[group, order[columns]] = ranks
    return torch.from_numpy(partner).to(goals.device)
