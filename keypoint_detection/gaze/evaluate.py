"""Let a follower say of every person of a table where they look."""

import tempfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Subset

from keypoint_detection.data.datamodule_loaders import make_dataloader
from keypoint_detection.gaze.gaze_prediction import SAMPLES, GazePrediction, person_seed, predict_batch
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.people_data import GazePart
from keypoint_detection.gaze.samples import GazeDataset, collate_gaze
from keypoint_detection.metrics.gaze_auc import gaze_auc

if TYPE_CHECKING:
    from keypoint_detection.gaze.follower import GazeFollower

BATCH_SIZE = 16
"""People at once, unless told otherwise."""


@dataclass(frozen=True)
class PeopleJudged:
    """Hold what a follower says of p people, in the order of their table.

    Attributes:
        predictions: Of each, `p` of them.
        auc: Area under the ROC curve of the mean map at the size of the picture, float64 `[p]`; NaN for
            people who do not look into it, or of whom nobody knows where.
        samples: Maps of each person, s.
    """

    predictions: tuple[GazePrediction, ...]
    auc: NDArray[np.float64]
    samples: int

    @property
    def point_xy(self) -> NDArray[np.float64]:
        """Return the predicted points, `[p, 2]`."""
        return np.array([one.point_xy for one in self.predictions]).reshape(-1, 2)

    @property
    def p_in(self) -> NDArray[np.float64]:
        """Return the probabilities of looking into the picture, `[p]`."""
        return np.array([one.p_in for one in self.predictions], dtype=np.float64)


def evaluate_people(
    follower: "GazeFollower",
    people: GazePart | GazeDataset,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    num_workers: int | None = None,
) -> PeopleJudged:
    """Judge everybody of a table.

    The noise of a person depends on the seed and the person's name alone: who else is in the table, their
    order and the batch size change nothing but the rounding. Maps are reduced batch by batch; their means lie
    in a temporary file, not in memory.

    Args:
        follower: On any device; its mode stays as it is.
        people: The people and their pictures, or samples of them at the follower's sizes.
        samples: Maps of each person, s >= 1; a direct decoder has one.
        seed: Of the noise, >= 0.
        batch_size: People at once, > 0.
        num_workers: Loader processes; None is one per core, 4 at most, and none for a few people.

    Raises:
        FileNotFoundError: A picture or a depth map is missing.
        ValueError: There is nobody, the samples are of other sizes, the follower needs depth maps, a number
            is out of range, or the weights give a map that is not finite.
    """
    if samples < 1 or batch_size < 1:
        raise ValueError(f"expected samples and batch_size >= 1, got {samples} and {batch_size}")
    dataset = dataset_for(follower, people)
    table = dataset.table
    order = sorted(range(len(table)), key=table.person.__getitem__)
    heat = _file_array((len(table), *follower.map_hw))
    predictions: list[Any] = [None] * len(table)
    auc = np.full(len(table), np.nan)
    collate: Any = collate_gaze
    loader = make_dataloader(Subset(dataset, order), batch_size, num_workers=num_workers, collate_fn=collate)
    for batch in loader:
        rows = batch["index"].numpy()
        seeds = tuple(person_seed(seed, table.person[row]) for row in rows.tolist())
        found, mean_maps = predict_batch(follower, batch, samples=samples, seed=seeds)
        auc[rows] = map_auc(table.select(rows), mean_maps)
        for row, one in zip(rows.tolist(), found, strict=True):
            heat[row] = np.asarray(one.heat)
            predictions[row] = replace(one, heat=heat[row])
    _check_finite(predictions, table)
    return PeopleJudged(tuple(predictions), auc, len(predictions[0].samples_xy))


def map_auc(table: GazeTable, maps: torch.Tensor) -> NDArray[np.float64]:
    """Return the area under the ROC curve of maps `[p, h, w]` over the pictures of p people, `[p]`."""
    gaze, in_frame = torch.from_numpy(table.gaze_xy), torch.from_numpy(table.in_frame)
    return gaze_auc(maps, gaze, torch.from_numpy(table.person_hw), in_frame).cpu().numpy()


def dataset_for(follower: "GazeFollower", people: GazePart | GazeDataset) -> GazeDataset:
    """Return the samples of people at the sizes that a follower takes.

    Raises:
        FileNotFoundError: A picture or a depth map is missing.
        ValueError: There is nobody, the samples have other sizes or are changed at random, or the follower
            needs depth maps.
    """
    scene_hw, head_hw = follower.hparams["scene_hw"], follower.hparams["head_hw"]
    if isinstance(people, GazePart):
        people = GazeDataset(
            people.table, people.root, scene_hw=scene_hw, head_hw=head_hw, depth_folder=people.depth_folder
        )
    wanted, given = (tuple(scene_hw), tuple(head_hw)), (tuple(people.scene_hw), tuple(people.head_hw))
    if given != wanted or people.augmentation is not None:
        raise ValueError(
            f"expected scenes and heads of {wanted} that nothing is changed of, got {given} and"
            f" {'an' if people.augmentation else 'no'} augmentation; give the people as a GazePart"
        )
    if not len(people):
        raise ValueError("expected at least one person to evaluate on, got none; check the file")
    if follower.conditioner.depth_branch is not None and "depth" not in people[0]:
        raise ValueError("the follower was trained with depth maps, got people without; give their folder")
    return people


def _file_array(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return zeros in a file that is gone with them."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _check_finite(predictions: list[GazePrediction], table: GazeTable) -> None:
    wrong = [row for row, one in enumerate(predictions) if not np.isfinite(one.p_in)]
    if wrong:
        raise ValueError(
            f"expected probabilities of looking into the picture, got {predictions[wrong[0]].p_in} for person"
            f" {table.person[wrong[0]]} ({len(wrong)} people in all); the weights are broken: take another"
            " checkpoint"
        )
