"""What a training needs on several devices and nodes, beside Lightning's own part."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins import LayerSync
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from keypoint_detection.callbacks_devices import EndTogether
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.repeated_samples import RepeatedSamples


def device_arguments(config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of the Trainer that say where it works."""
    return {
        "accelerator": config.accelerator,
        "devices": config.devices,
        "num_nodes": config.num_nodes,
        "strategy": config.strategy,
    }


def device_plugins(config: TrainConfig) -> list[Any]:
    """Return the plugins of the Trainer for several devices."""
    return [SyncedBatchNorm()] if config.sync_batchnorm else []


def device_callbacks() -> list[pl.Callback]:
    """Return the callbacks for several devices, to be called before all others."""
    return [EndTogether(), RepeatedSamples()]


class SyncedBatchNorm(LayerSync):
    """Compute batch statistics over all devices, during a training.

    Lightning's own plugin makes plain layers of all, also of timm's that hold an activation, which is lost.
    """

    def __init__(self) -> None:
        self.originals: dict[str, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the layers by ones that share their weights and statistics."""
        norms = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, _BatchNorm)]
        self.originals = dict(norms)
        for name, layer in norms:
            synced = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
            for child_name, child in layer.named_children():
                synced.add_module(child_name, child)
            if hasattr(layer, "act"):
                synced.register_forward_hook(_activate)
            model.set_submodule(name, synced)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """Put the layers back, with what has been learned."""
        for name, layer in self.originals.items():
            model.set_submodule(name, layer.train(model.get_submodule(name).training))
        return model


def _activate(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return layer.act(layer.drop(output))
