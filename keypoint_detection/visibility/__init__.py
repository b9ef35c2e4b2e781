"""Is this point visible? A location is classified from concentric patches at several magnifications."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keypoint_detection.visibility.classifier import VisibilityClassifier
    from keypoint_detection.visibility.load_classifier import load_classifier
    from keypoint_detection.visibility.network import MultiMagnificationNet
    from keypoint_detection.visibility.predict_visibility import load_point_visibility

_HOMES = {
    "MultiMagnificationNet": "keypoint_detection.visibility.network",
    "VisibilityClassifier": "keypoint_detection.visibility.classifier",
    "load_classifier": "keypoint_detection.visibility.load_classifier",
    "load_point_visibility": "keypoint_detection.visibility.predict_visibility",
}

__all__ = ["MultiMagnificationNet", "VisibilityClassifier", "load_classifier", "load_point_visibility"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that importing the package is quick (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOMES[name])
    if name == "load_classifier":  # the module answers the call: see its docstring
        return module
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
