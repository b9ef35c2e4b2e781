"""Run a detector over a large image in overlapping tiles, and join their heatmaps to those of the whole.

Tiles lie on the grid of the backbone's size multiple, so that pooling and upsampling fall on the same pixels
as in the whole image. A tile at the right or lower border ends where the image ends: the backbone continues
it as it continues the whole image. What is left to differ is what a tile cannot see, beyond its inner
borders.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

TILE_PIXELS_AT_ONCE = 2**20
"""Image pixels of the tiles of a forward pass: four tiles of 512x512, or one that is larger."""


class Span(NamedTuple):
    """Hold one tile along one axis.

    Attributes:
        start: First image pixel of the tile.
        stop: First image pixel behind the tile.
        first: First heatmap cell that is taken from the tile, counted in the whole map.
        end: First heatmap cell behind those.
    """

    start: int
    stop: int
    first: int
    end: int


Tile = tuple[Span, Span]
"""Rows and columns of a tile."""


class Tiling(NamedTuple):
    """Hold how an image is cut into tiles.

    Attributes:
        side_px: Side of a tile, rounded down to `multiple`.
        overlap_px: Least overlap of neighbouring tiles.
        multiple: Offsets of tiles are multiples of this: the size multiple of the backbone.
        stride: Image pixels per heatmap cell, a divisor of `multiple`.
    """

    side_px: int
    overlap_px: int
    multiple: int
    stride: int

    def check(self, backbone: str) -> None:
        """Raise a ValueError, with the name of the backbone, if images cannot be cut that way."""
        if self.side_px < self.multiple:
            raise ValueError(
                f"expected tiles of at least {self.multiple} px, the size multiple of {backbone}, got "
                f"{self.side_px} px; use larger tiles"
            )
        most = self._side() - self.multiple
        if not 0 <= self.overlap_px <= most:
            raise ValueError(
                f"expected an overlap of 0 to {most} px for tiles of {self.side_px} px with {backbone}, got "
                f"{self.overlap_px} px; use larger tiles or another overlap"
            )

    def spans(self, length_px: int) -> list[Span]:
        """Cut one axis of an image into tiles, evenly, in as few as the overlap allows.

        Every heatmap cell is taken from the tile in which it is furthest from the tile's borders; the
        borders of the image count as none. Two neighbours thus meet in the middle of their overlap, and a
        cell is at least half an overlap away from what its tile does not see.

        Args:
            length_px: Height or width of the image; one that fits into a tile is not cut.

        Returns:
            Tiles in order; their cells `[first, end)` follow each other without gap from 0 to
            `ceil(length_px / stride)`.
        """
        cells = -(-length_px // self.stride)
        if length_px <= self.side_px:
            return [Span(0, length_px, 0, cells)]
        side = self._side()
        # in units of the size multiple: how far the last tile is from the first, and the longest step
        distance = -(-length_px // self.multiple) - side // self.multiple
        steps = -(-distance // ((side - self.overlap_px) // self.multiple))
        starts = [distance * step // steps * self.multiple for step in range(steps + 1)]
        seams = [(left + right + side) // self.stride // 2 for left, right in pairwise(starts)]
        borders = pairwise([0, *seams, cells])
        return [
            Span(start, min(start + side, length_px), first, end)
            for start, (first, end) in zip(starts, borders, strict=True)
        ]

    def _side(self) -> int:
        return self.side_px // self.multiple * self.multiple


def is_larger_than_tile(image_hw: tuple[int, int], tile_px: int | None) -> bool:
    """Tell whether an image is cut into tiles."""
    return tile_px is not None and max(image_hw) > tile_px


def tiled_logits(forward: Callable[[Tensor], Tensor], image: Tensor, tiling: Tiling) -> Tensor:
    """Return the heatmaps of an image that is run in tiles.

    Where the overlap is at least twice the radius of the network's receptive field, they are those of the
    whole image at once; with less they are close to them. A network that looks at the whole image (attention,
    pooling over all pixels, normalisation by the image) sees a tile instead.

    Memory, beside the image: the map, the logits of some tiles and the activations of a forward pass over
    `TILE_PIXELS_AT_ONCE` pixels.

    Args:
        forward: Maps uint8 `[n, c_in, h, w]` to logits `[n, c, ceil(h / stride), ceil(w / stride)]`.
        image: uint8 `[c_in, H, W]`.
        tiling: How to cut, checked.

    Returns:
        Logits `[c, ceil(H / stride), ceil(W / stride)]`, on the device and of the type that `forward` gives.
    """
    height, width = image.shape[1:]
    tiles = [(rows, columns) for rows in tiling.spans(height) for columns in tiling.spans(width)]
    whole = torch.empty(0)
    for group in _groups(tiles):
        crops = [image[:, rows.start : rows.stop, columns.start : columns.stop] for rows, columns in group]
        logits = forward(torch.stack(crops))
        if not len(whole):
            whole = logits.new_empty(logits.shape[1], tiles[-1][0].end, tiles[-1][1].end)
        for (rows, columns), own in zip(group, logits, strict=True):
            top, left = rows.start // tiling.stride, columns.start // tiling.stride
            whole[:, rows.first : rows.end, columns.first : columns.end] = own[
                :, rows.first - top : rows.end - top, columns.first - left : columns.end - left
            ]
    return whole


def _groups(tiles: list[Tile]) -> Iterator[list[Tile]]:
    """Yield the tiles that are run together: of one size, and not too many."""
    by_size: dict[tuple[int, int], list[Tile]] = {}
    for rows, columns in tiles:
        size = (rows.stop - rows.start, columns.stop - columns.start)
        by_size.setdefault(size, []).append((rows, columns))
    for (height, width), group in by_size.items():
        at_once = max(1, TILE_PIXELS_AT_ONCE // (height * width))
        yield from (group[first : first + at_once] for first in range(0, len(group), at_once))
