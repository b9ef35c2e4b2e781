"""The files of a prediction run, each made from the stored predictions in one pass and in little memory."""

import csv
import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.formats.deeplabcut_predictions import (
    write_deeplabcut_predictions,
    write_deeplabcut_video,
)
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.files import atomic_write
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.predict_pipeline import map_in_order
from keypoint_detection.predict_store import Record
from keypoint_detection.records import Prediction
from keypoint_detection.utils.visualization import draw_prediction

IMAGE_COLUMNS = ("image", "channel", "rank", "x", "y", "score")
FRAME_COLUMNS = ("frame", "time_s", "channel", "rank", "x", "y", "score")
OVERLAY_SIDE_PX = 384
"""Smaller images are enlarged about to this, so that there is room for the names."""


def write_predictions_json(path: Path, records: Iterable[Record]) -> None:
    """Write `{"predictions": [...]}`, one prediction per line."""
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"predictions": [')
        for number, record in enumerate(records):
            file.write((",\n" if number else "\n") + json.dumps(record.entry, allow_nan=False))
        file.write("\n]}\n")


def write_predictions_csv(
    path: Path, records: Iterable[Record], *, is_video: bool, more_columns: Sequence[str] = ()
) -> None:
    """Write one row per point: image, or frame and time, channel, rank (0 = best), x, y in pixels, score.

    Args:
        path: The file.
        records: The predictions.
        is_video: Whether they are of frames.
        more_columns: What follows: "visibility" (1 occluded, 2 visible), and "p_visible" where that is known.
    """
    columns = FRAME_COLUMNS if is_video else IMAGE_COLUMNS
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*columns, *more_columns))
        for record in records:
            entry = record.entry
            first = [entry["frame"], f"{entry['time_s']:.6f}"] if is_video else [entry["source"]]
            writer.writerows(
                [
                    *first,
                    name,
                    rank,
                    f"{p['x']:.3f}",
                    f"{p['y']:.3f}",
                    f"{p['score']:.4f}",
                    *_more(p, more_columns),
                ]
                for name, channel in entry["keypoints"].items()
                for rank, p in enumerate(channel)
            )


def _more(point: Mapping[str, float], columns: Sequence[str]) -> list[str]:
    cells = {"visibility": f"{point.get('visibility', 2)}"}
    if "p_visible" in point:
        cells["p_visible"] = f"{point['p_visible']:.4f}"
    return [cells[name] for name in columns]


def write_deeplabcut(
    folder: Path, records: Iterable[Record], channel_names: Sequence[str], *, is_video: bool
) -> None:
    """Write the best point of every channel as DeepLabCut's tables; NaN where there is none.

    Images make a table per folder of images, a video one table with a row per frame. The numbers of a table
    are in memory as a whole: 24 bytes per frame and channel, and some times that while it is written.
    """
    numbers = array("d")
    frames, sources = array("q"), list[str]()
    missing = (math.nan, math.nan, 0.0)
    for record in records:
        entry = record.entry
        for name in channel_names:
            best = entry["keypoints"][name][:1]
            numbers.extend([best[0][part] for part in ("x", "y", "score")] if best else missing)
        if is_video:
            frames.append(entry["frame"])
        if not (is_video and sources):
            sources.append(entry["source"])
    if not sources:
        return
    values = np.frombuffer(numbers).reshape(-1, len(channel_names), 3)
    xy, scores = values[..., :2], values[..., 2]
    if is_video:
        name = Path(sources[0].replace(":", "_")).stem
        write_deeplabcut_video(folder / name, channel_names, frames, xy, scores)
    else:
        write_deeplabcut_predictions(folder, channel_names, sources, xy, scores)


def write_overlays(
    folder: Path, records: Iterable[Record], detector: KeypointDetector, *, names: bool = True
) -> None:
    """Draw the stored points on the images, small images enlarged, and write one PNG each."""
    channel_names, skeleton = detector.channel_names, detector.channel_skeleton
    n_channels = detector.backbone.in_channels

    def draw(job: tuple[Path, Prediction]) -> None:
        path, prediction = job
        image = load_image(str(prediction.source), n_channels)
        enlarge = max(1, OVERLAY_SIDE_PX // max(prediction.image_hw))
        picture = draw_prediction(image, prediction, 0.0, enlarge, skeleton=skeleton, names=names)
        write_picture(path, picture)

    predictions = (record.prediction(channel_names) for record in records)
    for _ in map_in_order(draw, _overlay_paths(folder, predictions), min(8, os.cpu_count() or 1)):
        pass


def _overlay_paths(folder: Path, predictions: Iterable[Prediction]) -> Iterator[tuple[Path, Prediction]]:
    taken: dict[str, int] = {}
    for prediction in predictions:
        yield overlay_path(folder, str(prediction.source), taken), prediction


def overlay_path(folder: Path, source: str, taken: dict[str, int]) -> Path:
    """Return where the overlay of an image goes; a name that is taken gets a number.

    Args:
        folder: Of the overlays.
        source: Path of the image.
        taken: What the calls before have noted; empty for the first one.
    """
    stem = Path(source).stem
    name, number = stem, taken.get(stem, 1)
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken[stem] = number
    taken.setdefault(name, 1)
    return folder / f"{name}.png"


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write an RGB picture as PNG, atomically."""
    content = cv2.imencode(".png", picture[..., ::-1])[1]
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.tobytes())  # unlike imwrite it says why it cannot
