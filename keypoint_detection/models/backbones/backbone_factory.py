"""The only door to the backbones: register one, list them, ask for its options, build it by name."""

import functools
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keypoint_detection.registry import Registry, nearest_name

if TYPE_CHECKING:
    from keypoint_detection.models.backbones.base_backbone import Backbone

BackboneClass = TypeVar("BackboneClass", bound="type[Backbone]")
BACKBONES: "Registry[type[Backbone]]" = Registry("backbone")


def register_backbone(name: str) -> Callable[[BackboneClass], BackboneClass]:
    """Return a class decorator that offers a backbone under `name`; a name taken twice is a ValueError."""

    def decorate(backbone: BackboneClass) -> BackboneClass:
        BACKBONES.register(name)(backbone)
        return backbone

    return decorate


def list_backbones() -> list[str]:
    """Return the names of all backbones in alphabetical order."""
    _import_backbones()
    return BACKBONES.names()


def backbone_options(name: str) -> dict[str, Any]:
    """Return the options of a backbone, read from its typed constructor.

    Args:
        name: A registered name.

    Returns:
        Option name -> default value; every option has one.

    Raises:
        ValueError: If there is no such backbone; the message names the nearest.
    """
    _import_backbones()
    parameters = inspect.signature(BACKBONES[name]).parameters
    return {option: parameter.default for option, parameter in parameters.items()}


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
