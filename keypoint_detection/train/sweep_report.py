"""What a training does when a sweep has started it as a trial."""

import json
import os
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from keypoint_detection.callbacks_sweep import TrialReport
from keypoint_detection.train.sweep_plan import Pruning
from keypoint_detection.train.sweep_study import report_score

TRIAL_VARIABLE = "KEYPOINT_DETECTION_TRIAL"
"""Environment variable with the path of a trial's settings, for its training."""


def sweep_callbacks() -> list[pl.Callback]:
    """Return what a training needs when it is a trial: nothing where no sweep has started it."""
    path = os.environ.get(TRIAL_VARIABLE)
    if not path:
        return []
    settings: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    pruning = Pruning(**settings["pruning"]) if settings["pruning"] else None
    sweep = Path(settings["sweep"])

    def report(step: int, score: float) -> bool:
        return report_score(sweep, settings["study_id"], pruning, step, score)

    # A further process of a training on several devices has another parent, and reports nothing.
    parent = settings["parent"] if os.environ.get("LOCAL_RANK", "0") == "0" else None
    return [TrialReport(settings["metric"], report, parent)]
