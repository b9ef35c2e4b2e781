"""Match the keypoints of a batch: first with the targets to be found, then with what is to be ignored."""

import torch
from torch import Tensor

from keypoint_detection.metrics.matching import (
    check_shapes,
    match_detections,
    present_detections,
    present_targets,
)
from keypoint_detection.metrics.matching_rule import MatchingRule
from keypoint_detection.metrics.precision_recall import Matches


@torch.no_grad()
def match_keypoints(
    rule: MatchingRule,
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    scale: Tensor | None = None,
    ignored: Tensor | None = None,
    regions: Tensor | None = None,
    sigmas: Tensor | None = None,
) -> Matches:
    """Find the true positives of a batch, in float64 on its device; see `KeypointAveragePrecision.update`."""
    check_shapes(preds, scores, target, visibility)
    _check_ignored(ignored, regions, visibility)
    detected, present = present_detections(preds, scores), present_targets(target, visibility)
    variance = rule.variance(scale, present, sigmas)
    preds, scores = preds.double().masked_fill(~detected[..., None], torch.nan), scores.double()
    target, limits = target.double(), rule.limits()
    excluded = torch.zeros_like(present) if ignored is None else present & ignored
    wanted = present if ignored is None else present & ~excluded
    goals = target.masked_fill(~wanted[..., None], torch.nan)
    matched = match_detections(preds, scores, goals, limits, variance=variance)
    left_out = torch.zeros_like(matched)
    if regions is not None:
        left_out = inside_regions(preds, regions)[..., None] & ~matched
    groups = None if ignored is None else excluded.any(-1)
    if groups is not None and bool(groups.any()):
        # Only images and channels with an ignored target are matched again, each as an image of one channel.
        goals = target.masked_fill(~excluded[..., None], torch.nan)
        left_out[groups] |= match_detections(
            preds[groups][:, None],
            scores[groups][:, None],
            goals[groups][:, None],
            limits,
            variance=None if variance is None else variance[groups][:, None],
            eligible=~(matched | left_out)[groups][:, None],
        )[:, 0]
    return Matches(scores[detected], matched[detected], left_out[detected], detected.sum(-1), wanted.sum(-1))


def inside_regions(points: Tensor, regions: Tensor) -> Tensor:
    """Tell which points lie in a box of their image, borders included.

    COCO's boxes count from the corner of the image and points from the centre of its first pixel, so a box
    spans `[x - 0.5, x + width - 0.5]`.

    Args:
        points: `[n, c, k, 2]` pixels; NaN is outside.
        regions: `[n, r, 4]` boxes (x, y, width, height) in pixels, NaN padded.

    Returns:
        Booleans `[n, c, k]`.
    """
    image, region = (~regions.isnan().any(-1)).nonzero().unbind(-1)
    boxes = regions[image, region].double()
    low = boxes[:, None, None, :2] - 0.5
    high = (boxes[:, :2] + boxes[:, 2:])[:, None, None] - 0.5
    chosen = points[image]
    inside = ((chosen >= low) & (chosen <= high)).all(-1)
    count = torch.zeros(points.shape[:-1], dtype=torch.int64, device=points.device)
    return count.index_add(0, image, inside.long()) > 0


def _check_ignored(ignored: Tensor | None, regions: Tensor | None, visibility: Tensor) -> None:
    """Raise a ValueError unless the marks of ignored targets and the regions fit the targets."""
    if ignored is not None and (ignored.shape != visibility.shape or ignored.dtype != torch.bool):
        raise ValueError(
            f"expected ignored as bool {list(visibility.shape)} like visibility, "
            f"got {ignored.dtype} {list(ignored.shape)}"
        )
    if regions is not None and (regions.ndim != 3 or regions.shape[::2] != (len(visibility), 4)):
        raise ValueError(
            f"expected regions [{len(visibility)}, r, 4] as boxes (x, y, width, height) of each image, "
            f"got {list(regions.shape)}"
        )
