"""From a file to a visibility classifier that is ready to predict.

The module shares its name with the public function `keypoint_detection.visibility.load_classifier(path)`.
Python binds a module to its package's name once it is imported, so the module itself answers that call.
"""

import sys
from pathlib import Path
from types import ModuleType

import torch

from keypoint_detection.models.backbones.backbone_factory import without_weights
from keypoint_detection.utils.load_checkpoints import (
    checkpoint_kind,
    is_classifier_checkpoint,
    read_any_checkpoint,
)
from keypoint_detection.visibility.classifier import VisibilityClassifier


class _CallableModule(ModuleType):
    def __call__(self, path: str | Path, device: str | torch.device = "cpu") -> VisibilityClassifier:
        """Load a classifier; see the function `load_classifier`."""
        return load_classifier(path, device)


sys.modules[__name__].__class__ = _CallableModule


def load_classifier(path: str | Path, device: str | torch.device = "cpu") -> VisibilityClassifier:
    """Load a classifier from a checkpoint, in eval mode, without the network and without code from the file.

    Args:
        path: A `.ckpt` file that a training of a visibility classifier wrote.
        device: Where to put the weights.

    Returns:
        The classifier.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not a checkpoint of a VisibilityClassifier.
    """
    content = read_any_checkpoint(path)
    if not is_classifier_checkpoint(content):
        expected = "expected one of a visibility classifier, which `visibility train` writes"
        kind = checkpoint_kind(content)
        if kind is not None:
            raise ValueError(f"{path} is a checkpoint of a {kind}; {expected}")
        raise ValueError(f"{path} lacks settings or weights; {expected}")
    hparams = dict(content["hyper_parameters"])
    if hparams.get("backbone_options"):
        hparams["backbone_options"] = without_weights(
            hparams["backbone_options"]
        )  # they are in the checkpoint
    try:
        classifier = VisibilityClassifier(**hparams)
        classifier.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path}: its weights or settings do not fit this version: {reason}") from None
    return classifier.eval().to(device)
