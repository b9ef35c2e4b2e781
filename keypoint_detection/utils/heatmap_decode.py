"""The peaks of heatmaps, to the pixel and for many maps at once; the door is `utils.heatmap`.

A *plane* is the map of one channel of one image, a *pixel* an index into the flattened planes `[p, h, w]`, so pixels
in rising order are in reading order. Whole maps are read once; all else is done on the few pixels that can be peaks.
"""

from typing import NamedTuple

import torch
from torch import Tensor

WINDOW_PIXELS_AT_ONCE = 2**22
"""Most window pixels that are looked at together, so that memory stays bounded for maps full of noise."""

AROUND = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))


class Peaks(NamedTuple):
    """Hold m peaks in reading order or any other.

    Attributes:
        plane: `[m]`, index of the plane.
        xy: `[m, 2]`, integer position; for a plateau its middle pixel in reading order.
        centre: `[m, 2]`, float32 centre of mass of the plateau, the position itself for a single pixel.
        score: `[m]`, float32 value of the map.
    """

    plane: Tensor
    xy: Tensor
    centre: Tensor
    score: Tensor

    def select(self, index: Tensor) -> "Peaks":
        """Return the peaks of an index or a mask."""
        return Peaks(self.plane[index], self.xy[index], self.centre[index], self.score[index])


def find_peaks(planes: Tensor, min_distance_px: int, threshold: float) -> Peaks:
    """Return the peaks of `[p, h, w]` in reading order: pixels or plateaus that are the best of their window."""
    height, width = planes.shape[1:]
    values = planes.reshape(-1)
    pixels, centre = _merge_plateaus(values, _local_maxima(planes, threshold), (height, width))
    radius = min(min_distance_px, max(height, width) - 1)
    if radius > 1:  # peaks are never adjacent
        best = [
            _is_first_of_window(values, part, pixels, radius, (height, width))
            for part in pixels.split(max(1, WINDOW_PIXELS_AT_ONCE // (2 * radius + 1)))
        ]
        pixels, centre = pixels[torch.cat(best)], centre[torch.cat(best)]
    xy = torch.stack([pixels % width, pixels // width % height], 1)
    return Peaks(pixels // (height * width), xy, centre, values[pixels].float())


def _local_maxima(planes: Tensor, threshold: float) -> Tensor:
    """Return the pixels above the threshold without a higher one among their eight neighbours, in rising order."""
    height, width = planes.shape[1:]
    values, rows = planes.reshape(-1), planes.reshape(-1, width)
    used = (~(rows.amax(1) <= threshold)).nonzero()[:, 0]  # a maximum of NaN may hide a peak
    rows = rows[used]
    candidate = rows > threshold
    candidate[:, 1:] &= ~(rows[:, :-1] > rows[:, 1:])
    candidate[:, :-1] &= ~(rows[:, 1:] > rows[:, :-1])
    row, column = candidate.nonzero(as_tuple=True)
    pixels = used[row] * width + column
    for rows_down, columns_right in AROUND:
        if rows_down:
            neighbours = _shift(pixels, rows_down, columns_right, (height, width))
            pixels = pixels[~(values[neighbours] > values[pixels])]
    return pixels


def _shift(pixels: Tensor, rows_down: int, columns_right: int | Tensor, plane_hw: tuple[int, int]) -> Tensor:
    """Return the pixels at an offset; beyond the border it is the last one inside: itself or nearer by."""
    height, width = plane_hw
    column, row = pixels % width, pixels // width % height
    moved_column = (column + columns_right).clamp(0, width - 1)
    moved_row = (row + rows_down).clamp(0, height - 1)
    return pixels - column + moved_column + (moved_row - row) * width


def _merge_plateaus(values: Tensor, pixels: Tensor, plane_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Join touching local maxima of one height, and drop those that touch a higher pixel anywhere.

    Args:
        values: `[p * h * w]`.
        pixels: `[m]`, local maxima in rising order.
        plane_hw: Height and width of a plane.

    Returns:
        The middle pixel of each peak `[q]` in rising order, and the centre of mass `[q, 2]`.
    """
    neighbours = torch.stack([_shift(pixels, *offset, plane_hw) for offset in AROUND], 1)
    equal = (values[neighbours] == values[pixels][:, None]) & (neighbours != pixels[:, None])
    index = torch.searchsorted(pixels, neighbours).clamp(max=max(len(pixels) - 1, 0))
    is_maximum = pixels[index] == neighbours
    itself = torch.arange(len(pixels), device=pixels.device)
    label = _connected_label(torch.where(equal & is_maximum, index, itself[:, None]))
    on_slope = torch.zeros_like(pixels, dtype=torch.bool)
    on_slope[label[(equal & ~is_maximum).any(1)]] = True  # goes on in a pixel that has a higher neighbour
    members = (~on_slope[label]).nonzero()[:, 0]
    members = members[label[members].argsort(stable=True)]
    _, size = torch.unique_consecutive(label[members], return_counts=True)
    end = size.cumsum(0)
    middle, order = pixels[members[end - size + size // 2]].sort()
    height, width = plane_hw
    xy = torch.stack([pixels[members] % width, pixels[members] // width % height], 1)
    total = torch.nn.functional.pad(xy.cumsum(0), (0, 0, 1, 0))
    centre = (total[end] - total[end - size]).double() / size[:, None]
    return middle, centre[order].float()


def _connected_label(neighbours: Tensor) -> Tensor:
    """Return the smallest index of the connected component of every node, `[m]`.

    Args:
        neighbours: `[m, 8]`, symmetric links; a missing link points to the node itself.
    """
    label = torch.arange(len(neighbours), device=neighbours.device)
    while True:
        lower = torch.minimum(label, label[neighbours].amin(1))
        lower = lower[lower]  # a label is a node of the same component, whose own label is lower still
        if torch.equal(lower, label):
            return label
        label = lower


def _is_first_of_window(
    values: Tensor, pixels: Tensor, peaks: Tensor, radius: int, plane_hw: tuple[int, int]
) -> Tensor:
    """Tell which pixels have neither a higher pixel nor an equal earlier peak within the radius (Chebyshev).

    Args:
        values: `[p * h * w]`.
        pixels: `[m]`, the peaks to look at.
        peaks: All peaks, in rising order.
        radius: Radius in pixels, >= 1.
        plane_hw: Height and width of a plane.

    Returns:
        `[m]`, bool.
    """
    across = torch.arange(-radius, radius + 1, device=pixels.device)
    alive = torch.arange(len(pixels), device=pixels.device)
    for rows_down in sorted(range(-radius, radius + 1), key=abs):  # most fall to the nearest rows
        own = pixels[alive, None]
        window = _shift(own, rows_down, across, plane_hw)
        beaten = (values[window] > values[own]).any(1)
        rival, column = ((values[window] == values[own]) & (window < own)).nonzero(as_tuple=True)
        earlier = window[rival, column]
        index = torch.searchsorted(peaks, earlier).clamp(max=max(len(peaks) - 1, 0))
        beaten[rival[peaks[index] == earlier]] = True
        alive = alive[~beaten]
    return torch.zeros_like(pixels, dtype=torch.bool).index_fill_(0, alive, True)
