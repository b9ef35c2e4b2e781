"""What the report page shows, as plain values: numbers, curves, images, configuration and environment."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from keypoint_detection.data.channels import channel_skeleton
from keypoint_detection.evaluation_report import _notes
from keypoint_detection.metric_contract import HASH
from keypoint_detection.report_curves import error_histogram, pck_curves, precision_recall_curves
from keypoint_detection.report_images import image_entries
from keypoint_detection.report_metrics import contract_rows, headline, per_keypoint, plain_text
from keypoint_detection.report_samples import Evaluated
from keypoint_detection.report_training import training_curves
from keypoint_detection.utils.colours import palette

LIBRARIES = ("keypoint-detection", "torch", "pytorch-lightning", "numpy", "opencv-python-headless")

INTERVAL_FIELDS = ("level", "unit", "units", "resamples", "method")

CONFIG_FILE = "config.yaml"


def report_content(evaluated: Evaluated, run_folder: Path | None) -> dict[str, Any]:
    """Return the content of the page but for its pictures; every value is ready for JSON.

    Args:
        evaluated: The evaluation.
        run_folder: Folder of the training; None leaves out its curves and its configuration.
    """
    report, names = evaluated.files.report, evaluated.names
    counted = np.bincount(evaluated.labels.channel, evaluated.pairs.counted, len(names)).astype(int)
    name = run_folder.name if run_folder is not None else evaluated.files.folder.absolute().name
    return {
        "title": f"Evaluation of {name}",
        "subtitle": _subtitle(evaluated, int(counted.sum())),
        "headline": headline(report),
        "intervals": _intervals(report["intervals"]),
        "notes": _notes(report),
        "contract": contract_rows(report["contract"]),
        "hash": report["contract"][HASH],
        "perKeypoint": per_keypoint(report, dict(zip(names, counted.tolist(), strict=True))),
        "charts": {
            "errors": error_histogram(evaluated),
            "pck": pck_curves(evaluated),
            "precisionRecall": precision_recall_curves(evaluated),
            "training": training_curves(run_folder),
        },
        "channels": [
            {"name": channel, "colour": colour}
            for channel, colour in zip(names, palette(len(names)), strict=True)
        ],
        "skeleton": [list(ends) for ends in channel_skeleton(evaluated.channels, evaluated.table.skeleton)],
        "images": image_entries(evaluated),
        "config": _config(run_folder),
        "environment": _environment(report.get("inference", {})),
    }


def _subtitle(evaluated: Evaluated, counted: int) -> str:
    images = len(evaluated.table.image_ids)
    parts = [evaluated.table.json_path.name, f"{images} images"]
    if not evaluated.files.is_whole_image:
        parts.append(f"{len(evaluated.row)} instances")
    if evaluated.files.has_labels:
        parts.append(f"{counted} labelled points")
    return ", ".join(parts)


def _intervals(made: Mapping[str, Any]) -> dict[str, Any]:
    """Return how the intervals were made; nothing where there are none."""
    return {field: made.get(field) for field in INTERVAL_FIELDS} if made.get("resamples") else {}


def _config(run_folder: Path | None) -> str | None:
    path = None if run_folder is None else run_folder / CONFIG_FILE
    if path is None or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def _environment(inference: Mapping[str, Any]) -> list[list[str]]:
    """Return how the model was run, and the versions that this page was written with."""
    rows = [[name, plain_text(value)] for name, value in inference.items() if value is not None]
    rows.append(["Python", platform.python_version()])
    for library in LIBRARIES:
        try:
            rows.append([library, version(library)])
        except PackageNotFoundError:
            continue
    return [*rows, ["system", f"{platform.system()} {platform.machine()}"]]
