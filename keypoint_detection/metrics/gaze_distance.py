"""Relative distance of predicted gaze points to the annotators."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.gaze_people import (
    PersonScores,
    add_people,
    check_people,
    check_predictions,
    counted_people,
    gathered_people,
    mean_annotator,
    present_annotators,
)

COLUMNS = ("min_distance", "average_distance")


@torch.no_grad()
def gaze_distances(prediction: Tensor, gaze: Tensor, image_hw: Tensor, in_frame: Tensor) -> Tensor:
    """Return each person's distance to the nearest annotator and to the mean point of all annotators.

    Distances are relative: `sqrt((dx / width)^2 + (dy / height)^2)`.

    Args:
        prediction: `[n, 2]`, `(x, y)` in pixels of the picture; finite for everybody that counts.
        gaze: `[n, a, 2]`, likewise, NaN padded.
        image_hw: `[n, 2]`, height and width of the pictures.
        in_frame: `[n]`, 1 inside; others do not count.

    Returns:
        float64 `[n, 2]`, the minimum and the average one; NaN for people that do not count.

    Raises:
        ValueError: A shape is none of these, or a point is missing.

    Source: the measures are GazeFollow's (Recasens et al., 2015).

    Example:
        >>> gaze, size = torch.tensor([[[50.0, 20.0], [90.0, 20.0]]]), torch.tensor([[80, 200]])
        >>> gaze_distances(torch.tensor([[50.0, 20.0]]), gaze, size, torch.ones(1)).tolist()
        [[0.0, 0.1]]
    """
    check_people(gaze, in_frame, prediction=(prediction, (2,)), image_hw=(image_hw, (2,)))
    counted = counted_people(gaze, in_frame)
    check_predictions(prediction, counted)
    size, point = image_hw.flip(1).double(), prediction.double()
    each = ((point[:, None] - gaze.double()) / size[:, None]).square().sum(2).sqrt()
    nearest = torch.where(present_annotators(gaze), each, torch.inf).amin(1)
    average = ((point - mean_annotator(gaze)) / size).square().sum(1).sqrt()
    return torch.stack([nearest, average], dim=1).masked_fill(~counted[:, None], torch.nan)


class GazeDistance(Metric):
    """Mean over the people inside of the minimum and the average distance; see `gaze_distances`.

    Example:
        >>> metric = GazeDistance()
        >>> gaze, size = torch.tensor([[[50.0, 20.0]]]), torch.tensor([[80, 200]])
        >>> metric.update(torch.tensor([[50.0, 60.0]]), gaze, size, torch.ones(1), torch.tensor([4]))
        >>> metric.compute()["min_distance"].item()
        0.5
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    distances: list[Tensor] | Tensor
    distance_person: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("distances", [], dist_reduce_fx="cat")
        self.add_state("distance_person", [], dist_reduce_fx="cat")

    def update(
        self, prediction: Tensor, gaze: Tensor, image_hw: Tensor, in_frame: Tensor, person: Tensor
    ) -> None:
        """Add a batch; `person` int64 `[n]` are rows of the table, the others as `gaze_distances`."""
        add_people(
            self,
            {"distances": gaze_distances(prediction, gaze, image_hw, in_frame)},
            "distance_person",
            person,
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
        """Return the mean of each of `COLUMNS`, NaN without anybody, and `"distance_people"`."""
        scores = self._scores()
        means = dict(zip(COLUMNS, scores.statistic().value(), strict=True))
        return {**means, "distance_people": int((~scores.values[:, 0].isnan()).sum())}

    def scores(self) -> PersonScores:
        """Return the distances of each person of all processes; every process must call it."""
        with self.sync_context():
            return self._scores()

    def _scores(self) -> PersonScores:
        return PersonScores(COLUMNS, *gathered_people(self, self._nothing()))

    def _nothing(self) -> dict[str, Tensor]:
        none = torch.zeros(0, len(COLUMNS), dtype=torch.float64)
        return {"distances": none, "distance_person": none[:, 0].long()}
