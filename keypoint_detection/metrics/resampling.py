"""Which images count how often: resamples and leave-one-out samples of images, or of whole groups of them."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

Groups = Tensor | np.ndarray | Sequence[int] | Sequence[str]
"""One label for each image; images with the same label, such as the frames of a video, stay together."""

CHUNK_WEIGHTS = 2**17
"""Weights made at once, so that memory is bounded whatever the number of images and of resamples."""

CHUNK_ROWS = 16
"""Resamples made at once at least, so that a statistic is not asked for one row at a time."""


MAX_BLOCKS = 200
"""Leave-one-out samples at most, unless told otherwise."""


def resample_weights(n_images: int, n_resamples: int, *, groups: Groups | None = None, seed: int) -> Tensor:
    """Draw n images, or as many whole groups as there are, with replacement, and count each image.

    The same seed gives the same weights on every machine: only the raw bits of the generator are used,
    whose stream NumPy fixes for good, and no global state is read or changed.

    Args:
        n_images: Number of images n, >= 0.
        n_resamples: Number of resamples b, > 0.
        groups: Labels of the images, `[n]`; without it each image is a group of its own.
        seed: Seed of the draw, >= 0.

    Returns:
        int64 `[b, n]`, how often each image counts in each resample.

    Example:
        >>> resample_weights(4, 2, groups=[7, 7, 3, 3], seed=5).tolist()
        [[1, 1, 1, 1], [0, 0, 2, 2]]
    """
    chunks = list(resample_chunks(*units_of_images(n_images, groups), n_resamples, seed))
    return torch.cat(chunks)


def jackknife_weights(
    n_images: int, *, groups: Groups | None = None, max_blocks: int = MAX_BLOCKS, seed: int
) -> Tensor:
    """Leave out each image, or group, in turn; or random blocks of them when there are very many.

    Args:
        n_images: Number of images n, >= 0.
        groups: Labels of the images, `[n]`; without it each image is a group of its own.
        max_blocks: Most rows j to return; with more units than that, they are dealt at random into
            this many blocks of equal numbers of units (give or take one).
        seed: Seed of the deal, >= 0.

    Returns:
        int64 `[j, n]`, 0 for the images left out and 1 for the others.

    Example:
        >>> jackknife_weights(3, seed=0).tolist()
        [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    """
    return torch.cat(list(jackknife_chunks(*units_of_images(n_images, groups), seed, max_blocks)))


def units_of_images(n_images: int, groups: Groups | None) -> tuple[Tensor, int]:
    """Return the unit of each image, int64 `[n]`, and the number of units that can be drawn.

    Raises:
        ValueError: If there is not one label for each image.
    """
    if groups is None:
        return torch.arange(n_images), n_images
    labels = groups.cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    if labels.shape != (n_images,):
        raise ValueError(
            f"groups needs one label for each of the {n_images} images, got shape {labels.shape};"
            " pass a flat sequence in the order of the images."
        )
    names, unit = np.unique(labels, return_inverse=True)
    return torch.from_numpy(unit).long(), len(names)


def resample_chunks(unit: Tensor, num_units: int, n_resamples: int, seed: int) -> Iterator[Tensor]:
    """Yield the rows of `resample_weights`, some at a time, for images `[n]` of these units."""
    bits = _bits(seed, 0)
    for rows in _rows_of_chunks(n_resamples, len(unit)):
        # 53 bits make a fraction in [0, 1); its product with the number of units is uniform to 1e-10.
        fractions = torch.from_numpy((bits.random_raw(len(rows) * num_units) >> 11) * 2.0**-53)
        drawn = (fractions.double() * num_units).long().reshape(len(rows), num_units)
        counts = torch.zeros_like(drawn).scatter_add_(1, drawn, torch.ones_like(drawn))
        yield counts[:, unit]


def jackknife_chunks(
    unit: Tensor, num_units: int, seed: int, max_blocks: int = MAX_BLOCKS
) -> Iterator[Tensor]:
    """Yield the rows of `jackknife_weights`, some at a time, for images `[n]` of these units.

    Blocks serve the acceleration as well as single units: it is the third cumulant of the number over
    the variance to the power 3/2 (over 6), and both are sums over independent units, so that a sum over
    blocks of units estimates the same. Only the noise grows, to about 0.002 with 200 blocks.
    """
    block = torch.arange(num_units)
    if num_units > max_blocks:
        deal = np.argsort(_bits(seed, 1).random_raw(num_units), kind="stable")
        block = torch.empty_like(block).index_put((torch.from_numpy(deal),), block * max_blocks // num_units)
    block = block[unit]
    for rows in _rows_of_chunks(min(num_units, max_blocks), len(unit)):
        yield (block != torch.tensor(rows, dtype=torch.int64)[:, None]).long()


def _bits(seed: int, stream: int) -> np.random.PCG64:
    if seed < 0:
        raise ValueError(f"seed needs an integer >= 0, got {seed}; drop the minus sign.")
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,)))


def _rows_of_chunks(num_rows: int, n_images: int) -> list[range]:
    """Split rows of n weights into chunks; one empty chunk where there is no row."""
    step = max(CHUNK_ROWS, CHUNK_WEIGHTS // max(1, n_images))
    return [range(first, min(first + step, num_rows)) for first in range(0, max(1, num_rows), step)]
