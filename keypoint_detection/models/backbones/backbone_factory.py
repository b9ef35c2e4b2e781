"""The only door to the backbones: register one, list them, ask for its options, build it by name."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keypoint_detection.registry import Registry, nearest_name

if TYPE_CHECKING:
    from keypoint_detection.models.backbones.base_backbone import Backbone

BackboneClass = TypeVar("BackboneClass", bound="type[Backbone]")
BACKBONES: "Registry[Callable[..., Backbone]]" = Registry("backbone")

DETECTOR_OPTIONS = ("n_channels_in", "n_heatmaps", "class_token")
"""Options that the detector sets from the data and the head; they are no flags of a backbone."""

WEIGHT_OPTIONS: dict[str, Any] = {"pretrained": False, "pretrained_dir": ""}
"""Options that fill in weights, with the value that does not."""


def register_backbone(
    name: str, presets: Mapping[str, Mapping[str, Any]] | None = None
) -> Callable[[BackboneClass], BackboneClass]:
    """Return a class decorator that offers a backbone under `name`; a name taken twice is a ValueError.

    Args:
        name: What users type.
        presets: More names, each for the same class with some options fixed.
    """

    def decorate(backbone: BackboneClass) -> BackboneClass:
        BACKBONES.register(name)(backbone)
        for preset, options in (presets or {}).items():
            BACKBONES.register(preset)(functools.partial(backbone, **options))
        return backbone

    return decorate


def backbone_class(name: str) -> "type[Backbone]":
    """Return the class behind a registered name; an unknown name is a ValueError that names the nearest."""
    _import_backbones()
    builder: Any = BACKBONES[name]
    return getattr(builder, "func", builder)  # a preset is a functools.partial


def list_backbones() -> list[str]:
    """Return the names of all backbones in alphabetical order."""
    _import_backbones()
    return BACKBONES.names()


def backbone_options(name: str) -> dict[str, Any]:
    """Return the options of a backbone, read from its typed constructor.

    Args:
        name: A registered name.

    Returns:
        Option name -> default value; every option has one. Options that a preset fixes are left out.

    Raises:
        ValueError: If there is no such backbone; the message names the nearest.
    """
    _import_backbones()
    builder: Any = BACKBONES[name]
    fixed = builder.keywords if isinstance(builder, functools.partial) else {}
    parameters = inspect.signature(builder).parameters
    return {option: parameter.default for option, parameter in parameters.items() if option not in fixed}


def without_weights(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options that build the same backbone and read no weights, for those that a checkpoint holds."""
    return {option: WEIGHT_OPTIONS.get(option, value) for option, value in options.items()}


def create_backbone(name: str, **options: Any) -> "Backbone":
    """Build a backbone by its name.

    Args:
        name: A registered name.
        **options: Arguments of that backbone's constructor, see `backbone_options`.

    Returns:
        The backbone, in training mode.

    Raises:
        ValueError: If there is no such backbone or it has no such option; the message names the nearest. Also
            if its constructor refuses a value.
    """
    known = backbone_options(name)
    for option in options:
        if option not in known:
            raise ValueError(
                f"backbone {name!r} has no option {option!r}; its options: {', '.join(known)}."
                f"{nearest_name(option, known)}"
            )
    return BACKBONES[name](**options)


@functools.cache
def _import_backbones() -> None:
    """Import the modules beside this one, so that their decorators run; late, because they import torch."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
