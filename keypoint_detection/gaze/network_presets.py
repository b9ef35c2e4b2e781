"""Options of the networks by name: as published, and light enough to train on two CPU cores."""

from typing import Any

PUBLISHED: dict[str, dict[str, Any]] = {"conditioner": {}, "denoiser": {}, "direct": {}}
"""The defaults: 224 px scenes and heads, 98 tokens of 1024, maps of 64x64."""

_LIGHT_MAP = {
    "map_hw": 32,
    "base_width": 16,
    "multipliers": (1, 2, 3),
    "attention_strides": (4,),
    "context_dim": 64,
    "token_grid_hw": (16, 16),
    "overlay": True,
}

LIGHT: dict[str, dict[str, Any]] = {
    "conditioner": {
        "scene_encoder": "light",
        "scene_options": {"stride": 8},
        "head_options": {"stride": 8},
        "width": 64,
        "grid_hw": (16, 16),
        "head_grid_hw": (4, 4),
        "head_position": True,
        "gaze_frame": True,
        "mixing_layers": 1,
    },
    "denoiser": _LIGHT_MAP,
    "direct": _LIGHT_MAP,
}
"""For scenes of 128 px and heads of 32 px, or 64 px."""

PRESETS = {"published": PUBLISHED, "light": LIGHT}
