"""Attention rollout in NumPy, slow and obvious: loops over heads, rows and entries."""

import numpy as np
from numpy.typing import NDArray


def rollout_matrix(
    blocks: list[NDArray], head_fusion: str, discard_ratio: float, n_prefix: int
) -> NDArray[np.float64]:
    """Return the product of all blocks `[tokens, tokens]`, the last block's rows first."""
    product = np.eye(blocks[0].shape[-1])
    for block in blocks:
        product = step(np.asarray(block, np.float64), head_fusion, discard_ratio, n_prefix) @ product
    return product


def step(block: NDArray, head_fusion: str, discard_ratio: float, n_prefix: int) -> NDArray[np.float64]:
    """Return (normalised attention + I) / 2 of one block `[heads, tokens, tokens]`."""
    tokens = block.shape[-1]
    result = np.zeros((tokens, tokens))
    for i in range(tokens):
        row = [float(getattr(np, head_fusion)([head[i, j] for head in block])) for j in range(tokens)]
        patches = sorted(range(n_prefix, tokens), key=lambda j: row[j])
        for j in patches[: int(np.floor(discard_ratio * (tokens - n_prefix) + 1e-9))]:
            row[j] = 0.0
        total = sum(row)
        for j in range(tokens):
            normalised = row[j] / total if total > 0 else float(i == j)
            result[i, j] = (normalised + float(i == j)) / 2
    return result
