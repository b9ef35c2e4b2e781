"""Average precision of telling who looks at something inside of the picture."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.gaze_people import add_people, gathered_people

INSIDE, OUTSIDE, UNKNOWN = 1, 0, -1


@dataclass(frozen=True)
class InFrameStatistic:
    """Give the average precision for any weighting of p people; an `ImageStatistic`.

    It is `sum_k (recall_k - recall_{k-1}) precision_k` over the distinct logits from high to low, inside
    being positive: people with equal logits enter together. It is NaN unless both classes have weight.

    Attributes:
        logits: float64 `[p]`.
        label: int8 `[p]`, 1 inside, 0 outside, -1 unknown, who does not count.

    Source: as scikit-learn's `average_precision_score`.

    Example:
        >>> label = torch.tensor([1, 0, 1, -1], dtype=torch.int8)
        >>> statistic = InFrameStatistic(torch.tensor([3.0, 2.0, 1.0, 9.0]).double(), label)
        >>> round(statistic.value().item(), 6), statistic(torch.tensor([[1, 0, 1, 1]])).tolist()
        (0.833333, [[nan]])
    """

    logits: Tensor
    label: Tensor

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the name of the number."""
        return ("in_out_ap",)

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the number for weights int64 `[b, p]`, float64 `[b, 1]`."""
        order, ends = self._order
        counts = weights[:, order].double()
        right = (counts * (self.label[order] == INSIDE)).cumsum(1)[:, ends]  # whole numbers: exact
        told = counts.cumsum(1)[:, ends]
        step = right.diff(dim=1, prepend=torch.zeros(len(weights), 1, dtype=torch.float64))
        area = (step * right / told.clamp(min=1)).sum(1)
        inside = step.sum(1)
        outside = told.amax(1) - inside if len(ends) else inside
        defined = (inside > 0) & (outside > 0)
        return torch.where(defined, area / inside, torch.nan)[:, None]

    def value(self) -> Tensor:
        """Return the number with everybody counted once, float64 `[1]`: the same bits in any order."""
        return self(torch.ones(1, len(self.label), dtype=torch.int64))[0]

    @cached_property
    def _order(self) -> tuple[Tensor, Tensor]:
        """Return the people that count from the highest logit on, and the last places of equal logits."""
        known = (self.label != UNKNOWN).nonzero()[:, 0]
        order = known[self.logits[known].argsort(descending=True, stable=True)]
        falls = self.logits[order].diff() != 0
        return order, torch.cat([falls, falls.new_ones(min(len(order), 1))]).nonzero()[:, 0]


@torch.no_grad()
def in_frame_average_precision(logits: Tensor, in_frame: Tensor) -> Tensor:
    """Return the average precision of logits, a float64 scalar; see `InFrameStatistic`.

    Args:
        logits: `[n]`, higher says inside; finite where the truth is known.
        in_frame: `[n]`, 1 inside, 0 outside; -1 or NaN unknown.

    Returns:
        In [0, 1]; NaN where not both classes occur: print `why_undefined` then.

    Raises:
        ValueError: The shapes differ, a logit is not finite or a label none of these.

    Example:
        >>> in_frame_average_precision(torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])).item()
        1.0
    """
    label = in_frame_labels(logits, in_frame)
    return InFrameStatistic(logits.double().cpu(), label.cpu()).value()[0]


def in_frame_labels(logits: Tensor, in_frame: Tensor) -> Tensor:
    """Return the labels as int8 `[n]`: 1 inside, 0 outside, -1 unknown.

    Raises:
        ValueError: As `in_frame_average_precision`.
    """
    if logits.ndim != 1 or in_frame.shape != logits.shape:
        raise ValueError(
            f"expected logits [n] and in_frame [n], got {list(logits.shape)} and {list(in_frame.shape)}"
        )
    label = in_frame.double().nan_to_num(UNKNOWN)
    if not bool(((label == INSIDE) | (label == OUTSIDE) | (label == UNKNOWN)).all()):
        raise ValueError(
            "expected in_frame 1 (inside), 0 (outside), -1 or NaN (unknown), got"
            f" {label.unique().tolist()[:5]}"
        )
    if not bool((logits.isfinite() | (label == UNKNOWN).to(logits.device)).all()):
        raise ValueError(
            "expected finite logits for everybody whose gaze is known to be inside or outside, got NaN or"
            " infinity; the weights of the network are broken: take another checkpoint"
        )
    return label.to(torch.int8)


def why_undefined(n_inside: int, n_outside: int) -> str | None:
    """Return why there is no average precision, in one line to print; None where there is one.

    Example:
        >>> why_undefined(4782, 0)
        'in/out AP needs people who look inside and outside of the picture, got 4782 inside and 0 outside'
    """
    if n_inside and n_outside:
        return None
    return (
        "in/out AP needs people who look inside and outside of the picture, "
        f"got {n_inside} inside and {n_outside} outside"
    )


class GazeInFrame(Metric):
    """Average precision of the in/out logits of all people; see `InFrameStatistic`.

    Example:
        >>> metric = GazeInFrame()
        >>> metric.update(torch.tensor([2.0, 1.0]), torch.tensor([1.0, 1.0]), torch.tensor([0, 1]))
        >>> metric.compute()
        {'in_out_ap': tensor(nan, dtype=torch.float64), 'inside': 2, 'outside': 0}
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    in_out_logits: list[Tensor] | Tensor
    in_out_label: list[Tensor] | Tensor
    in_out_person: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in self._nothing():
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, logits: Tensor, in_frame: Tensor, person: Tensor) -> None:
        """Add a batch; `person` int64 `[n]` are rows of the table, see `in_frame_average_precision`."""
        label = in_frame_labels(logits, in_frame).to(logits.device)
        add_people(
            self, {"in_out_logits": logits.detach().double(), "in_out_label": label}, "in_out_person", person
        )

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
        """Return `"in_out_ap"`, and `"inside"` and `"outside"`, the counts that `why_undefined` takes."""
        statistic, _ = self._statistic()
        inside, outside = (int((statistic.label == kind).sum()) for kind in (INSIDE, OUTSIDE))
        return {"in_out_ap": statistic.value()[0], "inside": inside, "outside": outside}

    def statistic(self) -> tuple[InFrameStatistic, Tensor]:
        """Return the statistic of all processes' people and their ids `[p]`; every process must call it."""
        with self.sync_context():
            return self._statistic()

    def _statistic(self) -> tuple[InFrameStatistic, Tensor]:
        logits, label, person = gathered_people(self, self._nothing())
        return InFrameStatistic(logits, label), person

    def _nothing(self) -> dict[str, Tensor]:
        none = torch.zeros(0, dtype=torch.float64)
        return {"in_out_logits": none, "in_out_label": none.to(torch.int8), "in_out_person": none.long()}
