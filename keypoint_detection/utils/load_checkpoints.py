"""From a file, or an artifact of wandb, to a detector that is ready to predict."""

import contextlib
import errno
import os
import pickle
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterator
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
_CUT_SHORT = errno.EINVAL  # torch seeks before the beginning of a file that ends too early

_TAKEN_BY = {
    "visibility classifier": "--visibility or to visibility.load_classifier",
    "gaze follower": "a gaze command or to gaze.load_follower",
}


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
    content = read_any_checkpoint(path)
    kind = checkpoint_kind(content)
    if kind in _TAKEN_BY:
        raise ValueError(
            f"{path} is a checkpoint of a {kind}, not a checkpoint of a keypoint detector; give it to "
            f"{_TAKEN_BY[kind]}"
        )
    if not is_detector_checkpoint(content):
        raise ValueError(
            f"{path} is not a checkpoint of a keypoint detector: it lacks its settings or weights"
        )
    return content


def read_any_checkpoint(path: str | Path) -> Any:
    """Return what a checkpoint of any model holds, tensors on the CPU, without running code from the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: expected a .ckpt file that a training wrote")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno != _CUT_SHORT:
            raise
        raise ValueError(f"{path} is not a checkpoint: expected a .ckpt file that a training wrote") from None


def is_detector_checkpoint(content: Any) -> bool:
    """Tell whether a checkpoint is one of a KeypointDetector."""
    return _has_setting(content, "keypoint_channel_configuration")


def is_classifier_checkpoint(content: Any) -> bool:
    """Tell whether a checkpoint is one of a VisibilityClassifier."""
    return _has_setting(content, "factors") and _has_setting(content, "channel_mean")


def is_gaze_checkpoint(content: Any) -> bool:
    """Tell whether a checkpoint is one of a GazeFollower."""
    return _has_setting(content, "conditioner_options") and _has_setting(content, "decoder_options")


def checkpoint_kind(content: Any) -> str | None:
    """Return what a checkpoint of this package is of, such as "keypoint detector"; None for another one."""
    kinds = {
        "keypoint detector": is_detector_checkpoint,
        "visibility classifier": is_classifier_checkpoint,
        "gaze follower": is_gaze_checkpoint,
    }
    return next((kind for kind, is_one in kinds.items() if is_one(content)), None)


def _has_setting(content: Any, name: str) -> bool:
    needed = {"hyper_parameters", "state_dict"}
    return isinstance(content, dict) and needed <= content.keys() and name in content["hyper_parameters"]


@contextlib.contextmanager
def wandb_checkpoint(name: str) -> Iterator[Path]:
    """Give the checkpoint of a wandb artifact as a file that lives as long as the context.

    Args:
        name: `entity/project/name:version`.

    Raises:
        ValueError: The name has another form, wandb is missing or offline, it has no such artifact for this
            user, or the artifact holds no checkpoint.
    """
    flag = "--wandb_checkpoint_artifact"
    if re.fullmatch(r"[^/:\s]+/[^/:\s]+/[^/:\s]+:[^/:\s]+", name) is None:
        raise ValueError(
            f"{flag}: expected entity/project/name:version, such as me/mice/model-1a2b:v3; got {name!r}"
        )
    other_way = "or download it once where there is a network and give the file to --init_weights"
    if os.environ.get("WANDB_MODE", "online") != "online":
        mode = os.environ["WANDB_MODE"]
        raise ValueError(f"{flag} {name} needs a network, but WANDB_MODE is {mode!r}; unset it, {other_way}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = _download(name, folder)
        except ImportError:
            raise ValueError(f"{flag} needs wandb: pip install wandb") from None
        except Exception as error:  # of wandb, of its client and of the network: they share no base
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{flag}: wandb did not give {name} ({reason}); check it, {other_way}") from None
        if not found:
            raise ValueError(
                f"{flag}: {name} holds no .ckpt file; give an artifact that --log_model uploaded"
            )
        yield found[0]


def _download(name: str, folder: str) -> list[Path]:
    """Return the checkpoints of an artifact, the best one first; without any, nothing is downloaded."""
    import wandb

    artifact = wandb.Api().artifact(name)
    if not any(entry.endswith(".ckpt") for entry in artifact.manifest.entries):
        return []
    found = Path(artifact.download(root=folder)).rglob("*.ckpt")
    return sorted(found, key=lambda path: (path.stem != "best", path.stem != "model", str(path)))
