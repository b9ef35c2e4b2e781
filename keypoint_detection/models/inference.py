"""From images to predictions with a detector: prepare, run, decode, map back to original pixels."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
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
from keypoint_detection.models.flip_test import forward_with_flip
from keypoint_detection.models.inference_options import (
    DEFAULT_OPTIONS,
    InferenceOptions,
    check_options,
    prepared_hw,
    tiling_of,
)
from keypoint_detection.models.tiling import is_larger_than_tile, tiled_logits
from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.utils.heatmap import PIXELS_AT_ONCE

if TYPE_CHECKING:
    from keypoint_detection.data.coco_dataset import Batch
    from keypoint_detection.models.detector import KeypointDetector

DETECTION_THRESHOLD = 0.01
"""Least probability of a detection in every score; what is written or drawn may ask for more."""


def decode_batch(
    detector: "KeypointDetector",
    output: Tensor,
    batch: "Batch | UnlabeledBatch | Mapping[str, Any]",
    max_keypoints: int | None = None,
    *,
    signed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Turn what the detector gives into detections in original pixels.

    Args:
        detector: Gives head, radius of suppression and number of detections.
        output: What it gave for the batch: `[n, c, h, w]` or `[n, c, 2]`.
        batch: With `image`, `to_image` `[n, 2, 3]` and `image_hw` `[n, 2]`.
        max_keypoints: Most detections per channel and image; None takes those of the detector.
        signed: Give the scores of occluded keypoints a minus, where the detector tells them.

    Returns:
        Keypoints `[n, c, k, 2]`, NaN where there is none, and scores `[n, c, k]`, 0 there. Detections in the
        padding around an image are none. With crops of instances, k is the most names that a channel pools,
        and the best peaks are taken whatever their score.
    """
    if detector.hparams["input_mode"] == "instance":  # every keypoint of an instance is somewhere
        most = max(len(channel) for channel in detector.hparams["keypoint_channel_configuration"])
        return _decode(detector, output, batch, max_keypoints or most, threshold=0.0, signed=signed)
    most = max_keypoints or detector.hparams["max_keypoints"]
    points, scores = _decode(detector, output, batch, most, threshold=DETECTION_THRESHOLD, signed=signed)
    image_hw = batch["image_hw"].to(points.device).view(-1, 2, 1, 1)
    inside = is_inside(points, (image_hw[:, 0], image_hw[:, 1]))
    return torch.where(inside[..., None], points, torch.nan), torch.where(inside, scores, 0.0)


