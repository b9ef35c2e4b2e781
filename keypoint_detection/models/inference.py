"""From images to predictions with a detector: prepare, run, decode, map back to original pixels."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from keypoint_detection.data.unlabeled_dataset import (
    UnlabeledBatch,
    UnlabeledKeypointsDataset,
    collate_unlabeled,
    prepare_image,
)
from keypoint_detection.geometry import is_inside, transform_points
from keypoint_detection.records import Keypoint, Prediction

if TYPE_CHECKING:
    from keypoint_detection.data.coco_dataset import Batch
    from keypoint_detection.models.detector import KeypointDetector

DETECTION_THRESHOLD = 0.01
"""Least probability of a detection in every score; what is written or drawn may ask for more."""


def decode_batch(
    detector: "KeypointDetector", output: Tensor, batch: "Batch | UnlabeledBatch | Mapping[str, Any]"
) -> tuple[Tensor, Tensor]:
    """Turn what the detector gives into detections in original pixels.

    Args:
        detector: Gives head, radius of suppression and number of detections.
        output: What it gave for the batch: `[n, c, h, w]` or `[n, c, 2]`.
        batch: With `image`, `to_image` `[n, 2, 3]` and `image_hw` `[n, 2]`.

    Returns:
        Keypoints `[n, c, k, 2]`, NaN where there is none, and scores `[n, c, k]`, 0 there. Detections in the
        padding around an image are none. With crops of instances, k is the most names that a channel pools,
        and the best peaks are taken whatever their score.
    """
    if detector.hparams["input_mode"] == "instance":  # every keypoint of an instance is somewhere
        most = max(len(channel) for channel in detector.hparams["keypoint_channel_configuration"])
        return _decode(detector, output, batch, most, threshold=0.0)
    points, scores = _decode(
        detector, output, batch, detector.hparams["max_keypoints"], threshold=DETECTION_THRESHOLD
    )
    image_hw = batch["image_hw"].to(points.device).view(-1, 2, 1, 1)
    inside = is_inside(points, (image_hw[:, 0], image_hw[:, 1]))
    return torch.where(inside[..., None], points, torch.nan), torch.where(inside, scores, 0.0)


def decode_instances(
    detector: "KeypointDetector", output: Tensor, batch: "Batch | Mapping[str, Any]"
) -> tuple[Tensor, Tensor]:
    """Return the best point of every channel, whatever its score, in original pixels.

    Args:
        detector: As for `decode_batch`.
        output: What it gave for the batch.
        batch: As for `decode_batch`.

    Returns:
        Keypoints `[n, c, 2]`, all finite, and scores `[n, c]`. A map without any peak gives the centre of the
        network's frame, with a score of 0.
    """
    points, scores = (found[:, :, 0] for found in _decode(detector, output, batch, 1, threshold=0.0))
    height, width = batch["image"].shape[-2:]
    centre = points.new_tensor([(width - 1) / 2, (height - 1) / 2]).expand(len(points), 1, 2)
    centre = transform_points(batch["to_image"].to(points), centre)
    found = points.isfinite().all(-1)
    return torch.where(found[..., None], points, centre), torch.where(found, scores, 0.0)


def _decode(
    detector: "KeypointDetector",
    output: Tensor,
    batch: "Batch | UnlabeledBatch | Mapping[str, Any]",
    max_keypoints: int,
    *,
    threshold: float,
) -> tuple[Tensor, Tensor]:
    """Return keypoints `[n, c, max_keypoints, 2]` in original pixels and scores `[n, c, max_keypoints]`."""
    points, scores = detector.head.decode(
        output,
        input_hw=(batch["image"].shape[-2], batch["image"].shape[-1]),
        max_keypoints=max_keypoints,
        min_distance_px=detector.hparams["minimal_keypoint_extraction_pixel_distance"],
        threshold=threshold,
    )
    affine = batch["to_image"].to(points.device)
    return transform_points(affine, points.to(affine.dtype)), scores


def predict_images(detector: "KeypointDetector", images: Any, batch_size: int) -> list[Prediction]:
    """Find the keypoints of images; see `KeypointDetector.predict`."""
    predictions: dict[int, Prediction] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, dict[str, Any]]]] = {}

    def run(group: list[tuple[int, dict[str, Any]]]) -> None:
        found = predict_batch(detector, collate_unlabeled([sample for _, sample in group]))
        predictions.update(zip([index for index, _ in group], found, strict=True))
        group.clear()

    for index, sample in enumerate(_samples(detector, images)):
        group = waiting.setdefault(sample["image"].shape, [])
        group.append((index, sample))
        if len(group) >= batch_size:
            run(group)
    for group in waiting.values():
        if group:
            run(group)
    return [predictions[index] for index in sorted(predictions)]


@torch.inference_mode()
def predict_batch(detector: "KeypointDetector", batch: UnlabeledBatch) -> list[Prediction]:
    """Run a batch of `collate_unlabeled` and return one prediction per image."""
    was_training = detector.training
    detector.eval()
    logits = detector(batch["image"].to(detector.device))
    detector.train(was_training)
    points, scores = (values.cpu().numpy() for values in decode_batch(detector, logits, batch))
    names = tuple(detector.channel_names)
    return [
        Prediction(
            keypoints=tuple(
                _keypoints(points[row, channel], scores[row, channel]) for channel in range(len(names))
            ),
            channel_names=names,
            image_hw=(int(batch["image_hw"][row, 0]), int(batch["image_hw"][row, 1])),
            source=batch["path"][row] or None,
        )
        for row in range(len(points))
    ]


def _keypoints(points: NDArray, scores: NDArray) -> tuple[Keypoint, ...]:
    kept = np.isfinite(points).all(-1)
    return tuple(
        Keypoint(float(x), float(y), float(score))
        for (x, y), score in zip(points[kept], scores[kept], strict=True)
    )


def _samples(detector: "KeypointDetector", images: Any) -> Iterator[dict[str, Any]]:
    """Yield prepared samples from path(s), array(s) or a tensor."""
    image_size = detector.hparams["image_size"]
    image_hw = (int(image_size[0]), int(image_size[1])) if image_size else None
    if isinstance(images, str | Path) or (
        _is_sequence(images) and all(isinstance(i, str | Path) for i in images)
    ):
        dataset = UnlabeledKeypointsDataset(images, image_hw, detector.backbone.in_channels)
        yield from (dataset[index] for index in range(len(dataset)))
        return
    if isinstance(images, Tensor):
        images = list(images.permute(0, 2, 3, 1).cpu().numpy())
    for image in [images] if isinstance(images, np.ndarray) and images.ndim == 3 else images:
        yield prepare_image(_checked(image, detector.backbone.in_channels), image_hw)


def _is_sequence(images: Any) -> bool:
    return isinstance(images, Sequence) and len(images) > 0


def _checked(image: Any, n_channels: int) -> NDArray[np.uint8]:
    if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != n_channels
    ):
        came = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"predict expects uint8 arrays [height, width, {n_channels}] or paths; got {came}.")
    return image
