"""Losses between points and labels, one value per channel; pure functions on normalised points."""

import math
from typing import Protocol

import torch
from torch import Tensor

from keypoint_detection.registry import Registry

REFERENCE_SIDE_PX = 224
"""Side of the image in whose pixels distances are taken, whatever the size of the input: `d = 224 (p - t)`.

It is the scale at which ViT_facemap regresses its points, and all constants below are meant in it. A loss
thus means the same at every input size.
"""

GRADIENT_SCALE = 2.0 / REFERENCE_SIDE_PX
"""What every loss is multiplied by: an error of 10 px then has a gradient of about 1.

Meant is the derivative of a channel's loss by x (or y) of its normalised point, in all images at once, which
is the gradient of that bias of the head. It is exactly 1 for MSE and SmoothL1 at 10 px; the wing loss has
5 / 6 just below 10 px and 1 beyond. In plain pixels the squared error would have 2240.

AdamW does not care about the scale, but gradient clipping does. The head's weights get this gradient times
the length of their normalised input, about 28 for 768 features, so clipping at 1 still shortens most steps of
a run, with every loss.
"""

SQUARE_SCALE_PX = 10.0
"""Error at which the squared error `d^2 / 20` is as steep as the others, in pixels of a 224 px image."""

SMOOTH_L1_BETA_PX = 1.0
"""Error where SmoothL1 turns from square to straight, in pixels of a 224 px image."""

WING_WIDTH_PX = 10.0
"""Error where the wing loss turns from logarithm to line, `w` of its paper, in pixels of a 224 px image."""

WING_CURVATURE_PX = 2.0
"""How sharply the wing loss bends at 0, `epsilon` of its paper, in pixels of a 224 px image."""

SMALLEST_WEIGHT = 1e-6


class PointLoss(Protocol):
    """Compare points with labels."""

    def __call__(self, points: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute one value per channel.

        Args:
            points: `[n, c, 2]`, (x, y) normalised: the image spans [0, 1]; any float type, computed in
                float32.
            target: `[n, c, 2]`, likewise; may be NaN where the weight is 0.
            weight: `[n, c]`, >= 0, 0 leaves a point out; None counts all points alike.

        Returns:
            `[c]`, float32: the mean over images by weight, and over x and y; 0 where all weights are 0.

        Raises:
            ValueError: If the shapes do not fit together.
        """
        ...


POINT_LOSSES: Registry[PointLoss] = Registry("loss of --head regression")


@POINT_LOSSES.register("MSE")
def squared_distance(points: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `g d^2 / 20`, `d` in px of a 224 px image and `g = GRADIENT_SCALE`, per channel `[c]`.

    Source: ViT_facemap trains with the squared error; the scale is ours.
    """
    differences = _differences_px(points, target, weight)
    return _channel_mean(differences.square() / (2.0 * SQUARE_SCALE_PX), weight)


@POINT_LOSSES.register("SmoothL1")
def smooth_l1(points: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `g s(d)`, `d` in px of a 224 px image and `g = GRADIENT_SCALE`, per channel `[c]`.

    `s(d)` is `d^2 / 2` for `|d| < 1` and `|d| - 1 / 2` beyond: a wrong label pulls no more than any other.

    Source: Fast R-CNN (arXiv 1504.08083, equation 3).
    """
    size = _differences_px(points, target, weight).abs()
    near, far = size.square() / (2.0 * SMOOTH_L1_BETA_PX), size - SMOOTH_L1_BETA_PX / 2.0
    return _channel_mean(torch.where(size < SMOOTH_L1_BETA_PX, near, far), weight)


@POINT_LOSSES.register("Wing")
def wing(points: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return `g w(d)`, `d` in px of a 224 px image and `g = GRADIENT_SCALE`, per channel `[c]`.

    `w(d)` is `10 ln(1 + |d| / 2)` for `|d| < 10` and `|d| - C` beyond, continuous with
    `C = 10 - 10 ln(1 + 10 / 2)`: small errors pull up to five times as hard as large ones.

    Source: Feng et al., Wing Loss for Robust Facial Landmark Localisation, CVPR 2018 (arXiv 1711.06753,
    equation 5).
    """
    size = _differences_px(points, target, weight).abs()
    near = WING_WIDTH_PX * torch.log1p(size / WING_CURVATURE_PX)
    offset = WING_WIDTH_PX * (1.0 - math.log1p(WING_WIDTH_PX / WING_CURVATURE_PX))
    return _channel_mean(torch.where(size < WING_WIDTH_PX, near, size - offset), weight)


def _differences_px(points: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return `points - target`, `[n, c, 2]`, in pixels of a 224 px image; 0 where the weight is 0."""
    _check_shapes(points, target, weight)
    points, target = points.float(), target.float()
    if weight is not None:  # before any arithmetic: 0 times a NaN would be a NaN, in the gradient too
        target = torch.where(weight[..., None] > 0, target, points.detach())
    return REFERENCE_SIDE_PX * (points - target)


def _channel_mean(values: Tensor, weight: Tensor | None) -> Tensor:
    """Return the scaled mean of `[n, c, 2]` over images and over x and y."""
    values = GRADIENT_SCALE * values.mean(dim=-1)
    if weight is None:
        return values.mean(dim=0)
    scale = weight.float()
    return (scale * values).sum(dim=0) / scale.sum(dim=0).clamp(min=SMALLEST_WEIGHT)


def _check_shapes(points: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """Check the shapes: broadcasting would hide a mistake."""
    if points.ndim != 3 or points.shape[-1] != 2 or target.shape != points.shape:
        raise ValueError(
            f"points and target need the same shape [n, c, 2], got {list(points.shape)} and "
            f"{list(target.shape)}; a target has one point per channel."
        )
    if weight is not None and weight.shape != points.shape[:2]:
        raise ValueError(
            f"the weight of points {list(points.shape)} needs the shape [n, c], got {list(weight.shape)}; "
            "give one weight per point."
        )
