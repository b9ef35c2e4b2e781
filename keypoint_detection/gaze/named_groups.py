"""The parts of a gaze network by name: which parameters are whose, and how a frozen part is kept still."""

from collections.abc import Iterable

from torch import nn

from keypoint_detection.registry import nearest_name

PARTS = {
    "scene": ("scene_encoder",),
    "head": ("head_encoder",),
    "in_out": ("in_out", "in_out_head"),
    "denoiser": ("denoiser", "decoder", "direct_decoder"),
    "conditioner": ("conditioner",),
}
"""Part -> names of modules that belong to it. The first part that a path mentions counts, so the encoders are
parts of their own and `conditioner` is what is left of the conditioner."""

GROUPS = ("scene", "head", "conditioner", "in_out", "denoiser")


def part_of(path: str) -> str | None:
    """Return the part that a dotted path of a module or parameter belongs to; None if it names none."""
    names = set(path.split("."))
    return next((part for part, modules in PARTS.items() if names.intersection(modules)), None)


def named_groups(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Sort the parameters of a gaze network by the names of the modules that they are in.

    Args:
        module: A network whose conditioner, in/out head and denoiser (or direct decoder) are attributes of
            the names in `PARTS`, at any depth.

    Returns:
        For each of `scene`, `head`, `conditioner` (the rest of it), `in_out` and `denoiser` (or the direct
        decoder) its parameters, frozen ones too, in order of definition; none for a part that is not there.
        Every parameter is there exactly once.

    Raises:
        ValueError: If a parameter is in none of the parts.
    """
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in GROUPS}
    for name, parameter in module.named_parameters():
        part = part_of(name)
        if part is None:
            known = ", ".join(module for modules in PARTS.values() for module in modules)
            raise ValueError(f"parameter {name!r} belongs to no part of a gaze network; known: {known}.")
        groups[part].append(parameter)
    return groups


def freeze_groups(module: nn.Module, groups: Iterable[str]) -> None:
    """Keep parts of a gaze network as they are: no gradients, those of an earlier step forgotten, eval mode.

    Together with `hold_groups_still` after every change of mode, no tensor of theirs changes any more.

    Args:
        module: As for `named_groups`.
        groups: Parts, such as `scene` and `head`.

    Raises:
        ValueError: If a part is unknown, or the network has none of it.
    """
    chosen, parameters = list(groups), named_groups(module)
    for name in chosen:
        if not parameters.get(name):
            known = [group for group, members in parameters.items() if members]
            raise ValueError(
                f"cannot freeze {name!r}: the network has no such part; its parts: {', '.join(known)}."
                f"{nearest_name(name, known)}"
            )
        for parameter in parameters[name]:
            parameter.requires_grad_(False)
            parameter.grad = None  # or the optimiser would take one more step with it
    hold_groups_still(module, chosen)


def hold_groups_still(module: nn.Module, groups: Iterable[str]) -> None:
    """Put parts of a gaze network in eval mode: batch statistics and dropout rest.

    A change of mode of the whole network puts them back in training mode: call this after each.

    Args:
        module: As for `named_groups`.
        groups: Parts.
    """
    chosen = set(groups)
    for path, child in module.named_modules():
        if path and part_of(path) in chosen:
            child.training = False  # each on its own: a part may hold a module of another part
