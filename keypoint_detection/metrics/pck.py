"""Percentage of correct keypoints (PCK): those nearer to their label than a share of a length."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.axes import keep_axes
from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.pck_rule import (
    Normalizer,
    PCKRule,
    box_diagonal,
    box_side,
    head_size,
    image_diagonal,
)

__all__ = [
    "PercentageOfCorrectKeypoints",
    "box_diagonal",
    "box_side",
    "head_size",
    "image_diagonal",
    "percentage_of_correct_keypoints",
]


def percentage_of_correct_keypoints(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    alpha: float | Sequence[float],
    *,
    normalizer: Normalizer = "scale",
    scale: Tensor | None = None,
    visible_only: bool = False,
    ignored: Tensor | None = None,
) -> dict[str, Tensor | int]:
    """Return the share of correct keypoints; for the definition see `PercentageOfCorrectKeypoints`.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        alpha: One or a limits, > 0, in lengths.
        normalizer: What the length is.
        scale: The length in pixels, `[n]` or `[n, c, m]`; not used for "pixels" and a pair of channels.
        visible_only: Ignore targets of another visibility than 2.
        ignored: `[n, c, m]` bool, targets whose pairs and misses do not count; a detection on them disturbs
            nobody.

    Returns:
        `"pck"`, `[a]`, and `"auc"`, a scalar, over everything, `"per_channel"`, `[c, a]`, and
        `"auc_per_channel"`, `[c]`; float64 in [0, 1], NaN where no target has a length. The integers
        `"count"` and `"missed"`, targets with a length that have and have not a detection, together what the
        shares are of, and `"undefined"`, targets without a length, which are left out.

    Raises:
        ValueError: Shapes that do not fit, a score that is NaN, a limit that is not > 0, an unknown
            normaliser, no scale where one is needed, or two labels of one image in a reference channel.

    Example:
        >>> preds = torch.tensor([[[[0.0, 3.0]], [[10.0, 0.0]]]])
        >>> target, visibility = torch.tensor([[[[0.0, 0.0]], [[10.0, 0.0]]]]), torch.full((1, 2, 1), 2)
        >>> scores = torch.ones(1, 2, 1)
        >>> pck = percentage_of_correct_keypoints(
        ...     preds, scores, target, visibility, [0.2, 0.5], normalizer=(0, 1)
        ... )
        >>> pck["pck"].tolist(), pck["per_channel"].tolist()
        ([0.5, 1.0], [[0.0, 1.0], [1.0, 1.0]])
    """
    rule = PCKRule.create(alpha, normalizer, visible_only)
    return rule.summary(rule.table(preds, scores, target, visibility, scale=scale, ignored=ignored))


class PercentageOfCorrectKeypoints(Metric):
    """Share of keypoints whose detection is nearer than alpha lengths: PCK, over everything and per channel.

    The m targets of an image and channel get the m best-scoring detections as partners, by the least total
    distance in pixels (`assign_partners`). A target is correct where `distance < alpha * length`, strictly;
    without a partner it is wrong, and counted in `"missed"`. A target without a length, one that is finite
    and > 0, is left out and counted in `"undefined"`. `"auc"` is the area under PCK as a function of alpha
    from 0 to the greatest alpha, divided by that alpha: exactly the mean of `max(0, 1 - distance / (alpha *
    length))`.

    Args:
        alpha: One or a limits, > 0, in lengths.
        normalizer: What the length is. `"pixels"`: one pixel. `"scale"`: what the updates bring, and by the
            other names what that is: `"head_size"` (PCKh), `"box_diagonal"`, `"box_side"` and
            `"image_diagonal"`, for which there are functions of the same names. A pair of channels: the
            distance between their labelled points in the same image, ignored ones included; undefined where
            one of the two is not labelled.
        visible_only: Ignore targets of another visibility than 2.

    Source: PCK: Yang and Ramanan, "Articulated human detection with flexible mixtures of parts", TPAMI 2013;
    PCKh: Andriluka et al., "2D human pose estimation: new benchmark and state of the art analysis", CVPR
    2014. Several keypoints per channel are ours.

    Example:
        >>> metric = PercentageOfCorrectKeypoints([0.1, 0.2], "box_diagonal")
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> scores, visibility = torch.tensor([[[0.9]]]), torch.tensor([[[2]]])
        >>> length = box_diagonal(torch.tensor([[0.0, 0.0, 30.0, 40.0]]))
        >>> metric.update(preds, scores, target, visibility, length)
        >>> metric.compute()["pck"].tolist(), float(metric.compute()["auc"])
        ([0.0, 1.0], 0.5)
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    definition: Tensor
    table: list[Tensor] | Tensor
    channels: list[Tensor] | Tensor

    def __init__(
        self,
        alpha: float | Sequence[float],
        normalizer: Normalizer = "scale",
        *,
        visible_only: bool = False,
    ) -> None:
        super().__init__()
        self.rule = PCKRule.create(alpha, normalizer, visible_only)
        # A collection lets metrics with equal states share one: counts equal by chance must not join two.
        numbers = torch.tensor(self.rule.numbers(), dtype=torch.float64)
        self.add_state("definition", numbers, dist_reduce_fx="max")
        # Flat, since a process without images does not know the number of channels.
        self.add_state("table", [], dist_reduce_fx="cat")
        self.add_state("channels", [], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        scale: Tensor | None = None,
        *,
        ignored: Tensor | None = None,
    ) -> None:
        """Add a batch; for the arguments see `percentage_of_correct_keypoints`."""
        table = self.rule.table(preds, scores, target, visibility, scale=scale, ignored=ignored)
        for name, part in {"table": table.flatten(), "channels": table.new_tensor([len(table)])}.items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
        fill_empty_states(self, dict.fromkeys(("table", "channels"), self._nothing()))
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor | int]:
        """Return what `percentage_of_correct_keypoints` does, over all batches.

        Raises:
            ValueError: The updates had different numbers of channels.
        """
        table, channels = self._gathered("table"), self._gathered("channels")
        counts = channels.unique().tolist() or [0]
        if len(counts) > 1:
            raise ValueError(f"expected the same number of channels in every update, got {counts}")
        return self.rule.summary(table.reshape(len(channels), counts[0], self.rule.width).sum(0))

    def _gathered(self, name: str) -> Tensor:
        state = getattr(self, name)
        return torch.cat([self._nothing(), *(state if isinstance(state, list) else [state])])

    def _nothing(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64, device=self.device)

    def _wrap_compute(self, compute: Callable) -> Callable[[], dict[str, Any]]:
        axes = {"pck": 1, "per_channel": 2, "auc_per_channel": 1}
        return keep_axes(super()._wrap_compute(compute), axes)
