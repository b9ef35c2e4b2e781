"""The table of told visibilities: the signed score of each detection beside the flag of its label."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import assign_partners
from keypoint_detection.metrics.gathering import fill_empty_states

VISIBLE = 2
"""COCO's flag of a keypoint that can be seen; 1 is occluded."""


class VisibilityPairs(NamedTuple):
    """Hold the p targets that count and have a detection, ordered by sample, then channel.

    Attributes:
        scores: `[p]` float64 in [-1, 1], the signed score of the detection; below 0 it is taken for occluded.
        visible: `[p]` bool, whether the label is visible.
        num_pairs: `[n, c]` int64, how many of them each sample and channel has.
    """

    scores: Tensor
    visible: Tensor
    num_pairs: Tensor


@torch.no_grad()
def visibility_pairs(
    preds: Tensor,
    signed_scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    ignored: Tensor | None = None,
) -> VisibilityPairs:
    """Pair targets with detections as `keypoint_errors` does, whatever their distance and their signs.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        signed_scores: `[n, c, k]`; the magnitude ranks, below 0 a detection is told to be occluded.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`, COCO's flags; 0, or a target that is not finite, is absent.
        ignored: `[n, c, m]` bool, targets whose pairs do not count.

    Raises:
        ValueError: Shapes that do not fit, or a score that is NaN.

    Example:
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> pairs = visibility_pairs(preds, torch.tensor([[[-0.5]]]), target, torch.tensor([[[2]]]))
        >>> pairs.scores.tolist(), pairs.visible.tolist(), pairs.num_pairs.tolist()
        ([-0.5], [True], [[1]])
    """
    partners = assign_partners(preds, signed_scores.abs(), target, visibility, ignored=ignored)
    paired = partners.detection >= 0
    n, c, m = paired.shape
    scores = torch.zeros(n, c, m, dtype=torch.float64, device=preds.device)
    if signed_scores.shape[2]:
        scores = signed_scores.double().gather(2, partners.detection.clamp(min=0))
    return VisibilityPairs(scores[paired], (visibility >= VISIBLE)[paired], paired.sum(-1))


class VisibilityTable(Metric):
    """Collect the told visibilities of all keypoints of all images; every number about them follows.

    Args:
        num_channels: c.

    Example:
        >>> table = VisibilityTable(num_channels=1)
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> table.update(preds, torch.tensor([[[0.5]]]), target, torch.tensor([[[1]]]))
        >>> table.compute().scores.tolist()
        [0.5]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    scores: list[Tensor] | Tensor
    visible: list[Tensor] | Tensor
    num_pairs: list[Tensor] | Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        self.num_channels = num_channels
        for name in VisibilityPairs._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor,
        signed_scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        *,
        ignored: Tensor | None = None,
    ) -> None:
        """Add a batch; see `visibility_pairs`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        pairs = visibility_pairs(preds, signed_scores, target, visibility, ignored=ignored)
        for name, part in pairs._asdict().items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
        fill_empty_states(self, self._nothing()._asdict())
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> VisibilityPairs:
        """Return the pairs of all images of all processes."""
        return self._joined()

    def pairs(self) -> VisibilityPairs:
        """Return the pairs of the images of this process alone, on the CPU."""
        return VisibilityPairs(*(part.cpu() for part in self._joined()))

    def _joined(self) -> VisibilityPairs:
        states = [getattr(self, name) for name in VisibilityPairs._fields]
        listed = [state if isinstance(state, list) else [state] for state in states]
        return VisibilityPairs(
            *(torch.cat([none, *state]) for none, state in zip(self._nothing(), listed, strict=True))
        )

    def _nothing(self) -> VisibilityPairs:
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        return VisibilityPairs(none, none.bool(), none.new_zeros(0, self.num_channels, dtype=torch.int64))

    def _wrap_compute(self, compute: Callable) -> Callable:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(wrapped)
        def computed() -> VisibilityPairs:
            scores, visible, num_pairs = wrapped()
            # torchmetrics turns every tensor of one element into a scalar.
            return VisibilityPairs(
                scores.reshape(-1), visible.reshape(-1), num_pairs.reshape(-1, self.num_channels)
            )

        return computed
