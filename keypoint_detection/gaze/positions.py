"""Two-dimensional sine positions: what tells a network of attention where on a grid a token lies."""

import math

import torch
from torch import Tensor


def sine_positions(
    grid_hw: tuple[int, int],
    width: int,
    *,
    span_hw: tuple[float, float] | None = None,
    temperature: float = 10000.0,
) -> Tensor:
    """Encode the place of every cell of a grid by sines and cosines of its row and its column.

    With `q = width / 4` and the frequencies `f_k = temperature ** (-k / q)`, k from 0 to q - 1, cell (row y,
    column x) is `[sin(y f), cos(y f), sin(x f), cos(x f)]`, each of q numbers.

    Args:
        grid_hw: Rows and columns of the grid.
        width: Numbers per cell, a multiple of 4.
        span_hw: Count places in the cells of another grid of so many rows and columns over the same area, so
            that both can be compared; None: in its own cells.
        temperature: Ratio that the frequencies approach from 1 on; a narrow code needs a small one.

    Returns:
        Float `[rows * columns, width]`, row by row.

    Raises:
        ValueError: If the width is no multiple of 4.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.5, for each axis on its own.
    """
    rows, columns = grid_hw
    span_rows, span_columns = span_hw or (rows, columns)
    y = (torch.arange(rows) + 0.5) * (span_rows / rows) - 0.5
    x = (torch.arange(columns) + 0.5) * (span_columns / columns) - 0.5
    places = torch.cartesian_prod(y, x).flip(1)
    return encode_places(places, width, temperature=temperature)


def encode_places(places: Tensor, width: int, *, temperature: float = 10000.0) -> Tensor:
    """Encode places by sines and cosines, as `sine_positions` does for those of a grid.

    Args:
        places: `[..., 2]`, x and y in cells; 0 is the centre of the first.
        width: Numbers per place, a multiple of 4.
        temperature: As for `sine_positions`.

    Returns:
        Float `[..., width]`.

    Raises:
        ValueError: If the width is no multiple of 4.
    """
    if width < 4 or width % 4:
        raise ValueError(
            f"sine positions need a width that is a multiple of 4, got {width}; use {width + -width % 4}."
        )
    quarter = width // 4
    steps = torch.arange(quarter, device=places.device, dtype=torch.float32)
    frequencies = torch.exp(-math.log(temperature) / quarter * steps)
    x, y = (places.float()[..., :1] * frequencies, places.float()[..., 1:] * frequencies)
    return torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=-1)


def cell_centres(grid_hw: tuple[int, int]) -> Tensor:
    """Return the centres of the cells of a grid.

    Args:
        grid_hw: Rows and columns.

    Returns:
        Float `[rows * columns, 2]`, x and y relative to the area (0 to 1), row by row.
    """
    rows, columns = grid_hw
    y, x = (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns
    return torch.cartesian_prod(y, x).flip(1)


def mask_centre(mask: Tensor) -> Tensor:
    """Return the centre of mass of masks.

    Args:
        mask: `[n, 1, h, w]`, values >= 0 of any scale.

    Returns:
        Float `[n, 2]`, x and y relative to the mask (0 to 1); the middle where a mask is empty.
    """
    weights = mask[:, 0].float()
    faint = 1e-3  # the middle weighs next to nothing, unless there is nothing else
    total = weights.sum((1, 2)) + faint
    # sums instead of a product of matrices, which is beyond the range of float16 where autocast takes that
    centres = []
    for along, across in ((2, 1), (1, 2)):
        size = weights.shape[along]
        places = (torch.arange(size, device=mask.device) + 0.5) / size
        centres.append(((weights.sum(across) * places).sum(1) + 0.5 * faint) / total)
    return torch.stack(centres, dim=1)
