"""What the tests of gaze predict share: a checkpoint, pictures, a video, and boxes of heads in them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from predicting import write_images, write_video

from keypoint_detection.gaze.follower import GazeFollower

_GRID = (4, 4)
_CONDITIONER = {
    "scene_encoder": "light",
    "scene_options": {"stride": 8},
    "width": 16,
    "grid_hw": _GRID,
    "gaze_frame": True,
}
_NETWORK = {
    "map_hw": 16,
    "base_width": 8,
    "multipliers": (1, 2),
    "attention_strides": (2,),
    "context_dim": 16,
    "token_grid_hw": _GRID,
}
SIZES: dict[str, Any] = {"scene_hw": (48, 64), "head_hw": (32, 32)}
HEADER = "image,x0,y0,x1,y1,person,eye_x,eye_y\n"


def save_follower(path: Path, decoder: str = "diffusion", *, depth: bool = False) -> Path:
    """Write a checkpoint with random weights that are the same every time."""
    torch.manual_seed(0)
    network: dict[str, Any] = {"decoder": _NETWORK}
    if decoder == "diffusion":
        network = {"denoiser": _NETWORK, "n_timesteps": 40, "sampling_steps": 4}
    one = GazeFollower(decoder, {**_CONDITIONER, "depth": depth}, network, sigma_px=1.5, **SIZES)
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in one.decoder.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"hyper_parameters": dict(one.hparams), "state_dict": one.state_dict()}, path)
    return path


def photos(folder: Path) -> list[Path]:
    """Write five pictures; `boxes_file` has people in four of them."""
    return write_images(folder, [(32, 48), (40, 32), (32, 48), (60, 21), (32, 48)])


def boxes_file(path: Path) -> Path:
    """Write two heads in the first picture, one in the three after it, and none in the last."""
    path.write_text(
        HEADER
        + "0.png,2,3,20,18,ann,10,9\n0.png,22,5,40,25,bob,,\n"
        + "".join(f"{number}.png,-2,3,14,18,,,\n" for number in (1, 2, 3))
    )
    return path


def video(folder: Path, count: int = 9) -> tuple[Path, Path]:
    """Write a video, and boxes of one or two heads in every frame but each fourth."""
    rows = ["frame,x0,y0,x1,y1\n"]
    for frame in range(count):
        heads = [] if frame % 4 == 3 else [f"{frame},{frame % 5},3,{20 + frame},18\n"]
        rows += heads * (1 + frame % 2)
    (folder / "boxes.csv").write_text("".join(rows))
    return write_video(folder / "mouse.avi", count), folder / "boxes.csv"


def read_entries(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of predictions.json, which is strict JSON."""

    def fail(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads((folder / "predictions.json").read_text(), parse_constant=fail)["predictions"]


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of predictions.csv; none has a NaN or an empty cell."""
    with (folder / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert not [row for row in rows if {"nan", "", "inf"} & {cell.lower() for cell in row.values()}]
    return rows


def numbers(row: dict[str, str], *names: str) -> np.ndarray:
    """Return cells of a row as numbers."""
    return np.array([float(row[name]) for name in names])


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
