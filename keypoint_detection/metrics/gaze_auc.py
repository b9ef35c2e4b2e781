"""Area under the ROC curve of gaze maps at the size of the picture, against the pixels of the annotators."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.gaze_people import (
    PersonScores,
    add_people,
    check_people,
    counted_people,
    gathered_people,
    present_annotators,
)

PIXELS_AT_ONCE = 2**20
"""Pixels of pictures that are looked at together, so that memory is the same for pictures of any size."""

SLACK = 1e-9
"""Relative margin, far above any rounding, within which a row is looked at pixel by pixel."""


@torch.no_grad()
def gaze_auc(maps: Tensor, gaze: Tensor, image_hw: Tensor, in_frame: Tensor) -> Tensor:
    """Return each person's area under the ROC curve, exact, ties included.

    The map is resized to the picture (bilinear, the edge continued: pixel x reads the map at
    `u = (x + 0.5) w / W - 0.5`). The pixels that hold an annotator are positives, each once, all others are
    negatives. The area is the share of pairs of a positive and a negative in which the positive is higher;
    equal ones count half.

    The picture-sized map is never stored. The map is resized in height, which gives rows of w values; along a
    row the resized map stays between their least and greatest value. Rows that are below or above an
    annotator's value, and flat rows, are counted as they are, and only the others are resized in width, some
    at a time, for all people with pictures of one width together. Pixels and annotators get their values by
    the same operations in float64, and equal map values give equal pixels, so that a tie is a tie.

    Args:
        maps: `[n, h, w]` over the whole picture, finite for everybody that counts; any floating type.
        gaze: `[n, a, 2]`, `(x, y)` in pixels of the picture, NaN padded; the pixel of a point beyond the
            border is the nearest one.
        image_hw: `[n, 2]`, height and width of the pictures.
        in_frame: `[n]`, 1 inside; others do not count.

    Returns:
        float64 `[n]` in [0, 1] on the maps' device; NaN for people that do not count, or without negatives.

    Raises:
        ValueError: A shape is none of these, or a map is not finite.

    Source: the measure is GazeFollow's (Recasens et al., 2015); ranks: Hanley and McNeil (1982).

    Example:
        >>> maps = torch.tensor([[[0.0, 0.2], [0.2, 0.8]]])
        >>> gaze, size = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]), torch.tensor([[2, 2]])
        >>> gaze_auc(maps, gaze, size, torch.ones(1)).tolist()  # pairs: won, tied, won, won
        [0.875]
    """
    check_people(gaze, in_frame, image_hw=(image_hw, (2,)))
    _check_maps(maps, gaze)
    rows = counted_people(gaze, in_frame).to(maps.device).nonzero()[:, 0]
    area = torch.full((len(maps),), torch.nan, dtype=torch.float64, device=maps.device)
    if not len(rows):
        return area
    chosen, points = maps[rows].double(), gaze.to(maps.device)[rows].double()
    size = image_hw.to(maps.device)[rows].long()
    if not bool(chosen.isfinite().all()) or bool((size < 1).any()):
        raise ValueError("expected finite maps and pictures of at least 1x1 pixels for everybody inside")
    positives = _positives(chosen, points, size)
    below, tied = _counts(chosen, positives, size)
    area[rows] = _areas(positives, below, tied, size.prod(1))
    return area


class _Positives(NamedTuple):
    """Hold the values of the annotators' pixels, `[m, a]`, and which of them are there, each pixel once."""

    value: Tensor
    there: Tensor


def _positives(maps: Tensor, points: Tensor, size: Tensor) -> _Positives:
    there = present_annotators(points)
    pixel = (points.nan_to_num() + 0.5).floor().long()
    pixel = torch.minimum(pixel.clamp(min=0), size.flip(1)[:, None] - 1)
    number = pixel[..., 1] * size[:, 1:] + pixel[..., 0]
    same = (number[:, :, None] == number[:, None, :]) & there[:, None, :]
    earlier = torch.ones(same.shape[1:], dtype=torch.bool, device=maps.device).tril(-1)
    there = there & ~(same & earlier).any(2)
    person = torch.arange(len(maps), device=maps.device)[:, None]
    top, bottom, down = _places(pixel[..., 1], size[:, :1], maps.shape[1])
    left, right, along = _places(pixel[..., 0], size[:, 1:], maps.shape[2])
    ends = [
        _between(maps[person, top, column], maps[person, bottom, column], down) for column in (left, right)
    ]
    return _Positives(_between(ends[0], ends[1], along), there)


