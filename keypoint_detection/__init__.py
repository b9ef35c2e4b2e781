"""Keypoint detection with Gaussian heatmaps: any COCO keypoint file in, points with scores out."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keypoint_detection.data.datamodule import KeypointsDataModule
    from keypoint_detection.models.backbones.backbone_factory import (
        create_backbone,
        list_backbones,
        register_backbone,
    )
    from keypoint_detection.models.backbones.base_backbone import Backbone
    from keypoint_detection.models.detector import KeypointDetector
    from keypoint_detection.records import Instance, Keypoint, Prediction
    from keypoint_detection.train.config import TrainConfig
    from keypoint_detection.train.train import TrainResult
    from keypoint_detection.train.train import train as train
    from keypoint_detection.utils.load_checkpoints import load_model

__version__ = "0.1.0"

_HOMES = {
    "Backbone": "keypoint_detection.models.backbones.base_backbone",
    "Instance": "keypoint_detection.records",
    "Keypoint": "keypoint_detection.records",
    "KeypointDetector": "keypoint_detection.models.detector",
    "KeypointsDataModule": "keypoint_detection.data.datamodule",
    "Prediction": "keypoint_detection.records",
    "TrainConfig": "keypoint_detection.train.config",
    "TrainResult": "keypoint_detection.train.train",
    "create_backbone": "keypoint_detection.models.backbones.backbone_factory",
    "list_backbones": "keypoint_detection.models.backbones.backbone_factory",
    "load_model": "keypoint_detection.utils.load_checkpoints",
    "register_backbone": "keypoint_detection.models.backbones.backbone_factory",
}

__all__ = [
    "Backbone",
    "Instance",
    "Keypoint",
    "KeypointDetector",
    "KeypointsDataModule",
    "Prediction",
    "TrainConfig",
    "TrainResult",
    "__version__",
    "create_backbone",
    "list_backbones",
    "load_model",
    "register_backbone",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that `import keypoint_detection` is quick (PEP 562)."""
    if name == "train":  # the package answers the call: see its docstring
        return import_module("keypoint_detection.train")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
