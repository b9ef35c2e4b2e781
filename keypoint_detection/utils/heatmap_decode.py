"""The peaks of heatmaps, to the pixel and for many maps at once; the door is `utils.heatmap`.

A *plane* is the map of one channel of one image, a *pixel* an index into the flattened planes `[p, h, w]`, so
pixels in rising order are in reading order. Whole maps are read once; all else is done on the few pixels that
can be peaks.

Whether a pixel is a peak depends on nothing lower than itself. So the peaks above any level can be found
without the rest, and the best ones of a map full of noise take little more time than those of an empty map.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

DIAGONAL = ((-1, -1), (-1, 1), (1, -1), (1, 1))
AROUND = (*DIAGONAL, (-1, 0), (1, 0), (0, -1), (0, 1))
"""Offsets `(down, right)` of the eight neighbours."""
WINDOW_PIXELS_AT_ONCE = 2**22
"""Most window pixels that are looked at together, so that memory stays bounded for maps full of noise."""


ROWS_PER_PEAK = (4, 16)
"""Rows that are looked at for each peak that is asked for; where they hold too few, more, at last all."""


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


def find_peaks(planes: Tensor, min_distance_px: int, threshold: float, most: int) -> Peaks:
    """Return peaks of float32 planes `[p, h, w]` in reading order, the `most` best of every plane among them.

    Of each plane these are all peaks above the threshold, or all above a higher level that enough of them
    reach. Rows are taken in the order of their highest pixel to find such a level.
    """
    tops = planes.amax(2)
    levels = torch.where(tops.isnan(), -torch.inf, tops).sort(1, descending=True).values.clamp(min=threshold)
    wanted = torch.ones_like(levels[:, 0], dtype=torch.bool)
    found: list[Peaks] = []
    for n_rows in (*(most * rows for rows in ROWS_PER_PEAK), planes.shape[1]):
        level = levels[:, n_rows] if n_rows < planes.shape[1] else torch.full_like(levels[:, 0], threshold)
        peaks = _peaks_above(planes, tops, torch.where(wanted, level, torch.inf), min_distance_px)
        enough = (peaks.plane.bincount(minlength=len(planes)) >= most) | (level <= threshold)
        found.append(peaks.select(enough[peaks.plane]))
        wanted &= ~enough
        if not wanted.any():
            break
    parts = [torch.cat(part) for part in zip(*found, strict=True)]
    return Peaks(*parts).select(parts[0].argsort(stable=True))


def _peaks_above(planes: Tensor, tops: Tensor, level: Tensor, min_distance_px: int) -> Peaks:
    """Return the peaks above a level `[p]` in reading order: the best pixels of their windows.

    Args:
        planes: `[p, h, w]`.
        tops: `[p, h]`, the highest pixel of every row, NaN where one is.
        level: `[p]`; infinite for a plane without interest.
        min_distance_px: Radius of the windows.
    """
    height, width = planes.shape[1:]
    values = planes.reshape(-1)
    pixels = _local_maxima(planes, tops, level)
    pixels, centre = _merge_plateaus(values, pixels, (height, width))
    radius = min(min_distance_px, max(height, width) - 1)
    if radius > 1:  # two peaks never touch
        parts = pixels.split(max(1, WINDOW_PIXELS_AT_ONCE // (2 * radius + 1)))
        best = torch.cat(
            [_is_first_of_window(values, part, pixels, radius, (height, width)) for part in parts]
        )
        pixels, centre = pixels[best], centre[best]
    return Peaks(pixels // (height * width), _position(pixels, (height, width)), centre, values[pixels])


def _position(pixels: Tensor, plane_hw: tuple[int, int]) -> Tensor:
    """Return column and row of pixels, `[m, 2]`."""
    height, width = plane_hw
    return torch.stack([pixels % width, pixels // width % height], 1)


def _local_maxima(planes: Tensor, tops: Tensor, level: Tensor) -> Tensor:
    """Return the pixels above the level of their plane that have no higher neighbour, in rising order.

    Only rows that reach above the level are read again: the others hold nothing higher than a candidate.
    """
    height, width = planes.shape[1:]
    values, rows = planes.reshape(-1), planes.reshape(-1, width)
    # a NaN must not hide the peaks of its row
    used = (~(tops <= level[:, None]) & (level[:, None] < torch.inf)).flatten().nonzero()[:, 0]
    rows = rows[used]
    apart = ((used[1:] != used[:-1] + 1) | (used[1:] % height == 0))[:, None]
    candidate = rows > level[used // height][:, None]
    candidate[:, 1:] &= ~(rows[:, :-1] > rows[:, 1:])
    candidate[:, :-1] &= ~(rows[:, 1:] > rows[:, :-1])
    candidate[1:] &= ~(rows[:-1] > rows[1:]) | apart
    candidate[:-1] &= ~(rows[1:] > rows[:-1]) | apart
    row, column = candidate.nonzero(as_tuple=True)
    pixels = used[row] * width + column
    level, lower = values[pixels], torch.zeros_like(pixels, dtype=torch.bool)
    for neighbours in _neighbours(pixels, DIAGONAL, (height, width)):
        lower |= values[neighbours] > level
    return pixels[~lower]


def _neighbours(
    pixels: Tensor, offsets: tuple[tuple[int, int], ...], plane_hw: tuple[int, int]
) -> Iterator[Tensor]:
    """Yield the pixels at each offset `(down, right)` of at most 1; beyond the border, the nearest ones."""
    height, width = plane_hw
    column, row = _position(pixels, plane_hw).unbind(1)
    horizontal = {-1: -(column > 0).long(), 0: 0, 1: (column < width - 1).long()}
    vertical = {-1: -(row > 0).long() * width, 0: 0, 1: (row < height - 1).long() * width}
    for down, right in offsets:
        yield pixels + vertical[down] + horizontal[right]


def _merge_plateaus(values: Tensor, pixels: Tensor, plane_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Keep one pixel of a plateau of equal local maxima, and none if the plateau touches a higher pixel.

    Args:
        values: `[p * h * w]`.
        pixels: `[m]`, local maxima in rising order.
        plane_hw: Height and width of a plane.

    Returns:
        Peaks `[q]` in rising order, for a plateau its middle pixel in reading order, and the centres of mass
        `[q, 2]`.
    """
    is_maximum = torch.zeros_like(values, dtype=torch.bool).index_fill_(0, pixels, True)
    level, touches = values[pixels], torch.zeros_like(pixels, dtype=torch.bool)
    on_slope = touches.clone()
    for neighbours in _neighbours(pixels, AROUND, plane_hw):
        equal = (values[neighbours] == level) & (neighbours != pixels)
        touches |= equal
        on_slope |= equal & ~is_maximum[neighbours]  # the neighbour has a higher one
    centre = _position(pixels, plane_hw)
    flat = touches.nonzero()[:, 0]
    label = _label_plateaus(values, pixels[flat], plane_hw)
    middle, mean = _plateau_centres(centre[flat], label, on_slope[flat])
    centre = centre.float().index_copy_(0, flat[middle], mean)
    peak = (~touches).index_fill_(0, flat[middle], True)
    return pixels[peak], centre[peak]