def decode_instances(
    detector: "KeypointDetector",
    output: Tensor,
    batch: "Batch | Mapping[str, Any]",
    *,
    signed: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the best point of every channel, whatever its score, in original pixels.

    Args:
        detector: As for `decode_batch`.
        output: What it gave for the batch.
        batch: As for `decode_batch`.
        signed: As for `decode_batch`.

    Returns:
        Keypoints `[n, c, 2]`, all finite, and scores `[n, c]`. A map without any peak gives the centre of the
        network's frame, with a score of 0.
    """
    found = _decode(detector, output, batch, 1, threshold=0.0, signed=signed)
    points, scores = (part[:, :, 0] for part in found)
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
    signed: bool,
) -> tuple[Tensor, Tensor]:
    """Return keypoints `[n, c, max_keypoints, 2]` in original pixels and scores `[n, c, max_keypoints]`."""
    decode = partial(
        detector.head.decode_signed if signed else detector.head.decode,
        input_hw=(batch["image"].shape[-2], batch["image"].shape[-1]),
        max_keypoints=max_keypoints,
        min_distance_px=detector.hparams["minimal_keypoint_extraction_pixel_distance"],
        threshold=threshold,
    )
    points, scores = decode(output) if output.ndim != 4 else _decode_in_parts(decode, output)
    affine = batch["to_image"].to(points.device)
    return transform_points(affine, points.to(affine.dtype)), scores


def _decode_in_parts(
    decode: Callable[[Tensor], tuple[Tensor, Tensor]], output: Tensor
) -> tuple[Tensor, Tensor]:
    """Decode maps `[n, c, h, w]` some at a time, each part copied into one piece of memory.

    A part is small enough that the system gives the same memory again for the next one, which halves the
    time on a CPU, and that maps of any size need few bytes beside themselves. The points are the same, as
    every map is decoded by itself.
    """
    output = output.detach()
    _, n_channels, height, width = output.shape
    channels = min(max(PIXELS_AT_ONCE // (height * width), 1), n_channels)
    images = max(PIXELS_AT_ONCE // (channels * height * width), 1)
    rows = [
        [decode(part.contiguous()) for part in some.split(channels, dim=1)] for some in output.split(images)
    ]
    points = torch.cat([torch.cat([points for points, _ in parts], dim=1) for parts in rows])
    return points, torch.cat([torch.cat([scores for _, scores in parts], dim=1) for parts in rows])


def predict_images(
    detector: "KeypointDetector", images: Any, batch_size: int, options: InferenceOptions = DEFAULT_OPTIONS
) -> list[Prediction]:
    """Find the keypoints of images; see `KeypointDetector.predict` and `predict_batch`."""
    check_options(detector, options)
    predictions: dict[int, Prediction] = {}
    waiting: dict[tuple[int, ...], list[tuple[int, dict[str, Any]]]] = {}

    def run(group: list[tuple[int, dict[str, Any]]]) -> None:
        found = predict_batch(detector, collate_unlabeled([sample for _, sample in group]), options)
        predictions.update(zip([index for index, _ in group], found, strict=True))
        group.clear()

    for index, sample in enumerate(_samples(detector, images, options)):
        group = waiting.setdefault(sample["image"].shape, [])
        group.append((index, sample))
        # images that are run in tiles are run one by one anyway: keep no second one in memory
        if len(group) >= batch_size or is_larger_than_tile(sample["input_hw"], options.tile_px):
            run(group)
    for group in waiting.values():
        if group:
            run(group)
    return [predictions[index] for index in sorted(predictions)]


@torch.inference_mode()
def predict_batch(
    detector: "KeypointDetector", batch: UnlabeledBatch, options: InferenceOptions = DEFAULT_OPTIONS
) -> list[Prediction]:
    """Run a batch of `collate_unlabeled` and return one prediction per image.

    With `tile_px`, the samples should have been prepared at their own resolution (`prepared_hw`), also for a
    model with an `image_size`: the tiles are what the network sees. Only images larger than a tile are cut,
    and each of those is run and decoded by itself, so that one map is in memory at a time. Its map is decoded
    as a whole, so that a point at the border of tiles is found once. Beside the network, 4096x4096 cells take
    64 MiB per channel, and decoding them, one channel at a time, 0.1 GB, up to 0.6 GB where all is noise.

    Raises:
        ValueError: The detector cannot be run with the options.
    """
    check_options(detector, options)
    with _evaluating(detector):
        if not is_larger_than_tile((batch["image"].shape[-2], batch["image"].shape[-1]), options.tile_px):
            output = _forward(detector, batch["image"], options)
            return to_predictions(
                detector, *decode_batch(detector, output, batch, options.max_keypoints, signed=True), batch
            )
        rows = (_one_image(batch, row) for row in range(len(batch["image"])))
        return [prediction for row in rows for prediction in _predict_in_tiles(detector, row, options)]


def to_predictions(
    detector: "KeypointDetector", points: Tensor, scores: Tensor, batch: UnlabeledBatch
) -> list[Prediction]:
    """Return one prediction per image from what `decode_batch` gives, wherever it lies.

    A score with a minus makes an occluded keypoint, of visibility 1.
    """
    names = tuple(detector.channel_names)
    found = torch.cat([points, scores[..., None]], dim=-1).tolist()  # one copy from the device
    sizes = batch["image_hw"].tolist()
    return [
        Prediction(
            keypoints=tuple(
                tuple(_keypoint(x, y, score) for x, y, score in channel if math.isfinite(x + y))
                for channel in channels
            ),
            channel_names=names,
            image_hw=(height, width),
            source=path or None,
        )
        for channels, (height, width), path in zip(found, sizes, batch["path"], strict=True)
    ]


def _keypoint(x: float, y: float, signed_score: float) -> Keypoint:
    return Keypoint(x, y, abs(signed_score), visibility=1 if signed_score < 0 else 2)


@contextmanager
def _evaluating(detector: "KeypointDetector") -> Iterator[None]:
    """Put a detector into evaluation mode and back into the mode that it was in."""
    was_training = detector.training
    detector.eval()
    try:
        yield
    finally:
        if was_training:
            detector.train()


def _forward(detector: "KeypointDetector", image: Tensor, options: InferenceOptions) -> Tensor:
    """Return what the detector gives for uint8 `[n, c_in, h, w]`, with or without the flip test."""
    image = image.to(detector.device)
    if options.mirrored is None:
        return detector(image)
    return forward_with_flip(detector, image, options.mirrored)


def _predict_in_tiles(
    detector: "KeypointDetector", batch: UnlabeledBatch, options: InferenceOptions
) -> list[Prediction]:
    """Return the prediction of a batch of one image."""
    tiling = tiling_of(detector, options)
    logits = tiled_logits(lambda tiles: _forward(detector, tiles, options), batch["image"][0], tiling)
    points, scores = decode_batch(detector, logits[None], batch, options.max_keypoints, signed=True)
    return to_predictions(detector, points, scores, batch)


def _one_image(batch: UnlabeledBatch, row: int) -> UnlabeledBatch:
    one = slice(row, row + 1)
    return UnlabeledBatch(
        image=batch["image"][one],
        to_image=batch["to_image"][one],
        image_hw=batch["image_hw"][one],
        input_hw=batch["input_hw"][one],
        path=batch["path"][one],
    )


def _samples(
    detector: "KeypointDetector", images: Any, options: InferenceOptions
) -> Iterator[dict[str, Any]]:
    """Yield prepared samples from path(s), array(s) or a tensor."""
    image_hw = prepared_hw(detector, options)
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
