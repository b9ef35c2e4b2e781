"""What a follower says of one person, in pixels of the picture: where, how surely, and where else."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.gaze.gaze_targets import to_scene_pixels
from keypoint_detection.gaze.modes import group_peaks, peaks_of, summarise
from keypoint_detection.geometry import transform_points

if TYPE_CHECKING:
    from keypoint_detection.gaze.follower import GazeFollower
    from keypoint_detection.gaze.samples import GazeBatch

SAMPLES = 8
"""Maps of each person, unless told otherwise."""

MODE_RADIUS_SIGMAS = 2.0
"""How far apart the peaks of one mode are at most, in standard deviations of the targets."""


@dataclass(frozen=True)
class GazePrediction:
    """Hold where a person is said to look; points in pixels of the picture.

    Attributes:
        point_xy: Highest peak of the mean of the maps, float64 `[2]`.
        p_in: Probability of looking into the picture.
        samples_xy: Highest peak of each map, float64 `[s, 2]`.
        modes_xy: Candidate targets, heaviest first, float64 `[m, 2]`.
        weights: Share of the maps that point to each, float64 `[m]`, adding up to 1.
        mode_std_px: Root of the mean squared distance of the peaks of each mode to it, float64 `[m]`.
        spread: The same of all peaks together, in shares of width and height; 0 for one map.
        heat: Mean of the maps, which cover the picture, times 255: uint8 `[h, w]`; None where it is not kept.
    """

    point_xy: NDArray[np.float64]
    p_in: float
    samples_xy: NDArray[np.float64]
    modes_xy: NDArray[np.float64]
    weights: NDArray[np.float64]
    mode_std_px: NDArray[np.float64]
    spread: float
    heat: NDArray[np.uint8] | None = None


def predict_batch(
    follower: "GazeFollower",
    batch: "GazeBatch | Mapping[str, Tensor]",
    *,
    samples: int = SAMPLES,
    seed: int | Sequence[int] | None = 0,
) -> tuple[list[GazePrediction], Tensor]:
    """Predict where the people of a batch look; the scene and the head are looked at once.

    Args:
        follower: On any device.
        batch: Of samples that nothing was changed of: the scene is the whole picture.
        samples: Maps of each person; a direct decoder has one.
        seed: Of the noise of all, or of each person, as of `person_seed`.

    Returns:
        A prediction for each of the n people, and the means of their maps, float32 `[n, h, w]` in [0, 1] on
        the follower's device.

    Raises:
        ValueError: A map is not finite.
    """
    maps, p_in = follower.sample_maps(batch, samples, seed)
    radius_px = MODE_RADIUS_SIGMAS * follower.hparams["sigma_px"]
    summary = summarise(maps, radius_px)
    groups = group_peaks(summary.peaks, radius_px).cpu().numpy()
    best = peaks_of(summary.mean_map[:, None])
    places = torch.cat([best, summary.peaks], dim=1).double().cpu()
    scene_hw = (batch["scene"].shape[-2], batch["scene"].shape[-1])
    on_scene = to_scene_pixels(places, scene_hw, follower.map_hw)
    in_picture = transform_points(batch["to_image"].double().cpu(), on_scene).numpy()
    heat = (255 * summary.mean_map).round().clamp(0, 255).byte().cpu().numpy()
    sizes = batch["image_hw"].cpu().numpy()
    people = zip(in_picture, groups, p_in.double().tolist(), heat, sizes, strict=True)
    return [_prediction(*person) for person in people], summary.mean_map


def person_seed(seed: int, *names: str | int) -> int:
    """Return the seed of a person's noise, which depends on nobody else, in [0, 2^63).

    Args:
        seed: Of all.
        names: What tells the person from others, such as its name, or image and number.

    Example:
        >>> person_seed(0, "a.png#0") == person_seed(0, "a.png#0") != person_seed(0, "a.png#1")
        True
    """
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def _prediction(
    places: NDArray[np.float64],
    group: NDArray[np.int64],
    p_in: float,
    heat: NDArray[np.uint8],
    image_hw: NDArray[Any],
) -> GazePrediction:
    """Return the prediction of one person.

    Args:
        places: Peak of the mean map, then those of the maps, `[1 + s, 2]` in pixels of the picture.
        group: Mode of each map, `[s]`.
        p_in: Probability of looking into the picture.
        heat: As in `GazePrediction`.
        image_hw: Height and width of the picture.
    """
    samples_xy = places[1:]
    members = [samples_xy[group == mode] for mode in range(int(group.max()) + 1)]
    return GazePrediction(
        point_xy=places[0],
        p_in=p_in,
        samples_xy=samples_xy,
        modes_xy=np.stack([part.mean(0) for part in members]),
        weights=np.array([len(part) / len(samples_xy) for part in members]),
        mode_std_px=np.array([spread_of(part) for part in members]),
        spread=spread_of(samples_xy / image_hw[::-1]),
        heat=heat,
    )


def spread_of(points: NDArray[np.float64]) -> float:
    """Return the root of the mean squared distance of points `[n, 2]` to their mean."""
    return float(np.sqrt(np.square(points - points.mean(0)).sum(1).mean()))