def _label_plateaus(values: Tensor, pixels: Tensor, plane_hw: tuple[int, int]) -> Tensor:
    """Number the groups of touching equal pixels, `[m]`: pixels of a row are joined to runs, then the runs.

    Args:
        values: `[p * h * w]`.
        pixels: `[m]`, in rising order.
        plane_hw: Height and width of a plane.
    """
    level = values[pixels]
    breaks = (pixels.diff() != 1) | (pixels[1:] % plane_hw[1] == 0) | (level[1:] != level[:-1])
    edge = torch.ones_like(pixels[:1], dtype=torch.bool)
    starts, ends = torch.cat([edge, breaks]), torch.cat([breaks, edge])
    run = starts.cumsum(0) - 1
    count = int(starts.sum())
    links = []
    above = _neighbours(pixels, ((-1, -1), (-1, 0), (-1, 1)), plane_hw)
    for neighbours, chosen in zip(above, (starts, torch.ones_like(starts), ends), strict=True):
        below = chosen.nonzero()[:, 0]  # the other diagonals join nothing that is not joined already
        index = torch.searchsorted(pixels, neighbours[below]).clamp(max=max(len(pixels) - 1, 0))
        linked = (pixels[index] == neighbours[below]) & (level[index] == level[below])
        links.append(run[index[linked]] * count + run[below[linked]])
    link = torch.cat(links).unique_consecutive()
    return _connect(count, torch.stack([link // count, link % count]))[run]


def _connect(count: int, links: Tensor) -> Tensor:
    """Return for each of `count` nodes the smallest node that the links `[2, e]` join it to."""
    label = torch.arange(count, device=links.device)
    while True:
        lower = label[links].amin(0).expand(2, -1)
        lower = label.scatter_reduce(0, links.flatten(), lower.flatten(), "amin")
        lower = lower[lower]  # a label is a node of the same group, whose own label is lower still
        if torch.equal(lower, label):
            return label
        label = lower


def _plateau_centres(position: Tensor, label: Tensor, on_slope: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middle pixel, an index `[q]`, and the mean position `[q, 2]` of the groups on no slope.

    Args:
        position: `[m, 2]`, pixels in reading order.
        label: `[m]`, their group, below m.
        on_slope: `[m]`, True for a pixel that excludes its group.
    """
    excluded = torch.zeros_like(on_slope)
    excluded[label[on_slope]] = True
    members = (~excluded[label]).nonzero()[:, 0]
    members = members[label[members].argsort(stable=True)]
    _, size = torch.unique_consecutive(label[members], return_counts=True)
    end = size.cumsum(0)
    total = torch.nn.functional.pad(position[members].cumsum(0), (0, 0, 1, 0))
    return members[end - size + size // 2], (total[end] - total[end - size]) / size[:, None]


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
    height, width = plane_hw
    column, row = _position(pixels, plane_hw)[..., None].unbind(1)
    across = torch.arange(-radius, radius + 1, device=pixels.device)
    alive = torch.arange(len(pixels), device=pixels.device)
    for down in sorted(range(-radius, radius + 1), key=abs):  # most fall to the nearest rows
        own, x, y = pixels[alive, None], column[alive], row[alive]
        window = own - x + (x + across).clamp(0, width - 1) + ((y + down).clamp(0, height - 1) - y) * width
        found, level = values[window], values[own]
        beaten = (found > level).any(1)
        rival, place = ((found == level) & (window < own)).nonzero(as_tuple=True)
        earlier = window[rival, place]
        index = torch.searchsorted(peaks, earlier).clamp(max=max(len(peaks) - 1, 0))
        beaten[rival[peaks[index] == earlier]] = True
        alive = alive[~beaten]
    return torch.zeros_like(pixels, dtype=torch.bool).index_fill_(0, alive, True)
