"""How well visible and occluded keypoints are told apart, as a function of how often each image counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from keypoint_detection.metrics.binary_classification_auroc import Ranks, area_under_roc, rank_points
from keypoint_detection.metrics.visibility_scores import VisibilityPairs

NAMES = ("visibility_accuracy", "visibility_auroc")


def balanced_accuracy(right: Tensor, total: Tensor) -> Tensor:
    """Return the mean over both classes of the share that is right, `[...]`; NaN where a class is empty.

    Args:
        right: `[..., 2]`, how many of each class are told rightly.
        total: `[..., 2]`, how many there are.

    Example:
        >>> balanced_accuracy(torch.tensor([9.0, 1.0]), torch.tensor([10.0, 4.0])).item()
        0.575
    """
    return (right.double() / total.double()).masked_fill(total == 0, torch.nan).mean(-1)


def visibility_statistics(
    pairs: VisibilityPairs, channel_names: Sequence[str]
) -> list["VisibilityStatistic"]:
    """Return the numbers about visibility, over all channels and then per channel."""
    scores, visible, num_pairs = (part.cpu() for part in pairs)
    return [VisibilityStatistic(scores, visible, num_pairs, tuple(channel_names))]


@dataclass(frozen=True)
class VisibilityStatistic:
    """Give balanced accuracy and AUROC of the told visibilities for any weighting; an `ImageStatistic`.

    - `visibility_accuracy`: balanced: the mean of the share of visible keypoints with a positive score and
      of the share of occluded ones with a negative score.
    - `visibility_auroc`: the share of pairs of a visible and an occluded keypoint in which the visible one
      has the higher signed score, equal ones half.

    A channel's column is called `channel/name`. Both are NaN where visible or occluded keypoints lack.

    Attributes:
        scores: float64 `[p]`; this and the next two as in `VisibilityPairs`, on the CPU.
        visible: bool `[p]`.
        num_pairs: int64 `[n, c]`.
        channel_names: Names of the c channels.

    Example:
        >>> scores, visible = torch.tensor([0.9, -0.2, -0.7]).double(), torch.tensor([True, True, False])
        >>> statistic = VisibilityStatistic(scores, visible, torch.tensor([[1], [2]]), ("eye",))
        >>> statistic.columns[:2], statistic.value()[:2].tolist()
        (('visibility_accuracy', 'visibility_auroc'), [0.75, 1.0])
    """

    scores: Tensor
    visible: Tensor
    num_pairs: Tensor
    channel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that every channel has a name."""
        if len(self.channel_names) != self.num_pairs.shape[1]:
            raise ValueError(
                f"expected one name for each of {self.num_pairs.shape[1]} channels, "
                f"got {len(self.channel_names)}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each number."""
        return (*NAMES, *(f"{channel}/{name}" for channel in self.channel_names for name in NAMES))

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers for weights int64 `[b, n]`, float64 `[b, s]`; NaN where undefined."""
        sums = weights.double() @ self._counts  # whole numbers: exact in any order
        right, total = sums.view(len(weights), -1, 2, 2).unbind(2)
        plain = weights.cpu().numpy()
        areas = [torch.from_numpy(area_under_roc(ranks, plain)) for ranks in self._ranks]
        return torch.stack([balanced_accuracy(right, total), torch.stack(areas, dim=1)], dim=2).flatten(1)

    def value(self) -> Tensor:
        """Return the numbers with every image counted once, float64 `[s]`: the same bits in any order."""
        return self(torch.ones(1, len(self.num_pairs), dtype=torch.int64))[0]

    @cached_property
    def _place(self) -> tuple[Tensor, Tensor]:
        """Return the sample and the channel of each pair, `[p]` each."""
        n, c = self.num_pairs.shape
        group = torch.arange(n * c).repeat_interleave(self.num_pairs.flatten())
        return group // max(c, 1), group % max(c, 1)

    @cached_property
    def _counts(self) -> Tensor:
        """Return per sample, for all channels and each, right and all of both classes, `[n, (1 + c) * 4]`."""
        (n, c), (sample, channel) = self.num_pairs.shape, self._place
        counts = torch.zeros(n, 1 + c, 2, 2, dtype=torch.float64)
        told_right, kind = (self.scores >= 0) == self.visible, self.visible.long()
        one = torch.ones(len(sample), dtype=torch.float64)
        for place in (torch.zeros_like(channel), channel + 1):
            counts.index_put_((sample, place, torch.zeros_like(kind), kind), told_right.double(), True)
            counts.index_put_((sample, place, torch.ones_like(kind), kind), one, True)
        return counts.flatten(1)

    @cached_property
    def _ranks(self) -> list[Ranks]:
        """Return how visible ones stand among occluded ones: of all channels, then of each."""
        sample, channel = self._place
        chosen = [torch.ones_like(self.visible)]
        chosen += [channel == index for index in range(len(self.channel_names))]
        scores, visible, unit = self.scores.numpy(), self.visible.numpy().astype("uint8"), sample.numpy()
        return [rank_points(scores[part], visible[part], unit[part]) for part in (p.numpy() for p in chosen)]
