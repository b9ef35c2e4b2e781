"""Average feature maps over a coarse grid, whatever their size."""

import torch
from torch import Tensor


def average_to_grid(features: Tensor, side: int) -> Tensor:
    """Average maps over the cells of a square grid.

    A pixel on the border of two cells counts for each by its share in it, so that every cell has the same
    area for any size, maps smaller than the grid included. It is two matrix products: unlike PyTorch's
    adaptive pooling, this has a deterministic gradient on every device.

    Args:
        features: `[n, c, h, w]`.
        side: Cells along each side.

    Returns:
        `[n, c, side, side]`.
    """
    rows, columns = (_cell_shares(size, side, features) for size in features.shape[-2:])
    return rows @ (features @ columns.T)


def _cell_shares(size: int, side: int, like: Tensor) -> Tensor:
    """Return which share of each of `side` equal cells each of `size` pixels fills, `[side, size]`."""
    pixels = torch.arange(size, dtype=like.dtype, device=like.device)
    cells = torch.arange(side, dtype=like.dtype, device=like.device)[:, None]
    # In units of 1 / side pixels, all borders are whole numbers.
    first = torch.maximum(pixels * side, cells * size)
    last = torch.minimum((pixels + 1) * side, (cells + 1) * size)
    return (last - first).clamp(min=0) / size