def _places(pixel: Tensor, size: Tensor, map_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the map pixels before and after each picture pixel, and how far it is from the first to them."""
    place = ((pixel.double() + 0.5) * map_size / size - 0.5).clamp(0, map_size - 1)
    before = place.floor().clamp(max=max(map_size - 2, 0)).long()
    return before, (before + 1).clamp(max=map_size - 1), place - before


def _between(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """Return `one + share (other - one)`: exactly `one` where both are equal, so that ties stay ties."""
    return one + share * (other - one)


def _counts(maps: Tensor, positives: _Positives, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many pixels are below and at each annotator's value, int64 `[m, a]` each."""
    totals = torch.zeros(2, *positives.value.shape, dtype=torch.int64, device=maps.device)
    for width in size[:, 1].unique().tolist():
        people = (size[:, 1] == width).nonzero()[:, 0]
        heights = size[people, 0]
        person = people.repeat_interleave(heights)
        first = (heights.cumsum(0) - heights).repeat_interleave(heights)
        row = torch.arange(len(person), device=maps.device) - first
        for part in torch.arange(len(person), device=maps.device).split(max(1, PIXELS_AT_ONCE // width)):
            owner = person[part]
            top, bottom, down = _places(row[part], size[owner, 0], maps.shape[1])
            lines = _between(maps[owner, top], maps[owner, bottom], down[:, None])
            counts = _row_counts(lines, positives.value[owner], positives.there[owner], width)
            totals.index_add_(1, owner, counts)
    return totals[0], totals[1]


def _row_counts(lines: Tensor, value: Tensor, there: Tensor, width: int) -> Tensor:
    """Return how many of the pixels of each row are below and at each value, int64 `[2, r, a]`.

    Args:
        lines: `[r, w]`, rows of the map resized in height.
        value: `[r, a]`.
        there: `[r, a]`; other values may be counted or not.
        width: Pixels of a row of the picture.
    """
    least, greatest = lines.amin(1, keepdim=True), lines.amax(1, keepdim=True)
    slack = SLACK * (least.abs() + greatest.abs())
    flat = least == greatest
    lower = (greatest + slack < value) | (flat & (greatest < value))
    counts = width * torch.stack([lower, flat & (greatest == value)]).long()
    doubtful = there & ~flat & ~lower & (least - slack <= value)
    rows = doubtful.any(1).nonzero()[:, 0]
    if len(rows):
        pixels = _resized_rows(lines[rows], width)
        for annotator in doubtful[rows].any(0).nonzero()[:, 0].tolist():
            limit = value[rows, annotator, None]
            found = torch.stack([(pixels < limit).sum(1), (pixels == limit).sum(1)])
            told = counts[:, rows, annotator]
            counts[:, rows, annotator] = torch.where(doubtful[rows, annotator], found, told)
    return counts


def _resized_rows(lines: Tensor, width: int) -> Tensor:
    """Return rows `[r, w]` resized to `[r, width]`."""
    pixel = torch.arange(width, device=lines.device)
    before, after, along = _places(pixel, torch.tensor(width, device=lines.device), lines.shape[1])
    return _between(lines[:, before], lines[:, after], along)


def _areas(positives: _Positives, below: Tensor, tied: Tensor, pixels: Tensor) -> Tensor:
    """Return the areas `[m]` from counts over all pixels, the positives among them."""
    value, there = positives
    other = there[:, None, :]
    below = below - ((value[:, None, :] < value[:, :, None]) & other).sum(2)
    tied = tied - ((value[:, None, :] == value[:, :, None]) & other).sum(2)
    wins = torch.where(there, 2 * below + tied, 0).sum(1)
    count = there.sum(1)
    return wins.double() / (2 * count * (pixels - count)).double()  # NaN as 0 / 0 without a negative


class GazeAUC(Metric):
    """Mean over the people inside of the area under the ROC curve of their maps; see `gaze_auc`.

    One number of each person is kept, no map.

    Example:
        >>> metric = GazeAUC()
        >>> gaze, size = torch.tensor([[[1.0, 1.0]]]), torch.tensor([[2, 2]])
        >>> maps = torch.tensor([[[0.0, 0.2], [0.2, 0.8]]])
        >>> metric.update(maps, gaze, size, torch.ones(1), torch.tensor([4]))
        >>> metric.compute()["auc"].item()
        1.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    auc: list[Tensor] | Tensor
    auc_person: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("auc", [], dist_reduce_fx="cat")
        self.add_state("auc_person", [], dist_reduce_fx="cat")

    def update(self, maps: Tensor, gaze: Tensor, image_hw: Tensor, in_frame: Tensor, person: Tensor) -> None:
        """Add a batch; `person` int64 `[n]` are the people's rows in the table, the others as `gaze_auc`."""
        add_people(self, {"auc": gaze_auc(maps, gaze, image_hw, in_frame)}, "auc_person", person)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw nobody takes part with empty tensors."""
        fill_empty_states(self, self._nothing())
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor | int]:
        """Return `"auc"`, the mean, NaN without anybody, and `"auc_people"`, the number of people in it."""
        scores = self._scores()
        return {"auc": scores.statistic().value()[0], "auc_people": int((~scores.values.isnan()).sum())}

    def scores(self) -> PersonScores:
        """Return the area of each person of all processes; every process must call it."""
        with self.sync_context():
            return self._scores()

    def _scores(self) -> PersonScores:
        auc, person = gathered_people(self, self._nothing())
        return PersonScores(("auc",), auc[:, None], person)

    def _nothing(self) -> dict[str, Tensor]:
        none = torch.zeros(0, dtype=torch.float64)
        return {"auc": none, "auc_person": none.long()}


def _check_maps(maps: Tensor, gaze: Tensor) -> None:
    if maps.ndim != 3 or len(maps) != len(gaze) or min(maps.shape[1:]) < 1 or not maps.is_floating_point():
        raise ValueError(
            f"expected floating-point maps [{len(gaze)}, h, w], got {maps.dtype} {list(maps.shape)}"
        )
