"""The target of gaze following: a Gaussian where a person looks, on the map that a decoder draws."""

import torch
from torch import Tensor

from keypoint_detection.utils.heatmap import generate_heatmaps


def to_map_pixels(points: Tensor, scene_hw: tuple[int, int], map_hw: tuple[int, int]) -> Tensor:
    """Carry points `[..., 2]` from pixels of the scene to those of a map that covers the same part.

    Source: `u = (x + 0.5) * map / scene - 0.5`, the project's convention.
    """
    return (points + 0.5) * _scale(points, scene_hw, map_hw) - 0.5


def to_scene_pixels(points: Tensor, scene_hw: tuple[int, int], map_hw: tuple[int, int]) -> Tensor:
    """Carry points `[..., 2]` from pixels of a map to those of the scene; undoes `to_map_pixels`."""
    return (points + 0.5) / _scale(points, scene_hw, map_hw) - 0.5


def target_maps(gaze: Tensor, scene_hw: tuple[int, int], map_hw: tuple[int, int], sigma_px: float) -> Tensor:
    """Draw where people look: the sum of the Gaussians of their annotators, divided by its maximum.

    Args:
        gaze: `[n, a, 2]` in pixels of the scene; NaN: no point.
        scene_hw: Height and width of the scene.
        map_hw: Height and width of the maps.
        sigma_px: Standard deviation in map pixels, > 0.

    Returns:
        float32 `[n, 1, h, w]` in [0, 1]; zero for people without a point.
    """
    points = to_map_pixels(gaze.float(), scene_hw, map_hw)
    there = points.isfinite().all(-1)
    single = generate_heatmaps(points[:, :, None], there[:, :, None], map_hw, sigma_px)
    summed = single.sum(1, keepdim=True)
    highest = summed.amax((2, 3), keepdim=True)
    return torch.where(highest > 0, summed / highest, summed)


def one_annotator(gaze: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw one annotator of each person at random.

    A model that learns from one answer at a time learns how often each is given; their mean would lie
    between two targets, where nobody looks.

    Args:
        gaze: `[n, a, 2]`, NaN padded.
        generator: On the CPU; None takes torch's own.

    Returns:
        `[n, 1, 2]`; NaN for people without an annotator.
    """
    there = gaze.isfinite().all(-1)
    draw = torch.rand(there.shape, generator=generator).to(gaze.device)
    chosen = torch.where(there, draw, -1.0).argmax(1)
    return gaze[torch.arange(len(gaze), device=gaze.device), chosen][:, None]


def _scale(points: Tensor, scene_hw: tuple[int, int], map_hw: tuple[int, int]) -> Tensor:
    height, width = scene_hw
    return points.new_tensor([map_hw[1] / width, map_hw[0] / height])
