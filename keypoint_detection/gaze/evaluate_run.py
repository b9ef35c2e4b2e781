"""The whole evaluation of a follower on people: numbers, predictions and the page."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.gaze.evaluate import BATCH_SIZE, dataset_for, evaluate_people
from keypoint_detection.gaze.evaluate_files import evaluation_contract, write_evaluation
from keypoint_detection.gaze.evaluate_table import scores_text
from keypoint_detection.gaze.gaze_prediction import SAMPLES
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.people_data import GazePart
from keypoint_detection.gaze.report import write_report
from keypoint_detection.gaze.samples import GazeDataset
from keypoint_detection.metric_contract import check_same

if TYPE_CHECKING:
    from keypoint_detection.gaze.follower import GazeFollower

__all__ = ["evaluate_to_folder", "scores_text"]


def evaluate_to_folder(  # noqa: PLR0913  every choice of an evaluation has a default
    follower: "GazeFollower",
    part: GazePart | GazeDataset,
    folder: str | Path,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    num_workers: int | None = None,
    about: Mapping[str, Any] | None = None,
    resampling: Resampling | None = None,
    by_group: bool = False,
    training: GazeTable | None = None,
    others: Mapping[str, Mapping[str, Any]] | None = None,
    has_page: bool = True,
) -> dict[str, Any]:
    """Judge people and write `metrics.json`, `per_person.csv`, `predictions.json`, `report.html`.

    Args:
        follower: On any device; its mode stays as it is.
        part: The people and their pictures, or samples of them that nothing is changed of.
        folder: Where to; made if need be.
        samples: Maps of each person; a direct decoder has one.
        seed: Of the noise.
        batch_size: People at once.
        num_workers: Loader processes; None chooses.
        about: Plain values that are written beside the numbers; None among them is left out.
        resampling: How the intervals are made.
        by_group: A resample draws groups (clips, or images) instead of people.
        training: People that the follower was trained on: centre bias then says where they look on average.
        others: Contents of `metrics.json` of other followers on the same people, for the table of the page.
        has_page: Also write the page.

    Returns:
        The content of `metrics.json`; `scores_text` makes a table of it.

    Raises:
        FileNotFoundError: A picture or a depth map is missing.
        OSError: The folder cannot be made.
        ValueError: There is nobody, sizes or depth do not fit the follower, or others are of other people.
    """
    told = {"decoder": follower.hparams["decoder"], "seed": seed, "batch_size": batch_size, **(about or {})}
    dataset = dataset_for(follower, part)
    for name, other in (others or {}).items():  # before the time is spent
        check_same(evaluation_contract(dataset.table), other["contract"], str(told["decoder"]), name)
    Path(folder).mkdir(parents=True, exist_ok=True)  # likewise: one that cannot be written
    judged = evaluate_people(
        follower, dataset, samples=samples, seed=seed, batch_size=batch_size, num_workers=num_workers
    )
    content = write_evaluation(
        folder,
        dataset.table,
        judged,
        resampling=resampling,
        by_group=by_group,
        training=training,
        about={name: value for name, value in told.items() if value is not None},
    )
    if has_page:
        title = f"Gaze: {Path(folder).resolve().parent.name}"
        write_report(folder, images=dataset.root, judged=judged, others=others, title=title)
    return content
