"""Predicted points per image, of either results form, and how far they are from the labels."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, TypeAdapter

from keypoint_detection.data.coco_parser import CocoCategory, CocoKeypoints, Number
from keypoint_detection.data.coco_results import Identity, check_ids, read_entries, scores_of_keypoints

PREDICTION_FORM = '{"image_id", "keypoints": [x, y, score, ...] or "channels": {name: [{"x", "y", "score"}]}}'

FAR_PX = 1e7
"""Further away than any image reaches; keeps the squares of absurd coordinates finite."""


class FoundPoint(NamedTuple):
    """Hold one predicted point: the name of its channel or keypoint, x and y in image pixels, its score."""

    channel: str
    x: float
    y: float
    score: float


@dataclass(frozen=True)
class PagePredictions:
    """Hold the predictions for a data set.

    Attributes:
        channels: Every channel or keypoint that the model has, also one without a point.
        points: Predicted points by image id; an image without an entry is not in it.
    """

    channels: list[str]
    points: dict[int, list[FoundPoint]]


@dataclass(frozen=True)
class ImageError:
    """Say how far the predictions of one image are from its labels.

    Attributes:
        mean_px: Mean distance over the labels that have a partner, in pixels; None where none has.
        missed: Labels without a partner.
    """

    mean_px: float | None
    missed: int


class _Point(BaseModel):
    x: Number
    y: Number
    score: Number


class _Entry(BaseModel):
    image_id: Identity
    category_id: Identity | None = None
    keypoints: list[Number] | None = None
    keypoint_scores: list[Number] | None = None
    channels: dict[str, list[_Point]] | None = None


_ENTRIES = TypeAdapter(list[_Entry])


def read_predictions(path: str | Path, coco: CocoKeypoints) -> PagePredictions:
    """Read the predictions for a data set.

    Where an entry has both forms, the channels count: they hold every point. A point of score 0 or less
    stands for a missing one and is left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is no list of such entries, or names an unknown image or category.
    """
    path = Path(path)
    entries = read_entries(path, _ENTRIES, PREDICTION_FORM)
    ids = np.array([entry.image_id for entry in entries], np.int64)
    check_ids(path, "image_id", ids, [image.id for image in coco.images])
    channels: dict[str, None] = {}
    points: dict[int, list[FoundPoint]] = {}
    for number, entry in enumerate(entries):
        found = _channel_points(entry) if entry.channels is not None else _results(path, number, entry, coco)
        channels |= dict.fromkeys(entry.channels or (point.channel for point in found))
        points.setdefault(entry.image_id, []).extend(point for point in found if point.score > 0)
    return PagePredictions(list(channels), points)


def _channel_points(entry: _Entry) -> list[FoundPoint]:
    channels = entry.channels or {}
    return [FoundPoint(name, p.x, p.y, p.score) for name, channel in channels.items() for p in channel]


def _results(path: Path, number: int, entry: _Entry, coco: CocoKeypoints) -> list[FoundPoint]:
    """Return the points of an entry in the form of COCO results."""
    if entry.keypoints is None:
        raise ValueError(f"{path}: entry {number}: expected {PREDICTION_FORM}, got neither of the two")
    names = _category(path, number, entry, coco).keypoints
    values = entry.keypoints
    if len(values) != 3 * len(names):
        raise ValueError(
            f"{path}: entry {number}, field 'keypoints': expected {3 * len(names)} numbers (x, y, score for "
            f"{len(names)} keypoints), got {len(values)}; take the results of a model with these keypoints"
        )
    scores = scores_of_keypoints(path, number, values, entry.keypoint_scores)
    return [FoundPoint(*point) for point in zip(names, values[::3], values[1::3], scores, strict=True)]


def _category(path: Path, number: int, entry: _Entry, coco: CocoKeypoints) -> CocoCategory:
    usable = [category for category in coco.categories if category.keypoints]
    if entry.category_id is not None:
        usable = [category for category in usable if category.id == entry.category_id]
    if len(usable) == 1:
        return usable[0]
    known = ", ".join(str(category.id) for category in coco.categories if category.keypoints)
    raise ValueError(
        f"{path}: entry {number}, field 'category_id': expected one of {known} (the categories with "
        f"keypoints of the COCO file), got {'none' if entry.category_id is None else entry.category_id}"
    )


def names_of_channel(channel: str, keypoint_names: Sequence[str]) -> list[str]:
    """Return the keypoint names that a channel such as `leaf0=leaf1` pools, as far as they are known."""
    if channel in keypoint_names:
        return [channel]
    return [name for name in map(str.strip, channel.split("=")) if name in keypoint_names]


def image_error(
    labels: Mapping[str, Sequence[tuple[float, float]]],
    found: Sequence[FoundPoint],
    channels: Sequence[str],
) -> ImageError:
    """Return how far the predictions of an image are from its labels.

    The m best points of a channel are assigned to its m labels so that the sum of the distances is least.

    Args:
        labels: Labelled points (visible or occluded) by keypoint name, in pixels.
        found: Predicted points.
        channels: Every channel that the model has; labels that belong to none are not counted.
    """
    by_channel: dict[str, list[FoundPoint]] = defaultdict(list)
    for point in found:
        by_channel[point.channel].append(point)
    distances: list[float] = []
    missed = 0
    for channel in channels:
        wanted = [xy for name in names_of_channel(channel, list(labels)) for xy in labels[name]]
        best = sorted(by_channel[channel], key=lambda point: -point.score)[: len(wanted)]
        distances += _assigned_distances(wanted, [(point.x, point.y) for point in best])
        missed += len(wanted) - len(best)
    return ImageError(float(np.mean(distances)) if distances else None, missed)


def _assigned_distances(
    wanted: Sequence[tuple[float, float]], found: Sequence[tuple[float, float]]
) -> list[float]:
    """Return the distances of the pairs whose sum is least, as many as the shorter list has."""
    from scipy.optimize import linear_sum_assignment

    if not wanted or not found:
        return []
    ends = [np.clip(np.array(points, np.float64), -FAR_PX, FAR_PX) for points in (wanted, found)]
    distance = np.linalg.norm(ends[0][:, None] - ends[1][None], axis=-1)
    return distance[linear_sum_assignment(distance)].tolist()
