"""Small conditioners of every kind, and batches for them."""

import torch
from torch import nn

from keypoint_detection.gaze.conditioner import Conditioner

SMALL = {"scene_encoder": "light", "scene_options": {"stride": 8}, "width": 16, "grid_hw": (4, 4)}

VARIANTS = {
    "plain": {},
    "attention": {"head_attention": True},
    "depth": {"depth": True},
    "place": {"head_position": True, "gaze_frame": True},
    "mixing": {"mixing_layers": 2},
    "two grids": {"head_grid_hw": (2, 3), "gaze_frame": True, "mixing_layers": 1},
    "all": {
        "depth": True,
        "head_attention": True,
        "head_position": True,
        "gaze_frame": True,
        "mixing_layers": 1,
    },
    "resnet": {
        "scene_encoder": "resnet50_fifth_stage",
        "scene_options": {"trunk": "resnet10t"},
        "grid_hw": (2, 2),
    },
}


def build(variant: str = "plain", **options) -> Conditioner:
    torch.manual_seed(0)
    return Conditioner(**{**SMALL, **VARIANTS[variant], **options})


def randomized(variant: str) -> Conditioner:
    """Return a conditioner in eval mode whose running statistics are not the trivial initial ones."""
    conditioner = build(variant)
    for module in conditioner.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # pyright: ignore[reportArgumentType]
    return conditioner.eval()


def batch(
    conditioner: Conditioner,
    n: int = 2,
    scene_hw: tuple[int, int] = (64, 64),
    head_hw: tuple[int, int] = (32, 32),
) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    mask = torch.zeros(n, 1, *scene_hw, dtype=torch.uint8)
    mask[:, :, scene_hw[0] // 4 : scene_hw[0] // 2, : scene_hw[1] // 3] = 255
    scene, depth = (torch.randint(0, 256, (n, c, *scene_hw), dtype=torch.uint8) for c in (3, 1))
    head = torch.randint(0, 256, (n, 3, *head_hw), dtype=torch.uint8)
    given = (scene, head, mask)
    return given if conditioner.depth_branch is None else (*given, depth)
