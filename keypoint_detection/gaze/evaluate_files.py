"""The files of an evaluation of gaze: `predictions.json`, `per_person.csv` and `metrics.json`."""

import csv
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.files import atomic_write, write_json, write_text
from keypoint_detection.fold_scores import Resampling
from keypoint_detection.gaze.evaluate import PeopleJudged
from keypoint_detection.gaze.evaluate_scores import Columns, person_scores, scores_with_intervals
from keypoint_detection.gaze.gaze_baselines import (
    CENTRE_BIAS,
    CHANCE,
    CentreBias,
    centre_bias_of,
    centre_scores,
    chance_scores,
)
from keypoint_detection.gaze.gaze_prediction import GazePrediction
from keypoint_detection.gaze.people import INSIDE, OUTSIDE, UNKNOWN, GazeTable
from keypoint_detection.gaze.people_file import write_table
from keypoint_detection.metric_contract import with_hash

METRICS_FILE, PREDICTIONS_FILE, PEOPLE_FILE = "metrics.json", "predictions.json", "per_person.csv"
TABLE_FILE = "people.json"
"""The people that were judged, as `people.read_table` takes them."""

IN_FRAME_WORDS = {INSIDE: "inside", OUTSIDE: "outside", UNKNOWN: "unknown"}
DEFINITIONS = {
    "point": "highest peak of the mean of the maps",
    "auc": "of the mean map resized to the picture (bilinear), pixels of annotators against all others",
    "min_distance": "to the nearest annotator, in shares of width and height",
    "avg_distance": "to the mean point of the annotators, in shares of width and height",
    "min_angle_deg": "at the eye, least over the annotators, in pixels of the picture",
    "avg_angle_deg": "at the eye, to the mean point of the annotators",
    "in_out_ap": "average precision of looking into the picture, of people of whom it is known",
    "best_mode_distance": "least distance of any candidate target to any annotator",
    "sample_distance": "mean over the maps of the distance of their peaks to the nearest annotator",
    "sample_spread": "root mean squared distance of the peaks of the maps to their mean",
    "counted": "people inside with an annotator, each once; in_out_ap: all whose in/out is known",
}


def people_hash(table: GazeTable) -> str:
    """Return hex digits that are equal for the same people and truth, in any order."""
    digest = hashlib.sha256()
    size = table.person_hw
    for row in sorted(range(len(table)), key=table.person.__getitem__):
        head = [table.person[row], table.image_names[table.image[row]], table.group[row]]
        gaze = table.gaze_xy[row][np.isfinite(table.gaze_xy[row]).all(-1)]
        numbers = (size[row], table.head_box[row], table.eye_xy[row], [table.in_frame[row]], gaze.ravel())
        digest.update(json.dumps(head).encode("utf-8"))
        digest.update(np.concatenate(numbers).astype("<f8").tobytes())
    return digest.hexdigest()[:12]


def evaluation_contract(table: GazeTable) -> dict[str, Any]:
    """Return every definition that the numbers depend on, with a short hash of it."""
    found = {f"n_{word}": int((table.in_frame == kind).sum()) for kind, word in IN_FRAME_WORDS.items()}
    numbers = {"n_people": len(table), "n_images": len(np.unique(table.image)), **found}
    return with_hash({"people": people_hash(table), **numbers, **DEFINITIONS})


