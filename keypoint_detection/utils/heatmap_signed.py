"""Encode occluded keypoints as negative Gaussians beside positive ones, and decode point and visibility.

A signed heatmap lies in [-1, 1]: its magnitude says where keypoints are, its sign whether they can be seen.
0 is no keypoint. Coordinates are heatmap pixels, as in `utils.heatmap`.
"""

from functools import partial

import torch
from torch import Tensor

from keypoint_detection.utils.heatmap import (
    REFINEMENTS,
    Refinement,
    best_peaks,
    check_decode,
    decode_in_parts,
    generate_heatmaps,
    placed,
)
from keypoint_detection.utils.heatmap_decode import Peaks

VISIBLE = 2
"""COCO's flag of a keypoint that can be seen; a lower one above 0 is occluded."""

OTHER_SIDE = 0.02
"""Magnitude from which on pixels of the other sign belong to another keypoint; below, they are noise."""


def generate_signed_heatmaps(
    keypoints: Tensor,
    visibility: Tensor,
    heatmap_hw: tuple[int, int],
    sigma_px: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw visible keypoints as Gaussians of height 1 and occluded ones as Gaussians of height -1.

    Where Gaussians of one channel overlap, the one of larger magnitude counts, whatever the signs; a visible
    one wins between two that are equal. So the magnitude of the map is that of `generate_heatmaps`, and every
    keypoint keeps its peak.

    Args:
        keypoints: `[n, c, k, 2]`, `(x, y)` in heatmap pixels; NaN or infinite means absent.
        visibility: `[n, c, k]`, COCO's flags: 2 visible, 1 occluded; 0 or NaN means absent.
        heatmap_hw: Height and width of the maps.
        sigma_px: Standard deviation in heatmap pixels, > 0.
        dtype: Type of the maps.

    Returns:
        `[n, c, h, w]` in [-1, 1]; all zero for a channel without keypoints.

    Raises:
        ValueError: If a shape, the size or the sigma is wrong.

    Source: negative Gaussians for hidden points are common in convolutional pose machines; the rule for
    overlaps is ours.
    """
    visible, occluded = (
        generate_heatmaps(keypoints, flags, heatmap_hw, sigma_px, dtype)
        for flags in (visibility >= VISIBLE, (visibility > 0) & (visibility < VISIBLE))
    )
    return torch.where(occluded > visible, -occluded, visible)


@torch.no_grad()
def extract_signed_keypoints(
    heatmaps: Tensor,
    max_keypoints: int = 20,
    min_distance_px: int = 1,
    threshold: float = 0.01,
    refine: str = "taylor",
) -> tuple[Tensor, Tensor]:
    """Find the best peaks of the magnitude of every map, with sub-pixel positions and their signs.

    Peaks of both signs compete with each other, as those of `extract_keypoints` do. A position is refined on
    the map with the peak's own sign, where pixels of keypoints of the other sign do not count.

    Args:
        heatmaps: `[n, c, h, w]` in [-1, 1], any floating type, any device.
        max_keypoints: Most keypoints per channel of an image, >= 1.
        min_distance_px: Radius of the suppression window in heatmap pixels, >= 0.
        threshold: A peak must be further from 0 than this.
        refine: As for `extract_keypoints`.

    Returns:
        Keypoints `[n, c, max_keypoints, 2]`, NaN where there is none, and the map's values at their peaks
        `[n, c, max_keypoints]` in [-1, 1], 0 there: the magnitude is the score, and below 0 the keypoint is
        occluded. Both are float32, in the order of falling magnitude.

    Raises:
        ValueError: If the shape, a number or the name of the refinement is wrong.
    """
    check_decode(heatmaps, max_keypoints, min_distance_px, refine)
    decode = partial(
        _extract_from_planes,
        max_keypoints=max_keypoints,
        min_distance_px=min_distance_px,
        threshold=threshold,
        refinement=REFINEMENTS[refine],
    )
    return decode_in_parts(heatmaps, max_keypoints, decode)


def _extract_from_planes(
    planes: Tensor, max_keypoints: int, min_distance_px: int, threshold: float, refinement: Refinement
) -> tuple[Tensor, Tensor]:
    """Decode `[p, h, w]` into keypoints `[p, max_keypoints, 2]` and signed scores `[p, max_keypoints]`."""
    peaks, present = best_peaks(planes.abs(), max_keypoints, min_distance_px, threshold)
    values = planes[peaks.plane, peaks.xy[:, 1], peaks.xy[:, 0]]
    positions = _refine_on_own_sign(planes, peaks, values < 0, refinement)
    scores = torch.zeros(present.shape, device=planes.device).masked_scatter(present, values)
    return placed(positions, present, planes), scores


def _refine_on_own_sign(planes: Tensor, peaks: Peaks, negative: Tensor, refinement: Refinement) -> Tensor:
    """Return the refined positions `[m, 2]` of peaks, of which `negative` `[m]` are below 0."""
    both = torch.cat([planes, -planes])
    # Not 0: a fit leaves out what is not finite, and two peaks with a hole between them are two.
    both = both.masked_fill(both < -OTHER_SIDE, -torch.inf)
    peaks = peaks._replace(plane=peaks.plane + len(planes) * negative)
    order = peaks.plane.argsort(stable=True)  # refinements want the peaks of a plane together
    return torch.empty_like(peaks.centre).index_copy_(0, order, refinement(both, peaks.select(order)))
