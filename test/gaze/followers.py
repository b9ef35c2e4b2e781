"""Small followers of both kinds, and batches of people for them."""

from typing import Any

import torch

from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.samples import GazeBatch

GRID = (4, 4)
CONDITIONER: dict[str, Any] = {
    "scene_encoder": "light",
    "scene_options": {"stride": 8},
    "width": 16,
    "grid_hw": GRID,
    "head_grid_hw": (2, 2),
    "gaze_frame": True,
}
NETWORK: dict[str, Any] = {
    "map_hw": 16,
    "base_width": 8,
    "multipliers": (1, 2),
    "attention_strides": (2,),
    "context_dim": 16,
    "token_grid_hw": GRID,
}
NAN = float("nan")


def follower(
    decoder: str = "diffusion", *, diffusion: dict[str, Any] | None = None, **options: Any
) -> GazeFollower:
    """Return a small follower, the same at every call."""
    torch.manual_seed(0)
    decoder_options: dict[str, Any] = {"decoder": NETWORK}
    if decoder == "diffusion":
        decoder_options = {"denoiser": NETWORK, "n_timesteps": 40, "sampling_steps": 4, **(diffusion or {})}
    conditioner = {**CONDITIONER, **options.pop("conditioner", {})}
    return GazeFollower(decoder, conditioner, decoder_options, **{"sigma_px": 1.5, **options})


def people(
    n: int = 3,
    scene_hw: tuple[int, int] = (64, 64),
    head_hw: tuple[int, int] = (32, 32),
    annotators: int = 2,
    *,
    depth: bool = False,
) -> GazeBatch:
    """Return people who all look into the image."""
    generator = torch.Generator().manual_seed(4)

    def image(channels: int, hw: tuple[int, int]) -> torch.Tensor:
        return torch.randint(0, 256, (n, channels, *hw), dtype=torch.uint8, generator=generator)

    mask = torch.zeros(n, 1, *scene_hw, dtype=torch.uint8)
    mask[:, :, : scene_hw[0] // 3, : scene_hw[1] // 3] = 255
    sides = torch.tensor([scene_hw[1], scene_hw[0]], dtype=torch.float32)
    batch: Any = {
        "scene": image(3, scene_hw),
        "head": image(3, head_hw),
        "head_mask": mask,
        "gaze": torch.rand(n, annotators, 2, generator=generator) * (sides - 1),
        "in_frame": torch.ones(n),
        "eye": (sides / 6 - 0.5).expand(n, 2).clone(),
    }
    if depth:
        batch["depth"] = image(1, scene_hw)
    return batch


def changed(batch: GazeBatch, row: int, **values: Any) -> GazeBatch:
    """Return a batch with other values in one row."""
    other: Any = {name: part.clone() for name, part in batch.items()}  # pyright: ignore
    for name, value in values.items():
        other[name][row] = value
    return other


def part(batch: GazeBatch, rows: list[int]) -> GazeBatch:
    """Return some of the people."""
    return {name: values[rows] for name, values in batch.items()}  # pyright: ignore
