"""Checks that every backbone with an encoder from timm has to pass."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.base_backbone import Backbone
from keypoint_detection.models.backbones.decoder import HeatmapConv
from keypoint_detection.models.backbones.timm_encoder import encoder_configuration, pretrained_file


def millions(build: Callable[[], Backbone], n_heatmaps: int = 1, kernel_size: int = 3) -> float:
    """Return the millions of parameters of a backbone and a head of one convolution; nothing is computed."""
    with torch.device("meta"):
        backbone = build()
        head = HeatmapConv(backbone.out_channels, n_heatmaps, kernel_size)
    return sum(parameter.numel() for part in (backbone, head) for parameter in part.parameters()) / 1e6


def assert_gradients(backbone: nn.Module, image: Tensor) -> Tensor:
    """Check that a gradient reaches every parameter, and return the features."""
    features = backbone(image)
    features.square().sum().backward()
    without = [
        name for name, weight in backbone.named_parameters() if weight.grad is None or not weight.grad.any()
    ]
    assert not without
    return features.detach()


def assert_pretrained_asks_for(
    encoder: str, build: Callable[[], Backbone], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Check that weights of `encoder` are wanted, and that the message without a network names the file."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    with pytest.raises(FileNotFoundError, match=f"no pretrained weights of encoder '{encoder}'") as caught:
        build()
    assert str(pretrained_file(encoder_configuration("any", encoder))) in str(caught.value)
    assert "\n" not in str(caught.value)
