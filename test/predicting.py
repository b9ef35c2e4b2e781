"""What the tests of predict share: a small checkpoint with a channel per keypoint, and a drawn video."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from keypoint_detection.models.detector import KeypointDetector

CHANNELS = [["left_ear"], ["right_ear"], ["nose"]]


def save_detector(path: Path, channels: list[list[str]] = CHANNELS, **settings: Any) -> Path:
    """Write a checkpoint with random weights that are the same every time."""
    torch.manual_seed(3)
    detector = KeypointDetector(channels, backbone_options={"n_channels": 4}, **settings)
    torch.save({"hyper_parameters": dict(detector.hparams), "state_dict": detector.state_dict()}, path)
    return path


def frames(count: int, hw: tuple[int, int] = (32, 48)) -> list[np.ndarray]:
    """Return BGR pictures with a bright square that moves."""
    pictures = []
    for index in range(count):
        picture = np.full((*hw, 3), 40, np.uint8)
        cv2.rectangle(picture, (index % 30, 8), (index % 30 + 9, 17), (200, 220, 90), -1)
        pictures.append(picture)
    return pictures


def write_video(path: Path, count: int, hw: tuple[int, int] = (32, 48)) -> Path:
    """Write a video of 20 frames per second; Motion JPEG in .avi, so that every frame stands by itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 20.0, hw[::-1])
    assert writer.isOpened()
    for picture in frames(count, hw):
        writer.write(picture)
    writer.release()
    return path


def write_images(folder: Path, sizes: list[tuple[int, int]]) -> list[Path]:
    """Write `0.png`, `1.png`, ... of the given heights and widths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{index}.png" for index in range(len(sizes))]
    for index, (path, hw) in enumerate(zip(paths, sizes, strict=True)):
        cv2.imwrite(str(path), frames(index + 1, hw)[index])
    return paths


def read_predictions(folder: Path) -> list[dict[str, Any]]:
    """Return the entries of predictions.json."""
    return json.loads((folder / "predictions.json").read_text())["predictions"]


def without_overlays(**options: Any) -> Any:
    """Return the options of a run that draws nothing and keeps every point."""
    from keypoint_detection.predict_options import PredictOptions

    return PredictOptions(overlays=False, confidence_threshold=0.0, **options)
