"""COCO's ten numbers from matched instances, with every image counted once or any number of times."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.metrics.instance_matching import OKS_THRESHOLDS, InstanceMatches

OKS_NUMBERS = (
    *("ap", "ap50", "ap75", "ap_medium", "ap_large"),
    *("ar", "ar50", "ar75", "ar_medium", "ar_large"),
)
"""COCO's numbers in COCO's order."""

RECALLS = np.linspace(0.0, 1.0, 101)
"""Where the precision is read."""

WEIGHTS_AT_ONCE = 2**17
"""Weights of detections held at once: they stay in the cache."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class OKSStatistic:
    """Give COCO's ten numbers for any weighting of the images, from their matches; an `ImageStatistic`.

    An image of weight w counts as w copies of it, each with its own detections and targets. Equal scores
    of different images stay in the order of the images; the copies of a detection follow one another.

    Attributes:
        image: `[d]` int64, image of each detection, by falling score over all images; on the CPU.
        matched: `[d, a, t]` bool, for area ranges all, medium, large and ten thresholds.
        ignored: `[d, a, t]` bool.
        num_targets: `[n, a]` int64.

    Example:
        >>> from keypoint_detection.metrics.instance_matching import InstanceMatches
        >>> hit = torch.tensor([True, False])[:, None, None].expand(2, 3, 10)
        >>> targets = torch.tensor([[1, 0, 1], [1, 0, 1]])
        >>> scores, image = torch.tensor([0.8, 0.9]), torch.tensor([0, 1])
        >>> oks = OKSStatistic.of_matches(InstanceMatches(image, scores, hit, hit & ~hit, targets))
        >>> dict(zip(oks.columns, oks.value().tolist()))["oks_ar"]
        0.5
        >>> oks(torch.tensor([[1, 0], [0, 0]]))[:, 0].round(decimals=6).tolist()
        [1.0, nan]
    """

    image: Tensor
    matched: Tensor
    ignored: Tensor
    num_targets: Tensor

    @classmethod
    def of_matches(cls, matches: InstanceMatches) -> "OKSStatistic":
        """Put the detections of all images in the order of their score."""
        order = torch.from_numpy(np.argsort(-matches.scores.numpy(), kind="stable"))
        return cls(matches.image[order], matches.matched[order], matches.ignored[order], matches.num_targets)

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of each number."""
        return tuple(f"oks_{name}" for name in OKS_NUMBERS)

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the numbers for weights int64 `[b, n]`, float64 `[b, 10]`; NaN without a target in range."""
        step = max(1, WEIGHTS_AT_ONCE // max(1, len(self.image)))
        parts = [self._numbers(chunk) for chunk in weights.cpu().long().split(step)]
        return torch.from_numpy(np.concatenate([np.zeros((0, len(OKS_NUMBERS))), *parts]))

    def value(self) -> Tensor:
        """Return the numbers with every image counted once, float64 `[10]`."""
        return self(torch.ones(1, len(self.num_targets), dtype=torch.int64))[0]

    def _numbers(self, weights: Tensor) -> Floats:
        """Return the numbers `[b, 10]` of a few rows of weights `[b, n]`."""
        counts = weights.numpy()
        of_detection = counts.take(self.image.numpy(), axis=1)
        matched, ignored = self.matched.numpy(), self.ignored.numpy()
        num_targets = counts @ self.num_targets.numpy()
        shape = (*num_targets.shape, len(OKS_THRESHOLDS))
        precision, recall = np.empty((*shape, len(RECALLS))), np.empty(shape)
        for area, total in enumerate(num_targets.T):
            needed = _least_hits(total)
            for threshold in range(len(OKS_THRESHOLDS)):
                there = np.flatnonzero(~ignored[:, area, threshold])
                seen = of_detection.take(there, axis=1).cumsum(1)
                hits = np.flatnonzero(matched[there, area, threshold])
                found = of_detection.take(there[hits], axis=1).cumsum(1)
                precision[:, area, threshold] = _precision_at(needed, found, seen.take(hits, axis=1))
                most = found[:, -1] if len(hits) else np.zeros_like(total)
                recall[:, area, threshold] = most / np.maximum(total, 1)
        return np.where(_columns_of_area(num_targets) > 0, _ten_numbers(precision, recall), np.nan)


def _least_hits(num_targets: Integers) -> Integers:
    """Return the least numbers of hits with which the recall reaches each level, `[b, r]`, for totals `[b]`.

    Rounding may move a quotient past its level, so the quotients decide.
    """
    total = np.maximum(num_targets, 1)[:, None]
    hits = np.maximum(np.ceil(RECALLS * total).astype(np.int64) - 1, 0)
    for _ in range(2):
        hits += hits / total < RECALLS
    return hits


def _precision_at(needed: Integers, found: Integers, seen: Integers) -> Floats:
    """Return the greatest precision at each recall or a higher one, 0 where it is not reached, `[b, r]`.

    Only hits matter: between two of them the precision falls.

    Args:
        needed: `[b, r]` rising, hits at which each recall is reached; the first is 0.
        found: `[b, h]`, hits up to each of h hits.
        seen: `[b, h]`, detections up to there that are not ignored.
    """
    b, h = found.shape
    precision = np.zeros((b, h + 1))
    np.divide(found, seen + np.spacing(1), out=precision[:, :h])
    start = torch.searchsorted(torch.from_numpy(found), torch.from_numpy(needed)).numpy()
    # Each piece ends where the next starts; the 0 at the end of a row is the piece of unreached recalls.
    start += np.arange(b)[:, None] * (h + 1)
    pieces = np.maximum.reduceat(precision.ravel(), start.ravel()).reshape(start.shape)
    return np.maximum.accumulate(pieces[:, ::-1], axis=1)[:, ::-1]


def _ten_numbers(precision: Floats, recall: Floats) -> Floats:
    """Return the means `[b, 10]` of precisions `[b, a, t, r]` and recalls `[b, a, t]`."""
    halves = []
    for table in (precision.mean(3), recall):
        at = {limit: table[:, 0, np.argmin(np.abs(OKS_THRESHOLDS - limit))] for limit in (0.5, 0.75)}
        everywhere, medium, large = table.mean(2).T
        halves += [everywhere, at[0.5], at[0.75], medium, large]
    return np.stack(halves, axis=1)


def _columns_of_area(per_area: Integers) -> Integers:
    """Return `[b, 10]`, for each number the entry of its area range, from `[b, a]`."""
    return per_area[:, [0, 0, 0, 1, 2] * 2]
