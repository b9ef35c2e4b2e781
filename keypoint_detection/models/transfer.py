"""Transfer learning: which parameters train, how fast by depth, and how a frozen part is kept still."""

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from keypoint_detection.models.backbones.base_backbone import Backbone

NamedParameters = list[tuple[str, nn.Parameter]]

_STACKS = ("blocks", "layers", "stages")
"""A module with a child of such a name is a stack of layers, not a layer."""

_TOKENS_AND_POSITIONS = ("pos_embed", "position", "rel_pos", "token")
"""Parts of the names of parameters that are added to features and have no input to be a weight of."""


def layer_groups(backbone: Backbone) -> list[NamedParameters]:
    """Return the parameters of a backbone by layer, from the image to the features.

    The layers are those of `pretrained_part`, in order of definition: a convolution, or a residual or
    transformer block. Stacks of layers are opened; parameters of a stack itself (class token, position
    embedding) belong to its first layer. A norm between layers is no layer of its own: it belongs to the one
    before it, or at the start of a stack to the one after it.

    Args:
        backbone: The backbone.

    Returns:
        Per layer (name in the backbone, parameter). The last group holds everything outside
        `pretrained_part`, if there is anything. Every parameter is there once, a shared one at its first
        place.

    Source: the layers of BEiT (Bao et al., 2022) and ViTPose (Xu et al., 2022), for any encoder.
    """
    layers, decoder = _layers_and_decoder(backbone)
    return [*layers, decoder] if decoder else layers


def _layers_and_decoder(backbone: Backbone) -> tuple[list[NamedParameters], NamedParameters]:
    part = backbone.pretrained_part
    prefix = next(name for name, module in backbone.named_modules() if module is part)
    inside = {id(parameter) for parameter in part.parameters()}
    first_names = {name for name, _ in part.named_parameters(prefix)}
    decoder = [named for named in backbone.named_parameters() if id(named[1]) not in inside]
    return _layers(part, prefix, first_names, is_stack=True), decoder


def _layers(
    module: nn.Module, prefix: str, first_names: set[str], *, is_stack: bool = False
) -> list[NamedParameters]:
    """Return the layers of one module; parameters whose name is not in `first_names` come elsewhere."""
    if not (is_stack or _is_stack(module)):
        everything = [named for named in module.named_parameters(prefix) if named[0] in first_names]
        return [everything] if everything else []
    layers: list[NamedParameters] = []
    for name, child in module.named_children():
        layers += _layers(child, f"{prefix}.{name}" if prefix else name, first_names)
    own = [named for named in module.named_parameters(prefix, recurse=False) if named[0] in first_names]
    if own:
        layers[:1] = [own + (layers[0] if layers else [])]
    return _norms_joined(layers)


def _is_stack(module: nn.Module) -> bool:
    """Tell a stack of layers from a layer; timm's features-only networks are a ModuleDict."""
    is_container = isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))
    return is_container or any(name in _STACKS for name, _ in module.named_children())


def _norms_joined(layers: list[NamedParameters]) -> list[NamedParameters]:
    """Join layers without a weight to the layer before them, or after them where there is none."""
    joined: list[NamedParameters] = []
    for layer in layers:
        if joined and not (_has_weight(layer) and _has_weight(joined[-1])):
            joined[-1] = joined[-1] + layer
        else:
            joined.append(layer)
    return joined


def _has_weight(layer: NamedParameters) -> bool:
    return any(parameter.ndim > 1 for _, parameter in layer)


def parameter_groups(
    backbone: Backbone,
    head: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    include_frozen: bool = False,
) -> list[dict[str, Any]]:
    """Return the groups of parameters for AdamW: the nearer to the image, the slower, if asked for.

    Layer i of L (0 is the nearest to the image) learns with `learning_rate * layer_decay ** (L - i)`; what
    is outside the encoder, and the head, with `learning_rate`. Biases, norms, position embeddings, tokens
    and what a module names in its method `no_weight_decay` do not decay.

    Args:
        backbone: The backbone.
        head: What follows it.
        learning_rate: Of the head.
        weight_decay: Of the parameters that decay.
        layer_decay: Factor from one layer to the layer before it, above 0 and up to 1; 1 is the same rate
            everywhere.
        include_frozen: Also return parameters that need no gradient now, so that they can be unfrozen later:
            AdamW leaves a parameter without a gradient alone, without decay and without state.

    Returns:
        Dictionaries of `params`, `weight_decay` and `lr`, none of them without parameters; with a
        `layer_decay` of 1 at most two. Groups go from the image to the head, the decaying one of a layer
        first; the parameters in a group are in order of definition.

    Raises:
        ValueError: If `layer_decay` is out of its range.

    Source: layer-wise decay of BEiT (Bao et al., 2022) and ViTPose (Xu et al., 2022).
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(
            f"--layer_decay: expected a number above 0 and up to 1, got {layer_decay:g}; 1 turns it off, "
            "0.65 to 0.9 is common for transformers"
        )
    layers, _ = _layers_and_decoder(backbone)
    depth = {id(parameter): len(layers) - i for i, layer in enumerate(layers) for _, parameter in layer}
    undecayed = _names_without_decay(backbone)
    # Keys sort from the image to the head, and decaying before not decaying.
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for name, parameter in nn.ModuleDict({"backbone": backbone, "head": head}).named_parameters():
        if parameter.requires_grad or include_frozen:
            steps = depth.get(id(parameter), 0) if layer_decay < 1 else 0
            key = (-steps, not _decays(name.partition(".")[2], parameter, undecayed))
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": groups[key],
            "weight_decay": 0.0 if key[1] else weight_decay,
            "lr": learning_rate * layer_decay ** -key[0],
        }
        for key in sorted(groups)
    ]


def _names_without_decay(backbone: Backbone) -> set[str]:
    """Return the names, or patterns of names, that modules list in timm's method `no_weight_decay`."""
    names: set[str] = set()
    for prefix, module in backbone.named_modules():
        listed = getattr(module, "no_weight_decay", None)
        if callable(listed):
            found: Any = listed()
            names |= {f"{prefix}.{name}" if prefix else name for name in found}
    return names


def _decays(name: str, parameter: nn.Parameter, undecayed: set[str]) -> bool:
    own_name = name.rpartition(".")[2]
    if parameter.ndim <= 1 or any(part in own_name for part in _TOKENS_AND_POSITIONS):
        return False
    return not any(fnmatchcase(name, pattern) for pattern in undecayed)


def freeze(backbone: Backbone) -> None:
    """Keep `pretrained_part` as it is: no gradients, those of an earlier step forgotten, and eval mode.

    Together with `hold_still` after every change of mode, no tensor of its state dict changes any more.
    """
    for parameter in backbone.pretrained_part.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None  # or the optimiser would take one more step with it
    hold_still(backbone)


def unfreeze(backbone: Backbone, *, training: bool = True) -> None:
    """Let `pretrained_part` learn again: all of its parameters, as every parameter of a backbone is trained.

    Args:
        backbone: The backbone.
        training: The mode of the detector: True for training mode, False for eval mode.
    """
    backbone.pretrained_part.requires_grad_(True).train(training)


def hold_still(backbone: Backbone) -> None:
    """Put `pretrained_part` in eval mode: batch statistics, dropout and drop path rest.

    A change of mode of the whole detector puts it back in training mode: call this after each.
    """
    backbone.pretrained_part.eval()
