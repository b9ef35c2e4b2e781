"""Angle between the predicted and the annotated direction of a gaze, in the plane of the picture."""

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
)

COLUMNS = ("min_angle_deg", "average_angle_deg")

NO_DIRECTION_DEG = 180.0
"""What a prediction on the eye itself counts as: it has no direction, and nobody may gain by that."""


@torch.no_grad()
def gaze_angles(prediction: Tensor, gaze: Tensor, eye: Tensor, in_frame: Tensor) -> Tensor:
    """Return each person's least angle to an annotator and the angle to the mean point of all annotators.

    It is the angle at the eye between the annotated and the predicted point, in pixels, which are square;
    relative coordinates would bend the angles of every picture that is not. An annotator on the eye has no
    direction and is left out; so is a mean point on the eye. A prediction on the eye counts as 180 degrees.

    Args:
        prediction: `[n, 2]`, `(x, y)` in pixels of the picture; finite for everybody that counts.
        gaze: `[n, a, 2]`, likewise, NaN padded.
        eye: `[n, 2]`, likewise; who has no eye does not count.
        in_frame: `[n]`, 1 inside; others do not count.

    Returns:
        float64 `[n, 2]` degrees in [0, 180]; NaN for people that do not count.

    Raises:
        ValueError: A shape is none of these, or a point is missing.

    Example:
        >>> gaze = torch.tensor([[[10.0, 0.0], [0.0, 10.0]]])
        >>> gaze_angles(torch.tensor([[7.0, 0.0]]), gaze, torch.zeros(1, 2), torch.ones(1)).tolist()
        [[0.0, 45.0]]
    """
    check_people(gaze, in_frame, prediction=(prediction, (2,)), eye=(eye, (2,)))
    counted = counted_people(gaze, in_frame) & eye.isfinite().all(1)
    check_predictions(prediction, counted)
    predicted = (prediction.double() - eye.double())[:, None]
    truth = torch.cat([gaze.double(), mean_annotator(gaze)[:, None]], dim=1) - eye.double()[:, None]
    angle = angle_between_deg(truth, predicted)
    angle = torch.where((predicted == 0).all(2), NO_DIRECTION_DEG, angle)
    angle = torch.where((truth != 0).any(2) & truth.isfinite().all(2), angle, torch.nan)
    least = angle[:, :-1].nan_to_num(torch.inf).amin(1)
    both = torch.stack([least.masked_fill(least.isinf(), torch.nan), angle[:, -1]], dim=1)
    return both.masked_fill(~counted[:, None], torch.nan)


def angle_between_deg(one: Tensor, other: Tensor) -> Tensor:
    """Return the angle between vectors `[..., 2]`, `[...]` in [0, 180] degrees, exact for small ones too."""
    across = one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
    return torch.atan2(across.abs(), (one * other).sum(-1)).rad2deg()


class GazeAngle(Metric):
    """Mean over the people inside of the least angle and the angle to the mean point; see `gaze_angles`.

    Example:
        >>> metric = GazeAngle()
        >>> gaze, eye = torch.tensor([[[10.0, 0.0]]]), torch.zeros(1, 2)
        >>> metric.update(torch.tensor([[0.0, 3.0]]), gaze, eye, torch.ones(1), torch.tensor([4]))
        >>> metric.compute()["min_angle_deg"].item()
        90.0
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    angles: list[Tensor] | Tensor
    angle_person: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("angles", [], dist_reduce_fx="cat")
        self.add_state("angle_person", [], dist_reduce_fx="cat")

    def update(self, prediction: Tensor, gaze: Tensor, eye: Tensor, in_frame: Tensor, person: Tensor) -> None:
        """Add a batch; `person` int64 `[n]` are rows of the table, the others as `gaze_angles`."""
        add_people(self, {"angles": gaze_angles(prediction, gaze, eye, in_frame)}, "angle_person", person)

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
        """Return the mean of each of `COLUMNS`, NaN without anybody, and `"angle_people"`, their number."""
        scores = self._scores()
        means = dict(zip(COLUMNS, scores.statistic().value(), strict=True))
        return {**means, "angle_people": int((~scores.values[:, 0].isnan()).sum())}

    def scores(self) -> PersonScores:
        """Return the angles of each person of all processes; every process must call it."""
        with self.sync_context():
            return self._scores()

    def _scores(self) -> PersonScores:
        return PersonScores(COLUMNS, *gathered_people(self, self._nothing()))

    def _nothing(self) -> dict[str, Tensor]:
        none = torch.zeros(0, len(COLUMNS), dtype=torch.float64)
        return {"angles": none, "angle_person": none[:, 0].long()}
