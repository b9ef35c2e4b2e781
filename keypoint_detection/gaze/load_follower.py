"""From a file to a network of gaze following that is ready to predict.

The module shares its name with the public function `keypoint_detection.gaze.load_follower(path)`. Python
binds a module to its package's name once it is imported, so the module itself answers that call.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.models.backbones.backbone_factory import (
    WEIGHT_OPTIONS,
    backbone_options,
    list_backbones,
    without_weights,
)
from keypoint_detection.utils.load_checkpoints import checkpoint_kind, is_gaze_checkpoint, read_any_checkpoint


class _CallableModule(ModuleType):
    def __call__(self, path: str | Path, device: str | torch.device = "cpu") -> GazeFollower:
        """Load a follower; see the function `load_follower`."""
        return load_follower(path, device)


sys.modules[__name__].__class__ = _CallableModule


def load_follower(path: str | Path, device: str | torch.device = "cpu") -> GazeFollower:
    """Load a follower from a checkpoint, in eval mode, without the network and without code from the file.

    Args:
        path: A `.ckpt` file that a training of gaze following wrote.
        device: Where to put the weights.

    Returns:
        The follower; averaged weights where the training averaged them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a checkpoint of a GazeFollower.
    """
    content = read_any_checkpoint(path)
    if not is_gaze_checkpoint(content):
        expected = "expected one of gaze following, which `gaze train` writes"
        kind = checkpoint_kind(content)
        if kind is None:
            raise ValueError(f"{path} lacks settings or weights; {expected}")
        raise ValueError(f"{path} is a checkpoint of a {kind}; {expected}")
    settings = dict(content["hyper_parameters"])
    try:
        follower = GazeFollower(**{**settings, "conditioner_options": _reading_no_weights(settings)})
        follower.load_state_dict(content["state_dict"])
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its weights or settings do not fit this version: {reason}") from None
    return follower.eval().to(device)


def _reading_no_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return options of a conditioner whose encoders read no pretrained weights: the checkpoint has all."""
    options = dict(settings["conditioner_options"] or {})
    for part in ("scene", "head"):
        given, encoder = options.get(f"{part}_options"), options.get(f"{part}_encoder")
        can = backbone_options(encoder) if encoder in list_backbones() else {}
        defaults = {name: off for name, off in WEIGHT_OPTIONS.items() if name in can}
        if given is not None or defaults:
            options[f"{part}_options"] = {**without_weights(given or {}), **defaults}
    return options
