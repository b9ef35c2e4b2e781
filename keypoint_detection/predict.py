"""Run a detector over images and write points as JSON and CSV, with overlay pictures."""

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from keypoint_detection.data.formats.deeplabcut_writer import write_deeplabcut_predictions
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.data.unlabeled_dataset import (
    UnlabeledBatch,
    UnlabeledKeypointsDataset,
    collate_unlabeled,
)
from keypoint_detection.files import atomic_write, write_json
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.inference import predict_batch
from keypoint_detection.records import Prediction
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.utils.visualization import draw_prediction

logger = logging.getLogger("keypoint_detection")

CSV_COLUMNS = ("image", "channel", "rank", "x", "y", "score")


@dataclass(frozen=True)
class PredictResult:
    """Hold what a prediction run did.

    Attributes:
        predictions: One per readable image.
        unreadable: One line per image that could not be read.
        output: Folder of the files.
    """

    predictions: list[Prediction]
    unreadable: list[str]
    output: Path


def predict_to_files(
    checkpoint: str | Path,
    source: str | Path,
    output: str | Path,
    *,
    confidence_threshold: float = 0.1,
    overlays: bool = True,
    deeplabcut: bool = False,
    batch_size: int = 8,
    device: str = "cpu",
) -> PredictResult:
    """Find keypoints in images; write `predictions.json`, `predictions.csv` and `overlays/`.

    Args:
        checkpoint: A `.ckpt` file that a training wrote.
        source: An image, a folder or a glob.
        output: Folder for the files.
        confidence_threshold: Least score of a point that is written, in [0, 1].
        overlays: Also draw the points on the images.
        deeplabcut: Also write `deeplabcut/`: tables that DeepLabCut opens, one per folder of images, with
            the best point of every channel.
        batch_size: Images per forward pass, when they are of one size.
        device: Where to run.

    Returns:
        The predictions, in original-image pixels, and the images that could not be read.

    Raises:
        ValueError: The model cannot be read, or for `deeplabcut` a channel pools several names.
    """
    detector = load_model(checkpoint, device)
    pooled = [channel for channel in detector.hparams["keypoint_channel_configuration"] if len(channel) > 1]
    if deeplabcut and pooled:
        raise ValueError(
            f"DeepLabCut's tables need one keypoint per channel, got {' = '.join(pooled[0])} in one; train "
            "with a channel per keypoint, or use predictions.csv"
        )
    output = Path(output)
    size = detector.hparams["image_size"]
    dataset = UnlabeledKeypointsDataset(
        source, (size[0], size[1]) if size else None, detector.backbone.in_channels
    )
    predictions: list[Prediction] = []
    unreadable: list[str] = []
    drawn: set[Path] = set()
    for batch in tqdm(_batches(dataset, batch_size, unreadable), desc="predict", leave=False):
        found = [_confident(p, confidence_threshold) for p in predict_batch(detector, batch)]
        predictions.extend(found)
        if overlays:
            _write_overlays(detector, found, output / "overlays", drawn)
    for line in unreadable:
        logger.warning("skipped: %s", line)
    write_json(output / "predictions.json", {"predictions": [p.to_dict() for p in predictions]})
    write_csv(predictions, output / "predictions.csv")
    if deeplabcut and predictions:
        _write_deeplabcut(predictions, output / "deeplabcut")
    return PredictResult(predictions, unreadable, output)


def _batches(
    dataset: UnlabeledKeypointsDataset, batch_size: int, unreadable: list[str]
) -> Iterator[UnlabeledBatch]:
    """Yield batches of images of one size in order; note the images that cannot be read."""
    waiting: list[dict] = []
    for index in range(len(dataset)):
        try:
            sample = dataset[index]
        except (ValueError, OSError) as error:
            unreadable.append(str(error))
            continue
        if waiting and (len(waiting) == batch_size or sample["image"].shape != waiting[0]["image"].shape):
            yield collate_unlabeled(waiting)
            waiting = []
        waiting.append(sample)
    if waiting:
        yield collate_unlabeled(waiting)


def _confident(prediction: Prediction, threshold: float) -> Prediction:
    kept = tuple(tuple(p for p in channel if p.score >= threshold) for channel in prediction.keypoints)
    return Prediction(kept, prediction.channel_names, prediction.image_hw, prediction.source)


def write_csv(predictions: Sequence[Prediction], path: Path) -> None:
    """Write one row per point: image, channel, rank within the channel (0 = best), x, y in pixels, score."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for prediction in predictions:
            for name, channel in zip(prediction.channel_names, prediction.keypoints, strict=True):
                for rank, p in enumerate(channel):
                    writer.writerow(
                        [prediction.source, name, rank, f"{p.x:.3f}", f"{p.y:.3f}", f"{p.score:.4f}"]
                    )


def _write_deeplabcut(predictions: Sequence[Prediction], folder: Path) -> None:
    """Write the best point of every channel as DeepLabCut's tables; NaN where there is none."""
    names = predictions[0].channel_names
    values = np.full((len(predictions), len(names), 3), np.nan)
    for row, prediction in enumerate(predictions):
        for column, points in enumerate(prediction.keypoints):
            if points:
                values[row, column] = points[0].x, points[0].y, points[0].score
    scores = np.nan_to_num(values[..., 2])
    paths = [str(prediction.source) for prediction in predictions]
    write_deeplabcut_predictions(folder, names, paths, values[..., :2], scores)


def _write_overlays(
    detector: KeypointDetector, predictions: Sequence[Prediction], folder: Path, drawn: set[Path]
) -> None:
    """Write one PNG per prediction, small images enlarged; a name that this run has used gets a number."""
    for prediction in predictions:
        source = Path(prediction.source or "image")
        image = load_image(source, detector.backbone.in_channels)
        picture = draw_prediction(image, prediction, 0.0, max(1, 384 // max(prediction.image_hw)))
        names = (
            f"{source.stem}{suffix}.png" for suffix in ("", *(f"_{n}" for n in range(2, len(drawn) + 3)))
        )
        path = next(folder / name for name in names if folder / name not in drawn)
        drawn.add(path)
        with atomic_write(path) as temporary:
            cv2.imwrite(str(temporary), picture[..., ::-1])
