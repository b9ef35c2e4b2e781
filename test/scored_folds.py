"""Score sheets with known numbers, and the files of evaluations and cross-validations that hold them."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from keypoint_detection.fold_scores_record import (
    CrossValidationRecord,
    FoldProgress,
    PlannedFold,
    digest_of_scores,
)
from keypoint_detection.metric_contract import with_hash
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.score_sheet import ScoreSheet, save_score_sheet

CONTRACT = {"thresholds": [2.0], "images": 4}


def error_sheet(
    ids: Sequence[int],
    errors: Sequence[float],
    groups: tuple[str, ...] | None = None,
    **more: Sequence[float],
) -> ScoreSheet:
    """Return the mean error of images, over all channels and for the only one, and means of other names."""
    statistics = []
    for name, values in {"mean_error_px": errors, **more}.items():
        numbers = torch.tensor(values, dtype=torch.float64)[:, None].repeat(1, 2)
        weights = (~numbers.isnan()).double()
        statistics.append(RatioStatistic((name, f"stem/{name}"), numbers.nan_to_num(0.0), weights))
    return ScoreSheet(torch.tensor(ids), groups, tuple(statistics))


def write_evaluation(folder: Path, sheet: ScoreSheet, contract: Mapping[str, Any] = CONTRACT) -> Path:
    """Write what `compare` reads of an evaluation into `<folder>/eval`, and return the folder."""
    save_score_sheet(sheet, folder / "eval" / "matches.npz")
    values = {k: None if math.isnan(v) else v for k, v in sheet.values().items() if "/" not in k}
    report = {"contract": with_hash(contract), "metrics": {k: {"value": v} for k, v in values.items()}}
    (folder / "eval" / "metrics.json").write_text(json.dumps(report))
    return folder


def write_cross_validation(
    folder: Path, sheets: Mapping[str, ScoreSheet], contract: Mapping[str, Any] = CONTRACT
) -> Path:
    """Write a finished cross-validation with these folds, and return its folder."""
    folds, progress = [], {}
    for name, sheet in sheets.items():
        write_evaluation(folder / name, sheet, {**contract, "labels": name})
        folds.append(PlannedFold(name, tuple(sheet.image_ids.tolist()), sheet.groups))
        progress[name] = FoldProgress(trained=True, scored=digest_of_scores(folder / name))
    CrossValidationRecord({"data": {}}, tuple(folds), progress).write(folder)
    return folder
