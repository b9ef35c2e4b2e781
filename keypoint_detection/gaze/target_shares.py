"""How samples spread over targets that are equally right."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.gaze_prediction import person_seed
from keypoint_detection.gaze.gaze_targets import to_scene_pixels
from keypoint_detection.gaze.modes import peaks_of
from keypoint_detection.gaze.samples import GazeDataset, collate_gaze

RADIUS = 0.08
"""Distance, relative to the sides of the scene, up to which a sample hits a target."""


class TargetShares(NamedTuple):
    """Hold where the samples of n people went.

    Attributes:
        samples: float64 `[n, a]`, share of a person's samples that hit each target; NaN where there is none.
        mean_map_hits: bool `[n, a]`, whether the peak of their mean map hits it.
    """

    samples: NDArray[np.float64]
    mean_map_hits: NDArray[np.bool_]


def target_shares(
    follower: GazeFollower,
    dataset: GazeDataset,
    samples: int = 16,
    *,
    seed: int = 0,
    radius: float = RADIUS,
    batch_size: int = 16,
) -> TargetShares:
    """Count which targets the samples of each person hit.

    Args:
        follower: With a decoder of diffusion; a direct one has one sample.
        dataset: People whose annotators name the targets, the same number for all.
        samples: Maps of each person.
        seed: Of the noise.
        radius: See `RADIUS`.
        batch_size: People at once; it changes nothing but the rounding.
    """
    loader = DataLoader(dataset, batch_size, collate_fn=collate_gaze)
    shares, hits = [], []
    for batch in loader:
        seeds = [person_seed(seed, dataset.table.person[row]) for row in batch["index"].tolist()]
        maps, _ = follower.sample_maps(batch, samples, seeds)
        scene_hw = (batch["scene"].shape[-2], batch["scene"].shape[-1])
        near = hit_targets(peaks_of(maps), batch["gaze"], scene_hw, follower.map_hw, radius)
        share = near.double().mean(1)
        shares.append(torch.where(batch["gaze"].isfinite().all(-1), share, torch.nan))
        mean_peak = peaks_of(maps.mean(1, keepdim=True))
        hits.append(hit_targets(mean_peak, batch["gaze"], scene_hw, follower.map_hw, radius)[:, 0])
    return TargetShares(torch.cat(shares).numpy(), torch.cat(hits).numpy())


def hit_targets(
    peaks: Tensor, gaze: Tensor, scene_hw: tuple[int, int], map_hw: tuple[int, int], radius: float
) -> Tensor:
    """Return which peaks lie within the radius of which targets, bool `[n, s, a]`.

    Args:
        peaks: `[n, s, 2]` in map pixels.
        gaze: `[n, a, 2]` in pixels of the scene, NaN padded; nothing hits a NaN.
        scene_hw: Height and width of the scene.
        map_hw: Height and width of the maps.
        radius: In sides of the scene.
    """
    sides = peaks.new_tensor([scene_hw[1], scene_hw[0]])
    points = to_scene_pixels(peaks.cpu(), scene_hw, map_hw)
    apart = (points[:, :, None] - gaze.cpu()[:, None]) / sides.cpu()
    return apart.square().sum(-1).sqrt() <= radius
