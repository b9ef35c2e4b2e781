"""Average precision as a function of how often each image counts, for resampling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from keypoint_detection.metrics.precision_recall import (
    Interpolation,
    Matches,
    average_precision_of_matches,
)


@dataclass(frozen=True)
class AveragePrecisionStatistic:
    """Give the average precision of any weighting of the images, from their matches; an `ImageStatistic`.

    The numbers are "map", each threshold's mean over the channels that have targets, and for each channel
    its mean over the thresholds and its value at each.

    Attributes:
        scores: `[d]` float64; this and the next four as in `Matches`, on the CPU.
        matched: `[d, t]` bool.
        ignored: `[d, t]` bool.
        num_detections: `[n, c]` int64.
        num_targets: `[n, c]` int64.
        interpolation: "all" or "101".
        channel_names: Names of the c channels.
        threshold_names: Names of the t thresholds, such as "ap@2px".

    Example:
        >>> hits, one = torch.tensor([[True], [False]]), torch.ones(2, 1, dtype=torch.int64)
        >>> matches = Matches(torch.tensor([0.8, 0.9]), hits, ~hits & hits, one, one)
        >>> ap = AveragePrecisionStatistic(*matches, channel_names=("eye",), threshold_names=("ap@2px",))
        >>> ap.columns
        ('map', 'ap@2px', 'eye/map', 'eye/ap@2px')
        >>> ap.value().tolist(), ap(torch.tensor([[2, 0], [0, 0]])).tolist()
        ([0.25, 0.25, 0.25, 0.25], [[1.0, 1.0, 1.0, 1.0], [nan, nan, nan, nan]])
    """

    scores: Tensor
    matched: Tensor
    ignored: Tensor
    num_detections: Tensor
    num_targets: Tensor
    interpolation: Interpolation = "all"
    channel_names: tuple[str, ...] = ()
    threshold_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that every channel and threshold has a name."""
        named = (len(self.channel_names), len(self.threshold_names))
        counted = (self.num_targets.shape[1], self.matched.shape[1])
        if named != counted:
            raise ValueError(
                f"expected names of {counted[0]} channels and {counted[1]} thresholds, "
                f"got {named[0]} and {named[1]}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each number."""
        names = ("map", *self.threshold_names)
        return (*names, *(f"{channel}/{name}" for channel in self.channel_names for name in names))

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers for weights int64 `[b, n]`, float64 `[b, s]`; NaN where there is no target."""
        table = average_precision_of_matches(self._matches(), self.interpolation, weights)
        return _numbers(table)

    def value(self) -> Tensor:
        """Return the numbers with every image counted once, float64 `[s]`: the same bits in any order."""
        return _numbers(average_precision_of_matches(self._matches(), self.interpolation)[None])[0]

    def _matches(self) -> Matches:
        return Matches(self.scores, self.matched, self.ignored, self.num_detections, self.num_targets)


def _numbers(table: Tensor) -> Tensor:
    """Return the numbers `[b, s]` of tables `[b, c, t]`."""
    over_all = [table.flatten(1).nanmean(1, keepdim=True), table.nanmean(1)]
    per_channel = torch.cat([table.mean(2, keepdim=True), table], dim=2)
    return torch.cat([*over_all, per_channel.flatten(1)], dim=1)
