"""Where is this person looking? A heatmap over the scene, given the scene and the head of the person."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keypoint_detection.gaze.follower import GazeFollower
    from keypoint_detection.gaze.inference import predict_gaze
    from keypoint_detection.gaze.load_follower import load_follower
    from keypoint_detection.gaze.train import train
    from keypoint_detection.gaze.train_config import GazeTrainConfig

_HOMES = {
    "GazeFollower": "keypoint_detection.gaze.follower",
    "GazeTrainConfig": "keypoint_detection.gaze.train_config",
    "load_follower": "keypoint_detection.gaze.load_follower",
    "predict_gaze": "keypoint_detection.gaze.inference",
    "train": "keypoint_detection.gaze.train",
}

__all__ = ["GazeFollower", "GazeTrainConfig", "load_follower", "predict_gaze", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package is quick (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOMES[name])
    if name in ("load_follower", "train"):  # the module answers the call: see its docstring
        return module
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
