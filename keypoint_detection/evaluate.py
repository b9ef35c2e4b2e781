"""Score a detector on a COCO keypoint file, with error bars and definitions, and write what it found."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from keypoint_detection.data.coco_results import write_results
from keypoint_detection.evaluation_labels import EvaluationLabels, read_labels
from keypoint_detection.evaluation_report import metric_contract, metrics_report
from keypoint_detection.evaluation_run import run_detector
from keypoint_detection.files import write_json
from keypoint_detection.metrics.bootstrap import IntervalMethod
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import mirrored_channels
from keypoint_detection.report import checkpoint_mark, run_folder_of, write_evaluated_report
from keypoint_detection.report_samples import read_evaluated
from keypoint_detection.report_tables import write_tables
from keypoint_detection.score_sheet import save_score_sheet
from keypoint_detection.utils.load_checkpoints import load_model

logger = logging.getLogger("keypoint_detection")


@dataclass(frozen=True)
class EvalOptions:
    """Hold the choices of an evaluation; None keeps what the model was trained with.

    Attributes:
        thresholds: AP thresholds in original pixels, or all below 1 for OKS.
        image_size: Height and width in pixels to letterbox to.
        detect_only_visible_keypoints: Ignore occluded keypoints.
        scoring: Settings of `ScoreConfig` by name that replace the training's.
        detections: COCO file of detected boxes to crop instances by; None takes the labelled boxes.
        flip_test: Average with the prediction for the mirrored image.
        symmetric_keypoints: Pairs of names that a mirror exchanges; None finds them from the names.
        group_by: Field of the COCO images, or "folder": what the intervals resample; None: single images.
        n_resamples: Resamples behind the intervals; 0 leaves the intervals out.
        level: Coverage of the intervals.
        interval: `bca` or `percentile`.
        seed: Seed of the resamples.
        batch_size: Samples per forward pass.
        num_workers: Loader processes.
        device: Where to run.
        report: Also write `report.html`.
    """

    thresholds: Sequence[float] | None = None
    image_size: tuple[int, int] | None = None
    detect_only_visible_keypoints: bool | None = None
    scoring: dict[str, Any] = field(default_factory=dict)
    detections: str | Path | None = None
    flip_test: bool = False
    symmetric_keypoints: Sequence[Sequence[str]] | None = None
    group_by: str | None = None
    n_resamples: int = 1000
    level: float = 0.95
    interval: IntervalMethod = "bca"
    seed: int = 0
    batch_size: int = 8
    num_workers: int = 0
    device: str = "cpu"
    report: bool = True


def evaluate(
    checkpoint: str | Path,
    json_dataset_path: str | Path,
    output: str | Path,
    options: EvalOptions | None = None,
) -> dict[str, float]:
    """Score a checkpoint on a COCO keypoint file.

    Writes `metrics.json` (numbers, intervals, definitions), `matches.npz` (what `compare` resamples),
    `predictions.json` (a COCO results file where the channels allow it, and the points of every channel),
    `per_keypoint.csv`, `per_image.csv` and `report.html` (one page with all of it and the images).

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        json_dataset_path: The COCO file.
        output: Folder for the files.
        options: Choices other than those of the training.

    Returns:
        The scores by name, as in `metrics.json`.

    Raises:
        FileNotFoundError: A file or an image is missing.
        ValueError: A file or an option is wrong, or the folder cannot be written to; one line, and nothing
            has been run.
    """
    options = options or EvalOptions()
    detector = load_model(checkpoint, options.device)
    _override(detector, options)
    labels = read_labels(
        json_dataset_path, detector, detections=options.detections, group_by=options.group_by
    )
    if not isinstance(labels.instances, str):
        logger.info(labels.sigmas.describe())
    mirrored = _mirrored(detector, labels, options) if options.flip_test else None
    output = Path(output)
    _make_folder(output)
    found = run_detector(
        detector,
        labels,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        mirrored=mirrored,
    )
    sheet = found.sheet(labels)
    values, intervals = sheet.values(), {}
    if options.n_resamples:
        intervals = sheet.intervals(
            options.n_resamples, options.level, method=options.interval, seed=options.seed
        )
    contract = metric_contract(detector, labels)
    report = metrics_report(values, intervals, detector.channel_names, contract)
    inference = {"checkpoint": checkpoint_mark(checkpoint), **_inference(detector, labels, options)}
    report |= {"inference": inference, "intervals": _intervals(labels, options)}
    write_results(output / "predictions.json", found.entries(labels))
    save_score_sheet(sheet, output / "matches.npz")
    write_json(output / "metrics.json", report)
    evaluated = read_evaluated(output, labels.dataset.table)
    write_tables(evaluated, output)
    if options.report:
        write_evaluated_report(evaluated, detector=detector, run_folder=run_folder_of(checkpoint))
    return values


def _override(detector: KeypointDetector, options: EvalOptions) -> None:
    chosen = {
        "maximal_gt_keypoint_pixel_distances": options.thresholds,
        "image_size": options.image_size,
        "detect_only_visible_keypoints": options.detect_only_visible_keypoints,
        "scoring": {**(detector.hparams["scoring"] or {}), **options.scoring},
    }
    detector.hparams.update({name: value for name, value in chosen.items() if value is not None})


def _mirrored(detector: KeypointDetector, labels: EvaluationLabels, options: EvalOptions) -> list[int]:
    """Return the channel that each one becomes in a mirror."""
    channels = detector.hparams["keypoint_channel_configuration"]
    return mirrored_channels(channels, options.symmetric_keypoints, labels.dataset.table.symmetry)


def _make_folder(output: Path) -> None:
    """Make the folder and try to write in it: a long run should not end where nothing can be written."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise ValueError(
            f"--output: expected a folder to write into, got {output} ({error.strerror}); give another one"
        ) from None


def _inference(detector: KeypointDetector, labels: EvaluationLabels, options: EvalOptions) -> dict[str, Any]:
    """Return how the model was run: what may differ between two runs that are compared."""
    hparams = detector.hparams
    return {
        "samples": len(labels.dataset),
        "image_size": list(hparams["image_size"]) if hparams["image_size"] else None,
        "output_stride": detector.backbone.stride,
        **detector.head.contract(),
        "max_keypoints": hparams["max_keypoints"],
        "suppression_radius_heatmap_px": hparams["minimal_keypoint_extraction_pixel_distance"],
        "flip_test": options.flip_test,
        "box_padding": None if labels.dataset.crops is None else labels.dataset.crops.padding,
    }


def _intervals(labels: EvaluationLabels, options: EvalOptions) -> dict[str, Any]:
    """Return how the intervals were made."""
    return {
        "level": options.level,
        "method": options.interval,
        "unit": options.group_by or "image",
        "units": len(labels.image_ids if labels.groups is None else set(labels.groups)),
        "resamples": options.n_resamples,
        "seed": options.seed,
    }
