"""Read an evaluation of gaze back, and check that its files belong together."""

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.gaze.evaluate import PeopleJudged
from keypoint_detection.gaze.evaluate_files import (
    METRICS_FILE,
    PEOPLE_FILE,
    PREDICTIONS_FILE,
    TABLE_FILE,
    people_hash,
)
from keypoint_detection.gaze.evaluate_scores import IN_OUT_AP, SCORES, Columns, person_scores
from keypoint_detection.gaze.gaze_prediction import GazePrediction
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.people_file import read_table
from keypoint_detection.metric_contract import HASH
from keypoint_detection.metrics.gaze_in_frame import in_frame_average_precision

EVALUATE_AGAIN = "evaluate again with keypoint-detection gaze eval"


@dataclass(frozen=True)
class GazeEvaluation:
    """Hold what a follower said of people.

    Attributes:
        name: The folder that was asked for.
        content: Of `metrics.json`.
        table: The people.
        judged: What was said of each, without the maps.
        scores: Numbers of each person by name, float64 `[p]`; NaN for who does not count.
    """

    name: str
    content: Mapping[str, Any]
    table: GazeTable
    judged: PeopleJudged
    scores: Columns


def read_evaluation(folder: str | Path) -> GazeEvaluation:
    """Read the folder of an evaluation, and check that its files belong together.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or they are of two evaluations; one line.
    """
    path = Path(folder)
    for name in (METRICS_FILE, TABLE_FILE, PREDICTIONS_FILE, PEOPLE_FILE):
        if not (path / name).is_file():
            raise FileNotFoundError(_missing(path, name))
    content, table = read_metrics(path), read_table(path / TABLE_FILE)
    predictions = _read_predictions(path / PREDICTIONS_FILE, table)
    scores = _read_people(path / PEOPLE_FILE, table)
    samples = len(predictions[0].samples_xy) if predictions else 0
    found = GazeEvaluation(
        str(folder), content, table, PeopleJudged(predictions, scores["auc"], samples), scores
    )
    _check_together(found)
    return found


def read_metrics(folder: str | Path) -> dict[str, Any]:
    """Return the content of `metrics.json` of an evaluation.

    Raises:
        FileNotFoundError: There is none.
        ValueError: It is something else.
    """
    file = Path(folder) / METRICS_FILE
    if not file.is_file():
        raise FileNotFoundError(_missing(Path(folder), METRICS_FILE))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        contract, metrics = content["contract"], content["metrics"]
        if not isinstance(contract[HASH], str) or not isinstance(contract["people"], str):
            raise TypeError
        _ = [number["value"] for number in metrics.values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: expected the numbers of an evaluation of gaze and the contract that defines them, got"
            f" something else; {EVALUATE_AGAIN}"
        ) from None
    return content


def _missing(folder: Path, name: str) -> str:
    return (
        f"{folder}: expected {name} of an evaluation, found none; make it with keypoint-detection gaze eval"
    )


def _read_predictions(file: Path, table: GazeTable) -> tuple[GazePrediction, ...]:
    """Return the prediction of each person of the table, in its order."""
    try:
        people = json.loads(file.read_text(encoding="utf-8"))["people"]
        found = {person["person"]: _prediction_of(person) for person in people}
        return tuple(found[name] for name in table.person)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file}: expected a prediction of every person of {TABLE_FILE}, got something else"
            f" ({type(error).__name__}: {error}); {EVALUATE_AGAIN}"
        ) from None


def _prediction_of(person: Mapping[str, Any]) -> GazePrediction:
    modes = person["modes"]
    arrays = [
        np.array(values, dtype=np.float64)
        for values in (
            person["point"],
            person["samples"],
            [mode["point"] for mode in modes],
            [mode["weight"] for mode in modes],
            [mode["std_px"] for mode in modes],
        )
    ]
    point, samples, modes_xy, weights, std = arrays
    if point.shape != (2,) or samples.shape[1:] != (2,) or modes_xy.shape != (len(weights), 2):
        raise ValueError(f"points of person {person['person']}")
    return GazePrediction(
        point, float(person["p_in"]), samples, modes_xy, weights, std, float(person["spread"])
    )


def _read_people(file: Path, table: GazeTable) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of each person of the table by name, `[p]`."""
    names = [name for name in SCORES if name != IN_OUT_AP]
    try:
        with file.open(encoding="utf-8-sig", newline="") as rows:
            found = {
                row["person"]: [float(row[name] or "nan") for name in names] for row in csv.DictReader(rows)
            }
        values = np.array([found[name] for name in table.person], dtype=np.float64)
    except (LookupError, ValueError, TypeError) as error:
        raise ValueError(
            f"{file}: expected the numbers of every person of {TABLE_FILE}, got something else"
            f" ({type(error).__name__}: {error}); {EVALUATE_AGAIN}"
        ) from None
    return dict(zip(names, values.T, strict=True))


def _check_together(found: GazeEvaluation) -> None:
    """Raise a ValueError unless the three files and the table are of one evaluation."""
    hashes = found.content["contract"]["people"], people_hash(found.table)
    again = person_scores(found.table, found.judged)
    is_same = hashes[0] == hashes[1] and all(
        np.allclose(again[name], column, rtol=1e-6, atol=1e-9, equal_nan=True)
        for name, column in found.scores.items()
    )
    for name, mean in _means(found).items():
        value = found.content["metrics"].get(name, {}).get("value")
        is_none = value is None and math.isnan(mean)
        is_same &= is_none or (value is not None and math.isclose(value, mean, rel_tol=1e-9, abs_tol=1e-12))
    if not is_same:
        raise ValueError(
            f"{found.name}: {METRICS_FILE}, {PREDICTIONS_FILE}, {PEOPLE_FILE} and {TABLE_FILE} are of two"
            f" evaluations (people {hashes[0]} and {hashes[1]}); {EVALUATE_AGAIN}"
        )


def _means(found: GazeEvaluation) -> dict[str, float]:
    """Return all numbers of `metrics.json` again, NaN where there is none."""
    known = {name: column[~np.isnan(column)] for name, column in found.scores.items()}
    p_in, in_frame = (torch.from_numpy(one) for one in (found.judged.p_in, found.table.in_frame))
    return {
        **{name: float(column.mean()) if len(column) else math.nan for name, column in known.items()},
        IN_OUT_AP: in_frame_average_precision(p_in, in_frame).item(),
    }
