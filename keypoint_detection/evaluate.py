"""Score a detector on a COCO keypoint file and write what it found."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from keypoint_detection.data.channels import format_channels
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.datamodule import make_dataloader
from keypoint_detection.files import write_json
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import DETECTION_THRESHOLD, decode_batch
from keypoint_detection.models.scores import DetectionScores
from keypoint_detection.utils.load_checkpoints import load_model


@dataclass(frozen=True)
class EvalOptions:
    """Hold the choices of an evaluation; None keeps what the model was trained with.

    Attributes:
        thresholds: AP thresholds in original pixels, or all below 1 for OKS.
        image_size: Height and width in pixels to letterbox to.
        detect_only_visible_keypoints: Leave out occluded keypoints.
        batch_size: Images per forward pass.
        num_workers: Loader processes.
        device: Where to run.
    """

    thresholds: Sequence[float] | None = None
    image_size: tuple[int, int] | None = None
    detect_only_visible_keypoints: bool | None = None
    batch_size: int = 8
    num_workers: int = 0
    device: str = "cpu"


def evaluate(
    checkpoint: str | Path,
    json_dataset_path: str | Path,
    output: str | Path,
    options: EvalOptions | None = None,
) -> dict[str, float]:
    """Score a checkpoint on a COCO keypoint file; write `metrics.json` and `predictions.json`.

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        json_dataset_path: The COCO file.
        output: Folder for the two files.
        options: Choices other than those of the training.

    Returns:
        The scores by name, as in `metrics.json`.
    """
    options = options or EvalOptions()
    detector = load_model(checkpoint, options.device)
    _override(detector, options)
    size = detector.hparams["image_size"]
    dataset = COCOKeypointsDataset(
        json_dataset_path,
        detector.hparams["keypoint_channel_configuration"],
        image_size=(size[0], size[1]) if size else None,
        n_channels_in=detector.backbone.in_channels,
    )
    if not len(dataset.table.xy):
        raise ValueError(f"{json_dataset_path}: expected labelled keypoints to score against, got none")
    scores = DetectionScores(detector.channel_names, detector.hparams["maximal_gt_keypoint_pixel_distances"])
    if scores.similarity == "oks":
        dataset.table.check_areas()
    found = _run(detector, dataset, scores, options)
    values = scores.compute()
    contract = metric_contract(detector, len(dataset))
    write_json(Path(output) / "metrics.json", metrics_report(values, detector.channel_names, contract))
    write_json(Path(output) / "predictions.json", {"predictions": found})
    return values


def _override(detector: KeypointDetector, options: EvalOptions) -> None:
    chosen = {
        "maximal_gt_keypoint_pixel_distances": options.thresholds,
        "image_size": options.image_size,
        "detect_only_visible_keypoints": options.detect_only_visible_keypoints,
    }
    detector.hparams.update({name: value for name, value in chosen.items() if value is not None})


@torch.inference_mode()
def _run(
    detector: KeypointDetector, dataset: COCOKeypointsDataset, scores: DetectionScores, options: EvalOptions
) -> list[dict[str, Any]]:
    """Update the scores with every batch and return the detections per image."""
    loader = make_dataloader(dataset, options.batch_size, num_workers=options.num_workers)
    device, found = detector.device, []
    scores.to(device)
    for batch in tqdm(loader, desc="eval", leave=False):
        moved = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}
        keypoints, confidence = decode_batch(detector, detector(moved["image"]), moved)
        scores.update(keypoints, confidence, moved, detector.required_visibility)  # pyright: ignore
        for row, image_id in enumerate(batch["image_id"].tolist()):
            points = _channel_points(detector, keypoints[row].cpu(), confidence[row].cpu())
            name = dataset.file_name(image_id)
            found.append({"image_id": image_id, "file_name": name, "keypoints": points})
    return found


def _channel_points(detector: KeypointDetector, points: torch.Tensor, scores: torch.Tensor) -> dict[str, Any]:
    kept = points.isfinite().all(-1)
    return {
        name: [
            {"x": x, "y": y, "score": score}
            for (x, y), score in zip(points[c][kept[c]].tolist(), scores[c][kept[c]].tolist(), strict=True)
        ]
        for c, name in enumerate(detector.channel_names)
    }


def metric_contract(detector: KeypointDetector, n_images: int) -> dict[str, Any]:
    """Return every definition that the numbers depend on, with a short hash of it."""
    hparams = detector.hparams
    definition = {
        "channels": format_channels(hparams["keypoint_channel_configuration"]),
        "pixel_space": "original image",
        "thresholds": list(hparams["maximal_gt_keypoint_pixel_distances"]),
        "matching": "greedy by score, nearest free ground truth within the threshold",
        "interpolation": "all points",
        "error": "m best detections of a channel, optimally assigned to its m keypoints; missing counted",
        "visibility": "visible only" if hparams["detect_only_visible_keypoints"] else "visible and occluded",
        "image_size": list(hparams["image_size"]) if hparams["image_size"] else None,
        "max_keypoints": hparams["max_keypoints"],
        "output_stride": detector.backbone.stride,
        "detection_threshold": DETECTION_THRESHOLD,
        **detector.head.contract(),
        "suppression_radius_heatmap_px": hparams["minimal_keypoint_extraction_pixel_distance"],
    }
    digest = hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest()[:12]
    return {**definition, "images": n_images, "hash": digest}


def metrics_report(
    values: Mapping[str, float], channel_names: Sequence[str], contract: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the content of `metrics.json`: each number, and its value per channel; NaN becomes null."""
    overall = {name: value for name, value in values.items() if "/" not in name}
    metrics = {
        name: {
            "value": _number(value),
            "per_channel": {
                c: _number(values[f"{c}/{name}"]) for c in channel_names if f"{c}/{name}" in values
            },
        }
        for name, value in overall.items()
    }
    return {"contract": dict(contract), "metrics": metrics}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def scores_table(values: Mapping[str, float]) -> str:
    """Return the scores as a text table: one row over all channels, one per channel."""
    names = [name for name in values if "/" not in name]
    columns = ["all", *dict.fromkeys(name.rsplit("/", 1)[0] for name in values if "/" in name)]
    width = max(len(column) for column in [*columns, "channel"]) + 2
    lines = ["channel".ljust(width) + "".join(name.rjust(15) for name in names)]
    for column in columns:
        cells = [values.get(name if column == "all" else f"{column}/{name}") for name in names]
        lines.append(
            column.ljust(width) + "".join(("" if v is None else f"{v:.4g}").rjust(15) for v in cells)
        )
    return "\n".join(lines)
