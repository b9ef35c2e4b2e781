"""The attention of a Vision Transformer while it runs: its weights, and what a result owes to them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.base_backbone import Backbone


@dataclass(frozen=True)
class TokenGrid:
    """Say where the tokens of an image are.

    Attributes:
        n_prefix: Tokens before the patches: the class token, then registers; 0 where there is none.
        rows: Patches along the height of the image, with what the backbone adds below it.
        columns: Patches along the width, likewise.
        patch_px: Side of a patch in pixels of the network's frame.
    """

    n_prefix: int
    rows: int
    columns: int
    patch_px: int


@dataclass
class AttentionRecord:
    """Hold what the latest pass through the blocks did.

    Attributes:
        weights: Per block in the order of the pass, the softmax weights `[n, heads, tokens, tokens]`, before
            dropout; row i says where token i looks, and sums to 1.
        tokens: `[n, tokens, width]`, what the last block gave.
    """

    weights: list[Tensor] = field(default_factory=list)
    tokens: Tensor | None = None

    def gradients(self, scalar: Tensor) -> tuple[list[Tensor], Tensor]:
        """Differentiate a number that was computed from this pass.

        Every gradient is asked for by its own tensor, so that it cannot meet the weights of another block.
        The gradients of parameters are left alone, and the graph is kept for the next number.

        Args:
            scalar: `[]`.

        Returns:
            Its gradients by `weights`, in the same order and shapes, and by `tokens`; 0 where it does not
            depend on them.
        """
        assert self.tokens is not None
        inputs = [*self.weights, self.tokens]
        found = torch.autograd.grad(scalar, inputs, retain_graph=True, materialize_grads=True)
        return list(found[:-1]), found[-1]


def has_global_attention(backbone: Backbone) -> bool:
    """Tell whether all patches of an image attend to all, block by block, as rollout supposes."""
    return bool(_attentions(backbone))


def token_grid(backbone: Backbone, image_hw: tuple[int, int]) -> TokenGrid:
    """Return where the tokens of an image of `image_hw` pixels are, padding of the backbone included."""
    vit: Any = backbone
    height, width = (side + -side % backbone.size_multiple for side in image_hw)
    return TokenGrid(
        vit.encoder.num_prefix_tokens, height // vit.patch_size, width // vit.patch_size, vit.patch_size
    )


@contextmanager
def record_attention(backbone: Backbone) -> Iterator[AttentionRecord]:
    """Record the attention of a backbone's blocks while the context is open.

    Fused attention never holds the weights in memory, so it is turned off meanwhile; the plain form computes
    the same up to rounding. When the context closes, also by an exception, every flag is what it was and no
    hook is left.

    Args:
        backbone: One with `has_global_attention`.

    Yields:
        The record; each pass replaces what the one before left. With gradients enabled its tensors are part
        of the graph, also where all parameters are frozen.

    Raises:
        ValueError: If the backbone has no attention among all of its patches.
    """
    modules = _attentions(backbone)
    if not modules:
        raise ValueError(
            "attention rollout expects a backbone whose patches all attend to all, such as ViT or DinoV2Up, "
            f"got {type(backbone).__name__}; use --method saliency"
        )
    record = AttentionRecord()
    blocks: Any = backbone.encoder
    flags = [module.fused_attn for module in modules]
    handles = []
    try:
        handles.append(blocks.blocks[0].register_forward_pre_hook(lambda *_: record.weights.clear()))
        handles.append(blocks.blocks[-1].register_forward_hook(_token_hook(record)))
        for module in modules:
            handles.append(module.attn_drop.register_forward_pre_hook(_weight_hook(record)))
            module.fused_attn = False
        yield record
    finally:
        for handle in handles:
            handle.remove()
        for module, flag in zip(modules, flags, strict=True):
            module.fused_attn = flag


def _attentions(backbone: Backbone) -> list[Any]:
    """Return the attention modules of a backbone's blocks, none if the blocks do not work on all patches.

    timm's attention over a whole sequence hands its softmax weights to a module `attn_drop`, unless it is
    fused; windowed attention sits in backbones that have no one side of a patch.
    """
    blocks = getattr(getattr(backbone, "encoder", None), "blocks", None)
    if not hasattr(backbone, "patch_size") or not isinstance(blocks, nn.Module):
        return []
    return [m for m in blocks.modules() if hasattr(m, "fused_attn") and hasattr(m, "attn_drop")]


def _weight_hook(record: AttentionRecord) -> Any:
    def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        weights = arguments[0]
        if torch.is_grad_enabled() and not weights.requires_grad:  # everything before it is frozen
            weights.requires_grad_()
        record.weights.append(weights)

    return hook


def _token_hook(record: AttentionRecord) -> Any:
    def hook(_module: nn.Module, _arguments: Any, output: Tensor) -> None:
        record.tokens = output

    return hook
