"""Vision Transformers of three narrow blocks, for tests of what surrounds them."""

import functools
from typing import Any

import pytest
import torch

from keypoint_detection.models.backbones.timm_encoder import load_network
from keypoint_detection.models.detector import KeypointDetector


def make_vits_small(monkeypatch: pytest.MonkeyPatch, depth: int = 3, **options: Any) -> None:
    """Let ViT and DinoV2Up build encoders of a few blocks with 3 heads of width 16."""
    small = functools.partial(load_network, depth=depth, embed_dim=48, num_heads=3, **options)
    for family in ("vit", "dino"):
        monkeypatch.setattr(f"keypoint_detection.models.backbones.{family}.load_network", small)


def vit_detector(n_channels: int = 2, seed: int = 0, **options: Any) -> KeypointDetector:
    """Return a detector with patches of 16 pixels and random weights, in eval mode."""
    torch.manual_seed(seed)
    detector = KeypointDetector(
        [[f"point{index}"] for index in range(n_channels)],
        "ViT-Ti_16",
        {} if options.get("head") == "regression" else {"n_channels": 8},
        **options,
    )
    with torch.no_grad():  # timm's and the head's weights are so small that all tokens would be alike
        for parameter in detector.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return detector.eval()


def random_image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return uint8 noise `[1, 3, h, w]`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, 3, height, width), generator=generator, dtype=torch.uint8)