def write_evaluation(
    folder: str | Path,
    table: GazeTable,
    judged: PeopleJudged,
    *,
    resampling: Resampling | None = None,
    by_group: bool = False,
    training: GazeTable | None = None,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write `people.json`, `predictions.json`, `per_person.csv` and, last, `metrics.json`, each atomically.

    Args:
        folder: Where to; made if need be.
        table: The people.
        judged: What was said of them.
        resampling: How the intervals are made.
        by_group: A resample draws groups (clips, or images) instead of people.
        training: People that the follower was trained on, for the baseline that always says their mean.
        about: Plain values that are written beside the numbers, such as the checkpoint.

    Returns:
        The content of `metrics.json`.

    Raises:
        ValueError: There is nobody, or not one prediction for each.
    """
    folder, made = Path(folder), resampling or Resampling()
    if not len(table) or len(judged.predictions) != len(table):
        raise ValueError(
            f"{folder}: expected predictions of at least one person, one for each, got"
            f" {len(judged.predictions)} for {len(table)}"
        )
    bias = centre_bias_of(training)
    scores = person_scores(table, judged)
    who_says_the_same = np.zeros(len(table))
    columns = {CENTRE_BIAS: centre_scores(table, bias), CHANCE: chance_scores(table)}
    content = {
        "contract": evaluation_contract(table),
        "metrics": scores_with_intervals(table, scores, judged.p_in, made, by_group=by_group),
        "baselines": {
            name: scores_with_intervals(table, numbers, who_says_the_same, made, by_group=by_group)
            for name, numbers in columns.items()
        },
        "centre_bias": _bias_content(bias, training),
        "intervals": _intervals_content(table, made, by_group),
        "samples": judged.samples,
        "about": dict(about or {}),
    }
    write_table(folder / TABLE_FILE, table)
    _write_predictions(folder / PREDICTIONS_FILE, table, judged)
    _write_people(folder / PEOPLE_FILE, table, judged, scores)
    write_json(folder / METRICS_FILE, content)
    return content


def _bias_content(bias: CentreBias, training: GazeTable | None) -> dict[str, Any]:
    source = "the middle of the picture" if training is None else "the people that were trained on"
    return {"from": source, "mean": list(bias.mean), "std": list(bias.std)}


def _intervals_content(table: GazeTable, made: Resampling, by_group: bool) -> dict[str, Any]:
    return {
        "unit": "group" if by_group else "person",
        "units": len(set(table.group)) if by_group else len(table),
        "resamples": made.n_resamples,
        "level": made.level,
        "method": made.method,
        "seed": made.seed,
    }


def _write_predictions(path: Path, table: GazeTable, judged: PeopleJudged) -> None:
    """Write an object per person, one a line; points in pixels of the picture, with all digits."""
    lines = [
        json.dumps({"person": name, "image": image, **prediction_content(one)}, allow_nan=False)
        for name, image, one in zip(table.person, _images(table), judged.predictions, strict=True)
    ]
    head = f'{{\n"samples": {judged.samples},\n"people": [\n'
    write_text(path, head + ",\n".join(lines) + "\n]\n}\n")


def prediction_content(one: GazePrediction) -> dict[str, Any]:
    """Return a prediction as JSON has it; the map is left out."""
    modes = zip(one.modes_xy.tolist(), one.weights.tolist(), one.mode_std_px.tolist(), strict=True)
    return {
        "point": one.point_xy.tolist(),
        "p_in": one.p_in,
        "modes": [{"point": point, "weight": weight, "std_px": std} for point, weight, std in modes],
        "spread": one.spread,
        "samples": one.samples_xy.tolist(),
    }


def _images(table: GazeTable) -> list[str]:
    return [table.image_names[index] for index in table.image.tolist()]


def _write_people(path: Path, table: GazeTable, judged: PeopleJudged, scores: Columns) -> None:
    """Write a row per person; a number that does not count is empty, modes are `x y weight std_px; ...`."""
    heads = ["person", "image", "group", "in_frame", "annotators", "p_in", "x", "y", "modes"]
    images, annotators = _images(table), table.n_annotators.tolist()
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*heads, *scores])
        for row, one in enumerate(judged.predictions):
            modes = np.column_stack([one.modes_xy, one.weights, one.mode_std_px])
            shown = "; ".join(" ".join(f"{value:.6g}" for value in mode) for mode in modes)
            truth = (IN_FRAME_WORDS[int(table.in_frame[row])], annotators[row])
            place = (table.person[row], images[row], table.group[row], *truth)
            numbers = ["" if math.isnan(column[row]) else float(column[row]) for column in scores.values()]
            writer.writerow([*place, one.p_in, *one.point_xy.tolist(), shown, *numbers])
