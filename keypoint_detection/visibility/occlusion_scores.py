"""What different ways tell about the visibility of the same labelled keypoints, as numbers with intervals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from keypoint_detection.data.channels import Channels
from keypoint_detection.data.coco_dataset import channels_of
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.geometry import image_to_heatmap
from keypoint_detection.metrics.assignment import assign_partners
from keypoint_detection.metrics.binary_classification_statistic import binary_intervals
from keypoint_detection.metrics.bootstrap import Interval, bootstrap_statistics
from keypoint_detection.metrics.visibility_scores import VISIBLE, VisibilityPairs
from keypoint_detection.metrics.visibility_statistics import visibility_statistics
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.visibility.predict_visibility import PointVisibility

SMALLEST_P = 1e-7
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""


class LabelledPoints(NamedTuple):
    """Hold the p labelled keypoints of a COCO file, image after image.

    Attributes:
        paths: The n images.
        image: int64 `[p]`, the image of each point, rising.
        xy: float64 `[p, 2]`, pixels.
        channel: int64 `[p]`, the detector's channel of each point.
        label: uint8 `[p]`, 1 visible, 0 occluded.
        channel_names: Names of the c channels.
    """

    paths: list[Path]
    image: NDArray[np.int64]
    xy: NDArray[np.float64]
    channel: NDArray[np.int64]
    label: NDArray[np.uint8]
    channel_names: tuple[str, ...]


def labelled_points(json_path: str | Path, channels: str | Channels) -> LabelledPoints:
    """Return the keypoints of visibility 1 and 2 of a COCO file.

    Raises:
        FileNotFoundError: The file or an image is missing.
        ValueError: The file is no COCO keypoint file, or a channel is not of it; one line.
    """
    table = read_table(json_path)
    parsed = channels_of(table, channels)
    place = {name: number for number, names in enumerate(parsed) for name in names}
    channel = np.array([place.get(name, -1) for name in table.names], np.int64)[table.name_index]
    image = np.repeat(np.arange(len(table.image_ids)), np.diff(table.first_point))
    known = channel >= 0
    return LabelledPoints(
        [table.image_path(row) for row in range(len(table.image_ids))],
        image[known],
        table.xy[known],
        channel[known],
        (table.visibility[known] == VISIBLE).astype(np.uint8),
        tuple("=".join(names) for names in parsed),
    )


def logit_of(p_visible: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the finite logits of probabilities, of any shape."""
    p = np.clip(p_visible, SMALLEST_P, 1 - SMALLEST_P)
    return np.log(p / (1 - p))


def classifier_logits(tell: PointVisibility, points: LabelledPoints) -> NDArray[np.float64]:
    """Return the logit of P(visible) of every labelled point, `[p]`, from the patches around it."""
    p_visible = np.empty(len(points.xy))
    for number, path in enumerate(points.paths):
        rows = points.image == number
        p_visible[rows] = tell.p_visible(load_image(path), points.xy[rows])
    return logit_of(p_visible)


@torch.inference_mode()
def signed_logits(detector: KeypointDetector, points: LabelledPoints) -> NDArray[np.float64]:
    """Return the logit that a signed heatmap has at every labelled point, `[p]`: above 0 it says visible.

    The map m of the point's channel is read where the label lies, linearly between pixels; P(visible) is
    `(m + 1) / 2`. Images are taken in their own size.
    """
    p_visible = np.empty(len(points.xy))
    for number, path in enumerate(points.paths):
        rows = points.image == number
        image = torch.from_numpy(load_image(path)).permute(2, 0, 1)[None]
        maps = detector.head.maps(detector(image.to(detector.device))).cpu()
        values = values_at(maps[0], torch.from_numpy(points.xy[rows]), detector.backbone.stride)
        chosen = values[torch.from_numpy(points.channel[rows]), torch.arange(int(rows.sum()))]
        p_visible[rows] = (chosen.double().numpy() + 1) / 2
    return logit_of(p_visible)


def values_at(maps: torch.Tensor, xy: torch.Tensor, stride: int) -> torch.Tensor:
    """Return the values of heatmaps `[c, h, w]` at points `[p, 2]` of the image, `[c, p]`."""
    size = torch.tensor([maps.shape[2], maps.shape[1]])
    place = (2 * image_to_heatmap(xy, stride) + 1) / size - 1  # -1 and 1 are the outer edges of the map
    grid = place.to(maps.dtype)[None, None]
    return F.grid_sample(maps[None], grid, padding_mode="border", align_corners=False)[0, :, 0]


def point_scores(
    logits: NDArray[np.float64], points: LabelledPoints, n_resamples: int = 1000
) -> dict[str, Interval]:
    """Return every number of `binary_scores` on the labelled points, with its interval over images."""
    return binary_intervals(logits, points.label, points.image, n_resamples=n_resamples)


def matched_scores(
    predictions: str | Path, points: LabelledPoints, n_resamples: int = 1000
) -> tuple[dict[str, Interval], int]:
    """Return `visibility_auroc` and `visibility_accuracy` of P(visible) of detections, and their number.

    Labels and detections are paired as an evaluation pairs them.

    Args:
        predictions: `predictions.json` of `predict --visibility`, of the images of the points.
        points: Their labels.
        n_resamples: Bootstrap resamples of the images.

    Raises:
        ValueError: An image has no prediction.
    """
    pairs = matched_pairs(predictions, points)
    statistics = visibility_statistics(pairs, points.channel_names)
    return bootstrap_statistics(statistics, n_images=len(points.paths), n_resamples=n_resamples), len(
        pairs.scores
    )


def matched_pairs(predictions: str | Path, points: LabelledPoints) -> VisibilityPairs:
    """Return `2 P(visible) - 1` of the detection of each label beside the flag of the label."""
    entries = json.loads(Path(predictions).read_text(encoding="utf-8"))["predictions"]
    found = {Path(entry["source"]).resolve(): entry["keypoints"] for entry in entries}
    missing = next((path for path in points.paths if path.resolve() not in found), None)
    if missing is not None:
        raise ValueError(
            f"{predictions}: expected a prediction of {missing}, got none; predict on it as well"
        )
    parts = [
        _pairs_of_image(found[path.resolve()], points, number) for number, path in enumerate(points.paths)
    ]
    return VisibilityPairs(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _pairs_of_image(
    found: Mapping[str, Sequence[Mapping[str, Any]]], points: LabelledPoints, number: int
) -> VisibilityPairs:
    parts = [
        _pairs_of_channel(found[name], points, (points.image == number) & (points.channel == channel))
        for channel, name in enumerate(points.channel_names)
    ]
    scores, visible = (torch.cat(column) for column in zip(*parts, strict=True))
    return VisibilityPairs(scores, visible, torch.tensor([[len(part[0]) for part in parts]]))


def _pairs_of_channel(
    found: Sequence[Mapping[str, Any]], points: LabelledPoints, rows: NDArray[np.bool_]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores and the flags of the labels that have a detection, `[q]` each."""
    values = np.array([(one["x"], one["y"], one["score"], one["p_visible"]) for one in found])
    table = torch.from_numpy(values.reshape(-1, 4))[None, None]
    visible = torch.from_numpy(points.label[rows].astype(np.int64))
    target = torch.from_numpy(points.xy[rows])[None, None]
    partners = assign_partners(table[..., :2], table[..., 2], target, (visible + 1)[None, None])
    index = partners.detection[0, 0]
    return 2 * table[0, 0, index[index >= 0], 3] - 1, visible[index >= 0].bool()
