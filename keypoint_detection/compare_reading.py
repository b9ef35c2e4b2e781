"""Read an evaluation for a comparison: its numbers, the definitions of them and the scores of its images."""

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keypoint_detection.metric_contract import HASH, with_hash
from keypoint_detection.metrics.visibility_statistics import NAMES
from keypoint_detection.score_sheet import ScoreSheet, load_score_sheet

logger = logging.getLogger("keypoint_detection")

METRICS_FILE, MATCHES_FILE = "metrics.json", "matches.npz"
SCORE_AGAIN = "score the run again with keypoint-detection eval"

TOLD_VISIBILITY = "visibility_scores"
"""Field of the contract of a run that tells occluded keypoints from visible ones."""

TOLERANCE = 1e-9
"""Relative; a number of `metrics.json` and the same one computed again differ by rounding only."""


@dataclass(frozen=True)
class Evaluation:
    """Hold what a comparison needs of one evaluation.

    Attributes:
        name: The path that was asked for.
        contract: The definitions of the numbers.
        sheet: The scores of the images, in rising order of their ids.
    """

    name: str
    contract: Mapping[str, Any]
    sheet: ScoreSheet


def read_evaluation(path: str | Path) -> Evaluation:
    """Read the files of an evaluation; see `compare_runs` for the path.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is broken, or the two do not belong together; one line.
    """
    folder = _evaluation_folder(Path(path))
    sheet = load_score_sheet(folder / MATCHES_FILE).in_order_of_ids()
    file = folder / METRICS_FILE
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        contract, values = report["contract"], {k: v["value"] for k, v in report["metrics"].items()}
        if not isinstance(contract[HASH], str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ValueError(
            f"{file}: expected metrics and the contract that defines them, got neither; {SCORE_AGAIN}"
        ) from None
    check_belongs(folder, values, sheet.values())
    return Evaluation(str(path), contract, sheet)


def _evaluation_folder(path: Path) -> Path:
    if path.name == METRICS_FILE and path.is_file():
        return path.parent
    for folder in (path, path / "eval"):
        if (folder / METRICS_FILE).is_file():
            return folder
    raise FileNotFoundError(
        f"{path}: expected a folder with {METRICS_FILE} and {MATCHES_FILE}, or a run folder with eval/ in it,"
        f" found no {METRICS_FILE}; make it with keypoint-detection eval"
    )


def check_belongs(folder: Path, written: Mapping[str, Any], computed: Mapping[str, float]) -> None:
    """Refuse a `metrics.json` whose numbers are not those of the `matches.npz` beside it.

    Args:
        folder: Where both are.
        written: Numbers of the one by name, None where undefined.
        computed: Numbers of the other.

    Raises:
        ValueError: They differ; one line.
    """
    for name, value in written.items():
        again = computed.get(name, math.nan)
        number = math.nan if value is None else value
        if math.isnan(number) and math.isnan(again):
            continue
        if not math.isclose(number, again, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
            raise ValueError(
                f"{folder}: {METRICS_FILE} and {MATCHES_FILE} are of two evaluations: {name} is {number:g} in"
                f" one and {again:g} in the other; {SCORE_AGAIN}"
            )


def on_common_ground(a: Evaluation, b: Evaluation) -> tuple[Evaluation, Evaluation]:
    """Leave out what is told of visibility where only one run tells it; all other numbers mean the same."""
    if tells_visibility(a) == tells_visibility(b):
        return a, b
    return _without_told_visibility(a), _without_told_visibility(b)


def say_what_is_left_out(*runs: tuple[str, bool]) -> None:
    """Log which numbers are not compared, given for both runs their name and whether they tell visibility."""
    tellers = [name for name, tells in runs if tells]
    if len(tellers) == 1:
        logger.info("only %s tells occluded keypoints: %s are not compared", tellers[0], " and ".join(NAMES))


def tells_visibility(one: Evaluation) -> bool:
    """Return whether a run tells occluded keypoints from visible ones."""
    return TOLD_VISIBILITY in one.contract


def _without_told_visibility(one: Evaluation) -> Evaluation:
    if not tells_visibility(one):
        return one
    contract = with_hash({name: value for name, value in one.contract.items() if name != TOLD_VISIBILITY})
    kept = tuple(statistic for statistic in one.sheet.statistics if NAMES[0] not in statistic.columns)
    return replace(one, contract=contract, sheet=replace(one.sheet, statistics=kept))


def check_same_images(a: Evaluation, b: Evaluation) -> None:
    """Refuse two evaluations of other images with a ValueError."""
    ids_a, ids_b = set(a.sheet.image_ids.tolist()), set(b.sheet.image_ids.tolist())
    if ids_a != ids_b:
        raise ValueError(
            f"{len(ids_a - ids_b)} images are only in {a.name} and {len(ids_b - ids_a)} only in {b.name};"
            " compare needs two runs that are scored on the same images"
        )


def check_same_numbers(a: Evaluation, b: Evaluation) -> None:
    """Refuse two evaluations with other groups of images or other metrics with a ValueError."""
    if a.sheet.groups != b.sheet.groups:
        raise ValueError(
            f"{a.name} {_grouping(a.sheet)} and {b.name} {_grouping(b.sheet)}; score both with the same"
            " --group_by of keypoint-detection eval"
        )
    apart = sorted(set(a.sheet.columns) ^ set(b.sheet.columns))
    if apart:
        owner = a.name if apart[0] in a.sheet.columns else b.name
        raise ValueError(
            f"{len(apart)} metrics are in one run only, such as {apart[0]} in {owner}; score both with the"
            " same version of keypoint-detection eval"
        )


def _grouping(sheet: ScoreSheet) -> str:
    if sheet.groups is None:
        return "has no groups of images"
    return f"has {len(set(sheet.groups))} groups such as {sheet.groups[0]!r}"
