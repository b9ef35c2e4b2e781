"""What all gaze metrics share: who counts, and numbers of people that are gathered, ordered and resampled."""

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.image_statistics import RatioStatistic


class PersonScores(NamedTuple):
    """Hold s numbers of each of p people, each person once, by rising id, on the CPU.

    Attributes:
        columns: Names of the s numbers.
        values: float64 `[p, s]`; NaN where the person does not count.
        person: int64 `[p]`, ids.
    """

    columns: tuple[str, ...]
    values: Tensor
    person: Tensor

    def statistic(self) -> RatioStatistic:
        """Return the means over the people that count, for any weighting of all p people."""
        counted = ~self.values.isnan()
        return RatioStatistic(self.columns, self.values.nan_to_num(0.0), counted.double())


def counted_people(gaze: Tensor, in_frame: Tensor) -> Tensor:
    """Return who counts for metrics of points: inside, and with an annotator; bool `[n]`.

    Args:
        gaze: `[n, a, 2]`, `(x, y)`; an annotator with NaN is absent.
        in_frame: `[n]`, 1 inside, 0 outside; -1 or NaN unknown.
    """
    return (in_frame == 1) & present_annotators(gaze).any(1)


def present_annotators(gaze: Tensor) -> Tensor:
    """Return which annotators are there, bool `[n, a]`."""
    return gaze.isfinite().all(2)


def mean_annotator(gaze: Tensor) -> Tensor:
    """Return the mean point of each person's annotators, float64 `[n, 2]`; NaN without any."""
    there = present_annotators(gaze)
    total = torch.where(there[..., None], gaze.double(), 0.0).sum(1)
    return total / there.sum(1, keepdim=True)


def check_people(gaze: Tensor, in_frame: Tensor, **others: tuple[Tensor, tuple[int, ...]]) -> None:
    """Raise a ValueError unless all tensors belong to the same n people.

    Args:
        gaze: `[n, a, 2]`.
        in_frame: `[n]`.
        others: By name a tensor and its shape behind the first axis.
    """
    if gaze.ndim != 3 or gaze.shape[2] != 2 or in_frame.shape != gaze.shape[:1]:
        raise ValueError(
            f"expected gaze [n, a, 2] and in_frame [n], got {list(gaze.shape)} and {list(in_frame.shape)}"
        )
    for name, (tensor, shape) in others.items():
        if tensor.shape != (len(gaze), *shape):
            raise ValueError(f"expected {name} {[len(gaze), *shape]}, got {list(tensor.shape)}")


def check_predictions(prediction: Tensor, counted: Tensor) -> None:
    """Raise a ValueError that names a person who counts and has no predicted point."""
    wrong = (~prediction.isfinite().all(1) & counted).nonzero()
    if len(wrong):
        raise ValueError(
            f"expected a predicted point for everybody inside, got NaN or infinity for person {int(wrong[0])}"
            f" of the batch ({len(wrong)} in all); the weights of the network may be broken"
        )


def add_people(metric: Metric, parts: dict[str, Tensor], ids: str, person: Tensor) -> None:
    """Append numbers of people to the list states of a metric.

    Args:
        metric: Its states are lists.
        parts: By the name of the state, `[n, ...]`.
        ids: Name of the state that holds the ids.
        person: int64 `[n]`, ids: the rows of the table.
    """
    one, *_ = parts.values()
    if person.shape != one.shape[:1] or person.is_floating_point():
        raise ValueError(
            f"expected an integer id for each of {len(one)} people, got {person.dtype} {list(person.shape)}"
        )
    for name, part in {**parts, ids: person.long().to(one.device)}.items():
        getattr(metric, name).append(part)


def gathered_people(metric: Metric, nothing: dict[str, Tensor]) -> list[Tensor]:
    """Return the states of a metric on the CPU, each person once, by rising id; the ids come last.

    A person who comes again, as where shares are filled up to one length, counts as first seen.

    Args:
        metric: Inside of `sync_context`, for the people of all processes.
        nothing: A tensor of 0 rows by the name of each state.
    """
    parts = []
    for name, empty in nothing.items():
        state = getattr(metric, name)
        listed = state if isinstance(state, list) else [state]
        parts.append(torch.cat([empty.to(metric.device), *listed]).cpu())
    order = parts[-1].argsort(stable=True)
    ids = parts[-1][order]
    first = torch.ones(len(ids), dtype=torch.bool)
    first[1:] = ids.diff() != 0
    return [part[order][first] for part in parts]
