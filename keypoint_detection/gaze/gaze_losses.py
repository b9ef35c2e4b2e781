"""Losses of gaze maps and gaze points: one value per person, 0 for whoever does not look into the picture.

Everybody whose `in_frame` is 1 counts; 0 (outside) and -1 or NaN (unknown) do not. Take the mean over those
who count with `mean_inside`.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_inside(values: Tensor, in_frame: Tensor) -> Tensor:
    """Return the mean of values `[n]` over the people inside, a scalar; 0, with a gradient of 0, without any.

    Example:
        >>> mean_inside(torch.tensor([2.0, 7.0, 4.0]), torch.tensor([1.0, 0.0, 1.0])).item()
        3.0
    """
    inside = in_frame == 1
    return torch.where(inside, values, 0.0).sum() / inside.sum().clamp(min=1)


def map_error(output: Tensor, target: Tensor, in_frame: Tensor) -> Tensor:
    """Return the mean squared error over each person's pixels, float32 `[n]`; 0 for people not inside.

    Args:
        output: `[n, 1, h, w]`, what was predicted: x0, noise or v.
        target: `[n, 1, h, w]`, what was asked for.
        in_frame: `[n]`, 1 inside.
    """
    _check_maps(output, target, in_frame)
    output, target = _chosen(output, in_frame), _chosen(target, in_frame)
    return (output - target).square().flatten(1).mean(1)


def kl_divergence(logits: Tensor, target: Tensor, in_frame: Tensor) -> Tensor:
    """Return `sum_u p(u) ln(p(u) / q(u))` of each person, float32 `[n]`, >= 0; 0 for people not inside.

    `p` is the target divided by its sum and `q` the softmax of the logits over all pixels. A target of zeros
    says nothing and gives 0.

    Args:
        logits: `[n, 1, h, w]`, any float type; computed in float32.
        target: `[n, 1, h, w]`, >= 0.
        in_frame: `[n]`, 1 inside.

    Example:
        >>> target = torch.tensor([[[[3.0, 1.0]]]])
        >>> round(float(kl_divergence(torch.zeros(1, 1, 1, 2), target, torch.ones(1))), 6)
        0.130812
    """
    _check_maps(logits, target, in_frame)
    log_q = _chosen(logits, in_frame).flatten(1).log_softmax(1)
    mass = _chosen(target, in_frame).flatten(1)
    total = mass.sum(1, keepdim=True)
    p = mass / total.clamp(min=torch.finfo(torch.float32).tiny)
    return (torch.xlogy(p, p) - p * log_q).sum(1)


def soft_argmax(maps: Tensor, beta: float = 20.0) -> Tensor:
    """Return the mean place of `softmax(beta map)`, float32 `[n, c, 2]`, `(x, y)` in map pixels.

    The larger beta is, the less the background draws the point to the middle of the map. But a Gaussian of
    height 1 and sigma 3 px becomes one of about 3 / sqrt(beta) px: above beta 40 that is too narrow for the
    pixels, and the point is drawn to the nearest one, by up to 0.2 px with beta 100 (measured).

    Args:
        maps: `[n, c, h, w]`, any float type; computed in float32.
        beta: > 0.

    Example:
        >>> soft_argmax(torch.tensor([[[[0.0, 0.0, 1.0, 1.0]]]])).tolist()
        [[[2.5, 0.0]]]
    """
    if maps.ndim != 4 or not (beta > 0 and math.isfinite(beta)):
        raise ValueError(f"expected maps [n, c, h, w] and beta > 0, got {list(maps.shape)} and {beta}")
    with torch.autocast(maps.device.type, enabled=False):
        share = (beta * maps.float()).flatten(2).softmax(2).reshape(maps.shape)
        columns, rows = (
            torch.arange(size, device=maps.device).float() for size in (maps.shape[3], maps.shape[2])
        )
        return torch.stack([(share.sum(2) * columns).sum(2), (share.sum(3) * rows).sum(2)], dim=-1)


def point_loss(points: Tensor, gaze: Tensor, in_frame: Tensor, image_hw: tuple[float, float]) -> Tensor:
    """Return the mean squared relative distance to the annotators, float32 `[n]`; 0 for people not inside.

    A distance is `(x / width, y / height)`, so that it is the same for a map and for the picture. People
    without annotators give 0 as well.

    Args:
        points: `[n, 2]`, `(x, y)` in pixels.
        gaze: `[n, a, 2]`, likewise, NaN padded.
        in_frame: `[n]`, 1 inside.
        image_hw: Height and width in the same pixels.

    Example:
        >>> gaze = torch.tensor([[[10.0, 0.0], [0.0, 20.0], [torch.nan, torch.nan]]])
        >>> round(float(point_loss(torch.zeros(1, 2), gaze, torch.ones(1), (100, 100))), 6)
        0.025
    """
    if points.ndim != 2 or gaze.ndim != 3 or gaze.shape[::2] != points.shape or len(in_frame) != len(points):
        raise ValueError(
            "expected points [n, 2], gaze [n, a, 2] and in_frame [n], got "
            f"{list(points.shape)}, {list(gaze.shape)} and {list(in_frame.shape)}"
        )
    there = gaze.isfinite().all(2) & (in_frame == 1)[:, None]
    # before any arithmetic: 0 times a NaN would be a NaN, in the gradient too
    points, gaze = (torch.where(there[..., None], part.float(), 0.0) for part in (points[:, None], gaze))
    size = torch.tensor([image_hw[1], image_hw[0]], dtype=torch.float32, device=points.device)
    squares = ((points - gaze) / size).square().sum(2)
    return squares.sum(1) / there.sum(1).clamp(min=1)


def in_out_error(logits: Tensor, in_frame: Tensor) -> Tensor:
    """Return the binary cross entropy (natural log) of each person, float32 `[n]`; 0 where it is unknown.

    Args:
        logits: `[n]`; above 0 says inside.
        in_frame: `[n]`, 1 inside, 0 outside; -1 or NaN unknown.
    """
    known = (in_frame == 0) | (in_frame == 1)
    label = torch.where(known, in_frame, 0).float()
    return F.binary_cross_entropy_with_logits(logits.float(), label, reduction="none") * known


def _chosen(maps: Tensor, in_frame: Tensor) -> Tensor:
    """Return maps in float32, those of people not inside as zeros without a gradient."""
    return torch.where((in_frame == 1).reshape(-1, *(1,) * (maps.ndim - 1)), maps.float(), 0.0)


def _check_maps(output: Tensor, target: Tensor, in_frame: Tensor) -> None:
    if output.ndim != 4 or target.shape != output.shape or in_frame.shape != output.shape[:1]:
        raise ValueError(
            "expected two maps [n, 1, h, w] of one shape and in_frame [n], got "
            f"{list(output.shape)}, {list(target.shape)} and {list(in_frame.shape)}"
        )
