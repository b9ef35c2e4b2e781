"""Encode keypoints as Gaussian heatmaps and decode heatmaps to sub-pixel keypoints, an inverse pair.

All coordinates are heatmap pixels: `(x, y)`, and an integer is the centre of a pixel.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from keypoint_detection.registry import nearest_name
from keypoint_detection.utils.heatmap_decode import Peaks, find_peaks
from keypoint_detection.utils.heatmap_refine import PATCH_SIDE, fit_gaussians, quarter_offset

TAIL = 1e-7
"""Value below which a Gaussian counts as zero: less than the rounding of a float32 close to its peak."""
SIGMA_CONSTANT_EPOCHS = 10
"""Epochs at full sigma before a sigma schedule starts to fall."""
PIXELS_AT_ONCE = 2**22
"""Most pixels that are decoded together, so that memory stays bounded however large the batch is."""

Refinement = Callable[[Tensor, Peaks], Tensor]
REFINEMENTS: dict[str, Refinement] = {
    "none": lambda planes, peaks: peaks.centre,
    "quarter": quarter_offset,
    "taylor": fit_gaussians,
}


def generate_heatmaps(
    keypoints: Tensor,
    visibility: Tensor,
    heatmap_hw: tuple[int, int],
    sigma_px: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Draw keypoints as Gaussians of height 1 into the maps of their channels, on their device.

    `map(u) = max_k exp(-|u - keypoint_k|^2 / (2 sigma^2))` with real-valued centres. Only a window around
    each keypoint is computed, so neither time nor memory grows with keypoints x pixels; values below 1e-7 may
    be left at zero. A point outside the map leaves the flank that reaches into it.

    Args:
        keypoints: `[n, c, k, 2]`, `(x, y)` in heatmap pixels; NaN or infinite means absent.
        visibility: `[n, c, k]`; 0 or NaN means absent, whatever the coordinates are.
        heatmap_hw: Height and width of the maps.
        sigma_px: Standard deviation in heatmap pixels, > 0.
        dtype: Type of the maps.

    Returns:
        `[n, c, h, w]` in [0, 1]; all zero for a channel without keypoints.

    Raises:
        ValueError: If a shape, the size or the sigma is wrong.

    Source: DARK (arXiv 1910.06278, real-valued centres); the windows are ours.
    """
    _check_encode(keypoints, visibility, heatmap_hw, sigma_px)
    images, channels, _, _ = keypoints.shape
    height, width = heatmap_hw
    heatmaps = torch.zeros(images * channels * height * width, dtype=dtype, device=keypoints.device)
    xy = keypoints.detach().flatten(0, 1).float()
    present = ((visibility > 0).flatten(0, 1) & xy.isfinite().all(-1)).nonzero()
    planes, xy = present[:, 0], xy[present[:, 0], present[:, 1]]
    side = _window_side(sigma_px)
    at_once = max(1, heatmaps.numel() // (min(side, height) * min(side, width)))
    for plane, point in zip(planes.split(at_once), xy.split(at_once), strict=True):
        columns, along_x = _gaussian_window(point[:, 0], width, sigma_px)
        rows, along_y = _gaussian_window(point[:, 1], height, sigma_px)
        pixels = ((plane[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
        values = along_y[:, :, None] * along_x[:, None, :]
        heatmaps.scatter_reduce_(0, pixels.flatten(), values.flatten().to(dtype), "amax")
    return heatmaps.view(images, channels, height, width)


def _window_side(sigma_px: float) -> int:
    """Return the most pixels in a row at which a Gaussian is above `TAIL`."""
    return int(2 * sigma_px * math.sqrt(-2 * math.log(TAIL))) + 1


def _gaussian_window(centre: Tensor, size: int, sigma_px: float) -> tuple[Tensor, Tensor]:
    """Return the pixels `[m, s]` of a row or column around each centre `[m]`, and the Gaussian there."""
    side = min(_window_side(sigma_px), size)
    first = (centre - _window_side(sigma_px) / 2).ceil().clamp(0, size - side).long()
    pixels = first[:, None] + torch.arange(side, device=centre.device)
    return pixels, torch.exp(-0.5 * ((pixels - centre[:, None]) / sigma_px) ** 2)


def _check_encode(
    keypoints: Tensor, visibility: Tensor, heatmap_hw: tuple[int, int], sigma_px: float
) -> None:
    """Raise a ValueError for arguments that `generate_heatmaps` cannot draw."""
    if keypoints.ndim != 4 or keypoints.shape[-1] != 2 or visibility.shape != keypoints.shape[:-1]:
        raise ValueError(
            "expected keypoints [n, c, k, 2] and visibility [n, c, k], "
            f"got {list(keypoints.shape)} and {list(visibility.shape)}"
        )
    if min(heatmap_hw) < 1:
        raise ValueError(f"expected a heatmap of at least 1x1 pixels, got {heatmap_hw[0]}x{heatmap_hw[1]}")
    if not (sigma_px > 0 and math.isfinite(sigma_px)):
        raise ValueError(f"expected a sigma above 0 heatmap pixels, got {sigma_px}")


def sigma_at_epoch(heatmap_sigma: float, variable_heatmap_sigma: float, epoch: int, last_epoch: int) -> float:
    """Return the sigma of the targets in an epoch: constant, then falling from epoch 10 to the last one.

    Args:
        heatmap_sigma: Sigma up to and including epoch 10, in heatmap pixels.
        variable_heatmap_sigma: Sigma in the last epoch; at or above `heatmap_sigma` nothing changes.
        epoch: Epoch, from 0.
        last_epoch: The last epoch, `max_epochs - 1`; with 10 or less sigma stays constant.

    Returns:
        Sigma in heatmap pixels, between the two given ones.
    """
    if variable_heatmap_sigma >= heatmap_sigma or last_epoch <= SIGMA_CONSTANT_EPOCHS:
        return float(heatmap_sigma)
    progress = (epoch - SIGMA_CONSTANT_EPOCHS) / (last_epoch - SIGMA_CONSTANT_EPOCHS)
    return heatmap_sigma + (variable_heatmap_sigma - heatmap_sigma) * min(max(progress, 0.0), 1.0)


@torch.no_grad()
def extract_keypoints(
    heatmaps: Tensor,
    max_keypoints: int = 20,
    min_distance_px: int = 1,
    threshold: float = 0.01,
    refine: str = "taylor",
) -> tuple[Tensor, Tensor]:
    """Find the best peaks of every map with sub-pixel positions.

    A peak is a pixel, or a plateau of equal pixels, above the threshold without a higher pixel around it;
    outside the map everything is lower, so peaks on edges and in corners count, and NaN is lower than every
    number. A peak is suppressed if its window of `2 * min_distance_px + 1` pixels holds a higher pixel, or an
    equal peak that comes first in reading order: what max-pooling with that window keeps, ties broken.
    Detections are thus more than `min_distance_px` apart (Chebyshev, before refinement).

    Args:
        heatmaps: `[n, c, h, w]`, probabilities in [0, 1], any floating type, any device.
        max_keypoints: Most keypoints per channel of an image, >= 1.
        min_distance_px: Radius of the suppression window in heatmap pixels, >= 0.
        threshold: A peak must be higher than this.
        refine: `"taylor"` fits a Gaussian to the surroundings, neighbours taken into account; `"quarter"`
            moves a quarter pixel to the higher side; `"none"` keeps the pixel, or the centre of mass of a
            plateau.

    Returns:
        Keypoints `[n, c, max_keypoints, 2]` in heatmap pixels within `[-0.5, w - 0.5]` and `[-0.5, h - 0.5]`,
        padded with NaN, and scores `[n, c, max_keypoints]`, the map's value at the peak, padded with 0; both
        float32, best first, equal scores in reading order.

    Raises:
        ValueError: If the shape, a number or the name of the refinement is wrong.

    Source: peak definition and windows ours, after CenterNet's max-pooling; refinements see `heatmap_refine`.
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


def decode_in_parts(
    heatmaps: Tensor, max_keypoints: int, decode: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Decode maps some at a time, in float32 under any precision.

    Args:
        heatmaps: `[n, c, h, w]`.
        max_keypoints: Most keypoints per map.
        decode: Maps float32 `[p, h, w]` to keypoints `[p, max_keypoints, 2]` and `[p, max_keypoints]`.

    Returns:
        Both for all maps, `[n, c, max_keypoints, 2]` and `[n, c, max_keypoints]`.
    """
    images, channels, height, width = heatmaps.shape
    pixels_per_plane = max(height * width, max_keypoints * max(max_keypoints, PATCH_SIDE**2))
    batches = heatmaps.reshape(-1, height, width).split(max(1, PIXELS_AT_ONCE // pixels_per_plane))
    with torch.autocast(heatmaps.device.type, enabled=False):  # which would fit in half precision
        found = [decode(planes.float()) for planes in batches]
    keypoints = torch.cat([keypoints for keypoints, _ in found])
    scores = torch.cat([scores for _, scores in found])
    return (
        keypoints.view(images, channels, max_keypoints, 2),
        scores.view(images, channels, max_keypoints),
    )


def _extract_from_planes(
    planes: Tensor, max_keypoints: int, min_distance_px: int, threshold: float, refinement: Refinement
) -> tuple[Tensor, Tensor]:
    """Decode `[p, h, w]` into keypoints `[p, max_keypoints, 2]` and scores `[p, max_keypoints]`."""
    peaks, present = best_peaks(planes, max_keypoints, min_distance_px, threshold)
    keypoints = placed(refinement(planes, peaks), present, planes)
    return keypoints, torch.zeros(present.shape, device=planes.device).masked_scatter(present, peaks.score)


def best_peaks(
    planes: Tensor, max_keypoints: int, min_distance_px: int, threshold: float
) -> tuple[Peaks, Tensor]:
    """Return the m best peaks of float32 planes `[p, h, w]`, by plane and best first.

    The second value, bool `[p, max_keypoints]`, tells where they belong: its m places in reading order.
    """
    peaks = find_peaks(planes, min_distance_px, threshold, max_keypoints)
    first = torch.searchsorted(peaks.plane, torch.arange(len(planes), device=planes.device))
    rank = torch.arange(len(peaks.plane), device=planes.device) - first[peaks.plane]
    most = max(max_keypoints, int(rank.max()) + 1 if len(rank) else 0)
    table = torch.full((len(planes), most), -torch.inf, device=planes.device)
    table[peaks.plane, rank] = peaks.score
    scores, order = (part[:, :max_keypoints] for part in table.sort(dim=1, descending=True, stable=True))
    present = scores > -torch.inf
    return peaks.select((first[:, None] + order)[present]), present


def placed(positions: Tensor, present: Tensor, planes: Tensor) -> Tensor:
    """Return positions `[m, 2]`, kept on the map, at their places `[p, max_keypoints, 2]`, NaN elsewhere."""
    height, width = planes.shape[1:]
    limit = torch.tensor([width, height], device=planes.device) - 0.5
    keypoints = torch.full((*present.shape, 2), torch.nan, device=planes.device)
    keypoints[present] = torch.minimum(positions.clamp(min=-0.5), limit)
    return keypoints


def check_decode(heatmaps: Tensor, max_keypoints: int, min_distance_px: int, refine: str) -> None:
    """Raise a ValueError for arguments that `extract_keypoints` cannot use."""
    if heatmaps.ndim != 4 or not heatmaps.is_floating_point() or min(heatmaps.shape[2:]) < 1:
        raise ValueError(
            "expected floating-point heatmaps [n, c, h, w] with h, w >= 1, "
            f"got {heatmaps.dtype} {list(heatmaps.shape)}"
        )
    if max_keypoints < 1 or min_distance_px < 0:
        raise ValueError(
            "expected max_keypoints >= 1 and min_distance_px >= 0, "
            f"got max_keypoints={max_keypoints} and min_distance_px={min_distance_px}"
        )
    if refine not in REFINEMENTS:
        known = ", ".join(REFINEMENTS)
        raise ValueError(f"unknown refine {refine!r}; known: {known}.{nearest_name(refine, REFINEMENTS)}")
