"""What several maps of one person say together: their mean, their spread and where they point to."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from keypoint_detection.utils.heatmap import extract_keypoints


class SampleSummary(NamedTuple):
    """Hold what s sampled maps of each of n people say; coordinates and lengths in map pixels.

    Attributes:
        mean_map: float32 `[n, h, w]`, mean of the maps.
        peaks: float32 `[n, s, 2]`, `(x, y)` of the highest peak of each map; the middle of a flat map.
        peak_std_px: float32 `[n]`, root of the mean squared distance of the peaks to their mean; 0 for one.
        entropy: float32 `[n]`, of the mean map as a distribution over its pixels, in nats: 0 where all is in
            one pixel, `ln(h w)` for a flat map.
        modes: float32 `[n, m, 2]`, candidate targets, heaviest first, NaN padded; m of the person with most.
        weights: float32 `[n, m]`, share of the maps that point to each, adding up to 1; 0 for padding.
        mode_std_px: float32 `[n, m]`, as `peak_std_px` within each mode; NaN for padding.
    """

    mean_map: Tensor
    peaks: Tensor
    peak_std_px: Tensor
    entropy: Tensor
    modes: Tensor
    weights: Tensor
    mode_std_px: Tensor


@torch.no_grad()
def summarise(samples: Tensor, radius_px: float = 6.0) -> SampleSummary:
    """Return what several maps of each person say; the same every time.

    Peaks are grouped one mode after another: the free peak with most free peaks within the radius takes them
    all, the tighter group first where two are as large, and the mode lies at their mean. Every map ends up in
    a mode, so that the weights add up to 1.

    Args:
        samples: `[n, s, h, w]` with s >= 1, finite, usually in [0, 1]; any floating type.
        radius_px: How far apart two peaks of one mode are at most from the peak that made it, in map pixels,
            > 0. Twice the sigma of the targets, 3, is the default.

    Raises:
        ValueError: A shape or the radius is none of these, or a map is not finite.

    Example:
        >>> maps = torch.zeros(1, 3, 16, 16)
        >>> maps[0, 0, 2, 2] = maps[0, 1, 2, 2] = maps[0, 2, 12, 12] = 1
        >>> summary = summarise(maps)
        >>> summary.modes[0].round().tolist(), [round(weight, 3) for weight in summary.weights[0].tolist()]
        ([[2.0, 2.0], [12.0, 12.0]], [0.667, 0.333])
    """
    _check(samples, radius_px)
    samples = samples.float()
    peaks = peaks_of(samples)
    mode = group_peaks(peaks, radius_px)
    modes, weights, mode_std_px = _describe(peaks, mode)
    mean_map = samples.mean(1)
    peak_std_px = (peaks - peaks.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()
    return SampleSummary(mean_map, peaks, peak_std_px, map_entropy(mean_map), modes, weights, mode_std_px)


def peaks_of(samples: Tensor) -> Tensor:
    """Return the highest peak of every map to a fraction of a pixel, float32 `[n, s, 2]`, never NaN.

    A plateau counts as its centre of mass, so that a flat map points to its middle.
    """
    peaks = extract_keypoints(samples, max_keypoints=1, threshold=-torch.inf)[0][:, :, 0]
    middle = torch.tensor([samples.shape[3] - 1, samples.shape[2] - 1], device=samples.device) / 2
    flat = samples.amax((2, 3)) == samples.amin((2, 3))
    return torch.where(flat[..., None] | ~peaks.isfinite(), middle, peaks)


def group_peaks(peaks: Tensor, radius_px: float) -> Tensor:
    """Return the mode that each peak belongs to, int64 `[n, s]` from 0, larger modes first.

    Args:
        peaks: `[n, s, 2]`, finite.
        radius_px: See `summarise`.
    """
    distance = torch.cdist(peaks.double(), peaks.double(), compute_mode="donot_use_mm_for_euclid_dist")
    near = distance <= radius_px
    mode = torch.full(peaks.shape[:2], -1, dtype=torch.int64, device=peaks.device)
    for number in range(peaks.shape[1]):
        free = mode < 0
        around = near & free[:, None] & free[:, :, None]
        count = around.sum(2)
        tightness = 1 - (distance * around).sum(2) / (count.clamp(min=1) * (radius_px + 1))
        leader = torch.where(free, count + tightness.clamp(0, 0.999), -1.0).argmax(1)
        members = around.gather(1, leader[:, None, None].expand(-1, 1, peaks.shape[1]))[:, 0]
        mode[members] = number
        if not bool((mode < 0).any()):
            break
    return mode


def _describe(peaks: Tensor, mode: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the middle, the weight and the spread of each mode, `[n, m, 2]`, `[n, m]` and `[n, m]`."""
    most = int(mode.max()) + 1 if mode.numel() else 0
    member = (mode[:, None] == torch.arange(most, device=mode.device)[:, None]).float()
    count = member.sum(2)
    middle = (member @ peaks) / count[..., None]  # NaN where there is no such mode
    squares = (peaks[:, None] - middle.nan_to_num()[:, :, None]).square().sum(-1)
    return middle, count / mode.shape[1], ((member * squares).sum(2) / count).sqrt()


def map_entropy(maps: Tensor) -> Tensor:
    """Return the entropy of maps `[n, h, w]` as distributions, in nats `[n]`; a map of zeros counts as flat.

    Values below 0 count as 0.
    """
    mass = maps.float().flatten(1).clamp(min=0)
    total = mass.sum(1, keepdim=True)
    share = torch.where(total > 0, mass / total, 1.0 / max(mass.shape[1], 1))
    return -torch.xlogy(share, share).sum(1)


def _check(samples: Tensor, radius_px: float) -> None:
    if samples.ndim != 4 or min(samples.shape[1:]) < 1 or not samples.is_floating_point():
        raise ValueError(
            "expected floating-point samples [n, s, h, w] with s, h, w >= 1, got"
            f" {samples.dtype} {list(samples.shape)}"
        )
    if not (radius_px > 0 and math.isfinite(radius_px)):
        raise ValueError(f"expected radius_px > 0 map pixels, got {radius_px}; 6 is usual")
    if not bool(samples.isfinite().all()):
        person = int((~samples.isfinite()).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"expected finite maps, got NaN or infinity for person {person} of the batch")
