"""Attention rollout and gradient rollout: from the attention of all blocks to one map of patches."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from keypoint_detection.models.attention import TokenGrid

HeadFusion = Literal["mean", "max", "min"]
HEAD_FUSIONS: tuple[HeadFusion, ...] = get_args(HeadFusion)


def rollout(
    blocks: Sequence[Tensor],
    rows: Tensor,
    *,
    head_fusion: HeadFusion = "mean",
    discard_ratio: float = 0.0,
    n_prefix: int = 0,
) -> Tensor:
    """Follow the attention from tokens of the last block back to the tokens that the first block read.

    `rows @ A_L @ ... @ A_1` with `A_l = (normalised(discarded(fused(blocks[l]))) + I) / 2`: the identity
    stands for the residual connection, and every row of every `A_l` sums to 1, whatever fusing and
    discarding left of it. A row of which nothing is left becomes that of the identity.

    Source: Abnar & Zuidema, Quantifying Attention Flow in Transformers, 2020, section 3 (mean, nothing
    discarded). That the rows are normalised before the identity is added is ours: attention and residual
    weigh the same for every fusion, every ratio, and every scale of gradients.

    Args:
        blocks: Per block in the order of the pass, `[heads, tokens, tokens]`, not negative: attention, or
            attention times its gradient, see `positive_contributions`.
        rows: `[..., tokens]`, which tokens of the last block to start from; each row sums to 1.
        head_fusion: How the heads become one.
        discard_ratio: As in `discard_lowest`.
        n_prefix: Tokens before the patches.

    Returns:
        `[..., tokens]`, not negative, each row sums to 1.
    """
    for block in reversed(blocks):
        fused = discard_lowest(fuse_heads(block, head_fusion), discard_ratio, n_prefix)
        total = fused.sum(-1, keepdim=True)
        identity = torch.eye(len(fused), dtype=fused.dtype, device=fused.device)
        attention = torch.where(total > 0, fused / total.clamp(min=torch.finfo(fused.dtype).tiny), identity)
        rows = rows @ ((attention + identity) / 2)
    return rows


def positive_contributions(weights: Tensor, gradient: Tensor) -> Tensor:
    """Weigh attention by what it adds to a number: `max(A * dy/dA, 0)`, head by head.

    Source: Chefer et al., Generic Attention-model Explainability, 2021, equation 5, before the mean over the
    heads.

    Args:
        weights: `[heads, tokens, tokens]`.
        gradient: Of the number by the weights, the same shape.
    """
    return (weights * gradient).clamp(min=0)


def fuse_heads(block: Tensor, head_fusion: HeadFusion) -> Tensor:
    """Reduce `[heads, tokens, tokens]` to `[tokens, tokens]`, entry by entry."""
    fusions = {"mean": lambda: block.mean(0), "max": lambda: block.amax(0), "min": lambda: block.amin(0)}
    return fusions[head_fusion]()


def discard_lowest(attention: Tensor, discard_ratio: float, n_prefix: int) -> Tensor:
    """Set the lowest entries of each row to 0.

    Of each row's entries for patches, the share `discard_ratio` (rounded down) goes. Entries for the prefix
    (class token, registers) are no places in the image; they are neither counted nor cut. The identity of the
    residual connection is added later, so it is never cut.

    Args:
        attention: `[tokens, tokens]`, heads fused.
        discard_ratio: In [0, 1).
        n_prefix: Tokens before the patches.

    Returns:
        The same shape; the argument itself is not changed.

    Raises:
        ValueError: If `discard_ratio` is out of its range.
    """
    if not 0 <= discard_ratio < 1:
        raise ValueError(
            f"expected a discard_ratio from 0 to below 1, got {discard_ratio}; 0 keeps everything"
        )
    patches = attention[:, n_prefix:]
    count = int(discard_ratio * patches.shape[1] + 1e-9)  # 0.29 * 100 is 28.999...
    lowest = patches.topk(count, dim=1, largest=False).indices + n_prefix
    return attention.scatter(1, lowest, 0.0)


def token_weights(gradient: Tensor) -> Tensor:
    """Return how much each token of the last block counts for a number: the length of its gradient.

    A heatmap is read from the patch tokens: the weight lies on those around the peak that the number was
    taken at, as far as the decoder sees. Direct regression is read from the class token: it has all of it.

    Source: ours.

    Args:
        gradient: Of the number by the tokens, `[tokens, width]`.

    Returns:
        `[tokens]`, sums to 1; all alike where the number depends on no token.
    """
    return _shares(gradient.norm(dim=-1))


def patch_map(row: Tensor, grid: TokenGrid) -> Tensor:
    """Lay one row `[tokens]` of a rollout out over the image, without the prefix.

    Returns:
        `[rows, columns]`, not negative, sums to 1; all alike where the prefix had everything.
    """
    return _shares(row[grid.n_prefix :]).view(grid.rows, grid.columns)


def _shares(values: Tensor) -> Tensor:
    total = values.sum()
    return values / total if total > 0 else torch.full_like(values, 1 / values.numel())
