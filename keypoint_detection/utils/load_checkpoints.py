"""From a file to a detector that is ready to predict."""

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch

from keypoint_detection.models.backbones.backbone_factory import without_weights
from keypoint_detection.models.detector import KeypointDetector

# What torch's reader raises, by the first bytes of a file that it was not made for.
_UNREADABLE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, struct.error, EOFError, RuntimeError, AssertionError),
    *(ValueError, TypeError, AttributeError, LookupError),
)


def load_model(path: str | Path, device: str | torch.device = "cpu") -> KeypointDetector:
    """Load a detector from a checkpoint, in eval mode, without the network and without code from the file.

    Args:
        path: A `.ckpt` file that a training wrote.
        device: Where to put the weights.

    Returns:
        The detector.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a checkpoint of a KeypointDetector.
    """
    checkpoint = read_checkpoint(path)
    hparams = dict(checkpoint["hyper_parameters"])
    options = without_weights(hparams.get("backbone_options") or {})  # they are in the checkpoint
    try:
        detector = KeypointDetector(**{**hparams, "backbone_options": options})
        detector.load_state_dict(checkpoint["state_dict"])
    except (TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its weights or settings do not fit this version: {reason}") from None
    return detector.eval().to(device)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a Lightning checkpoint of a KeypointDetector, tensors on the CPU."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: expected a .ckpt file that a training wrote")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE:
        raise ValueError(f"{path} is not a checkpoint: expected a .ckpt file that a training wrote") from None
    needed = {"hyper_parameters", "state_dict"}
    if not isinstance(content, dict) or not needed <= content.keys() or not _is_detector(content):
        raise ValueError(
            f"{path} is not a checkpoint of a keypoint detector: it lacks its settings or weights"
        )
    return content


def _is_detector(content: dict[str, Any]) -> bool:
    return "keypoint_channel_configuration" in content["hyper_parameters"]
