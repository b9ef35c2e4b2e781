"""People with known answers, pictures for them, and followers that say what they are told, for the tests."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import torch

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.gaze.evaluate import PeopleJudged, evaluate_people
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.people_data import GazePart

QUICK = Resampling(n_resamples=60)
MAP_HW = (20, 20)
NAN = np.nan

Places = Mapping[str, list[tuple[float, float]]]


def people(*, outside: bool = True) -> GazeTable:
    """Return `ann` (one annotator), `bob` (two), `cat` (outside) and `dan` (unknown) in two pictures.

    The pictures are 200 wide and 100 high; ann and cat are in the first one.
    """
    points = {
        "ann": [[49.5, 49.5], [NAN, NAN]],
        "bob": [[99.5, 29.5], [99.5, 69.5]],
        "cat": [[NAN, NAN]] * 2,
        "dan": [[NAN, NAN]] * 2,
    }
    table = GazeTable(
        image_names=("a.png", "b.png"),
        image_hw=np.array([[100, 200]] * 2, np.int64),
        image=np.array([0, 1, 0, 1]),
        person=tuple(points),
        head_box=np.array([[139.5, 39.5, 159.5, 59.5]] * 4),
        eye_xy=np.array([[149.5, 49.5], [NAN, NAN], [149.5, 49.5], [149.5, 49.5]]),
        gaze_xy=np.array(list(points.values())),
        in_frame=np.array([1, 1, 0, -1], np.int8),
        group=("clip a", "clip b", "clip a", "clip b"),
    )
    return table if outside else table.select(table.in_frame != 0)


def part_of(table: GazeTable, folder: Path) -> GazePart:
    """Write a grey picture for each image of a table."""
    for name, (height, width) in zip(table.image_names, table.image_hw.tolist(), strict=True):
        cv2.imwrite(str(folder / name), np.full((height, width, 3), 90, np.uint8))
    return GazePart(table, folder)


class ToldFollower:
    """Say of each person what a test tells it, through maps with a Gaussian at each place."""

    map_hw = MAP_HW

    def __init__(self, table: GazeTable, places: Places, p_in: Mapping[str, float], **hparams: Any) -> None:
        self.table, self.places, self.p_in = table, places, p_in
        sizes = {"scene_hw": (40, 40), "head_hw": (16, 16), "sigma_px": 1.0, "decoder": "diffusion"}
        self.hparams = {**sizes, **hparams}
        self.conditioner = SimpleNamespace(depth_branch=None)
        self.calls: list[tuple[int, int]] = []

    def sample_maps(self, batch: Any, samples: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        names = [self.table.person[row] for row in batch["index"].tolist()]
        self.calls.append((len(names), seed))
        maps = torch.stack([torch.stack([bump(*place) for place in self.places[name]]) for name in names])
        return maps, torch.tensor([self.p_in[name] for name in names])


def bump(x: float, y: float) -> torch.Tensor:
    """Return a Gaussian of standard deviation 1 at a place in shares of width and height, `[20, 20]`."""
    height, width = MAP_HW
    down, across = torch.arange(height) - (y * height - 0.5), torch.arange(width) - (x * width - 0.5)
    return torch.exp(-0.5 * (down[:, None] ** 2 + across**2)).float()


ANSWERS = {
    "ann": [(0.25, 0.5), (0.25, 0.5), (0.25, 0.5), (0.75, 0.5)],
    "bob": [(0.5, 0.5)] * 4,
    "cat": [(0.5, 0.5)] * 4,
    "dan": [(0.5, 0.5)] * 4,
}
P_IN = {"ann": 0.9, "bob": 0.8, "cat": 0.1, "dan": 0.5}


def judged(
    folder: Path, table: GazeTable | None = None, places: Places = ANSWERS
) -> tuple[GazePart, PeopleJudged]:
    """Return people and what a follower says of them that gives `places`."""
    table = people() if table is None else table
    part = part_of(table, folder)
    told: Any = ToldFollower(table, places, P_IN)
    return part, evaluate_people(told, part, samples=4, num_workers=0)


def tiny_follower(decoder: str = "diffusion") -> GazeFollower:
    """Return a small follower with weights at random."""
    torch.manual_seed(0)
    light = {"map_hw": 16, "base_width": 8, "multipliers": (1, 2), "attention_strides": (2,)}
    light["context_dim"] = 16
    options = {
        "diffusion": {"denoiser": light, "n_timesteps": 50, "sampling_steps": 3},
        "direct": {"decoder": light},
    }
    conditioner = {"scene_encoder": "light", "scene_options": {"stride": 8}, "width": 16, "grid_hw": (4, 4)}
    follower = GazeFollower(
        decoder, conditioner, options[decoder], scene_hw=(32, 32), head_hw=(32, 32), sigma_px=1.0
    )
    for parameter in follower.decoder.parameters():  # the output is zero at the start of a training
        parameter.data += 0.1 * torch.randn_like(parameter)
    return follower
