"""Batches of images of similar size, for images that keep their own: less of a batch is padding."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

BATCHES_PER_WINDOW = 32
"""Images are sorted among so many batches: enough for similar sizes, and mixed anew every epoch."""


def bucketed(
    positions: NDArray[np.integer], sizes_hw: NDArray[np.integer], batch_size: int, generator: Generator
) -> NDArray[np.integer]:
    """Return shuffled positions in an order in which every batch holds images of similar size.

    They are sorted by size within windows of `BATCHES_PER_WINDOW` batches, and the batches of a window are
    shuffled. The last batch of all may be smaller; any size can fall into it.

    Args:
        positions: `[n]`, in random order.
        sizes_hw: `[m, 2]`, height and width by position.
        batch_size: Images per batch.
        generator: Source of the order of the batches.
    """
    window = batch_size * BATCHES_PER_WINDOW
    ordered = []
    for start in range(0, len(positions), window):
        part = positions[start : start + window]
        part = part[np.lexsort((sizes_hw[part, 1], sizes_hw[part, 0]))]
        n_full, rest = divmod(len(part), batch_size)
        first = batch_size * int(generator.integers(n_full + 1)) if rest else 0
        left_over = part[first : first + rest]
        full = np.concatenate([part[:first], part[first + rest :]]).reshape(n_full, batch_size)
        ordered += [generator.permutation(full).ravel(), left_over]
    return np.concatenate([positions[:0], *ordered])
