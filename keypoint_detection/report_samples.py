"""Every label of an evaluation with the detection that it got: what errors, tables and pictures come from."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from keypoint_detection.data.channels import Channels, channel_name
from keypoint_detection.data.coco_dataset import channels_of
from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.coco_results import check_ids
from keypoint_detection.data.instance_crops import InstanceCrops, label_crops
from keypoint_detection.data.instance_lengths import NORMALIZERS, LengthNormalizer, instance_lengths
from keypoint_detection.geometry import box_affine, invert, letterbox_affine, transform_points
from keypoint_detection.report_files import PREDICTIONS_FILE, SCORE_AGAIN, EvaluationFiles, read_files
from keypoint_detection.report_pairing import DetectionRows, LabelRows, Pairs, pair_labels
from keypoint_detection.score_sheet import ReindexedStatistic

SAME_ERROR = 1e-3
"""Pixels, and share: the same sum of distances computed on another device differs by less."""


@dataclass(frozen=True)
class Evaluated:
    """Hold an evaluation of n images with q samples, c channels, l labels and d detections.

    Attributes:
        files: What was read from its folder.
        table: The COCO file.
        channels: Keypoint names per channel.
        row: int64 `[q]`, the image of each sample as a row of the table.
        crops: The crops of labelled instances; None for whole images and for detected boxes.
        labels: The labels, by sample, then channel.
        detections: The detections, likewise.
        pairs: The partners of the labels.
    """

    files: EvaluationFiles
    table: KeypointTable
    channels: Channels
    row: NDArray[np.int64]
    crops: InstanceCrops | None
    labels: LabelRows
    detections: DetectionRows
    pairs: Pairs

    @property
    def names(self) -> list[str]:
        """Return the label of every channel."""
        return [channel_name(channel) for channel in self.channels]

    def statistic(self, column: str) -> Any:
        """Return the stored statistic, over samples, whose first number has this name, or None."""
        for statistic in self.files.sheet.statistics:
            inner = statistic.statistic if isinstance(statistic, ReindexedStatistic) else statistic
            if inner.columns[0] == column:
                return inner
        return None

    def groups(self) -> dict[int, str]:
        """Return the group of every image by its id; empty where single images were resampled."""
        sheet = self.files.sheet
        return dict(zip(sheet.image_ids.tolist(), sheet.groups or (), strict=False))


def read_evaluated(folder: str | Path, table: KeypointTable) -> Evaluated:
    """Read an evaluation back, and pair its labels with its detections as the scores did.

    Args:
        folder: The folder that `eval` wrote.
        table: The COCO file that was scored.

    Raises:
        FileNotFoundError: A file of the evaluation is missing.
        ValueError: One is broken, or they do not belong to this COCO file; one line.
    """
    files = read_files(folder)
    contract, path = files.report["contract"], files.folder / PREDICTIONS_FILE
    found_ids = np.array([sample.image_id for sample in files.found], np.int64)
    check_ids(path, "image_id", found_ids, table.image_ids.tolist())
    channels = channels_of(table, contract["channels"])
    crops = None
    if files.has_labels and not files.is_whole_image:
        crops = label_crops(table, files.report["inference"].get("box_padding") or 1.0)
    row = _rows(files, table, crops, found_ids)
    labels = _labels(files, table, channels, crops)
    detections = _detections(files, [channel_name(channel) for channel in channels])
    pairs = Pairs.none(len(labels.channel))
    if files.has_labels:
        pairs = pair_labels(labels, detections, len(row), len(channels), files.required_visibility)
    evaluated = Evaluated(files, table, channels, row, crops, labels, detections, pairs)
    _check_same_errors(evaluated)
    return evaluated


def _rows(
    files: EvaluationFiles, table: KeypointTable, crops: InstanceCrops | None, found_ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the image row of every sample, after a check that the file has the samples that were scored."""
    if not files.has_labels:
        return table.rows_of(found_ids.tolist())
    row = np.arange(len(table.image_ids)) if crops is None else crops.row
    if not np.array_equal(table.image_ids[row], found_ids):
        kind = "images" if crops is None else "labelled instances"
        raise ValueError(
            f"{files.folder / PREDICTIONS_FILE}: expected one entry for each of the {len(row)} {kind} of "
            f"{table.json_path} in its order, got {len(found_ids)} entries of others; give the COCO file that"
            f" was scored, or {SCORE_AGAIN}"
        )
    return row


def _labels(
    files: EvaluationFiles, table: KeypointTable, channels: Channels, crops: InstanceCrops | None
) -> LabelRows:
    """Return the labels of all channels; without labels of their own, those of the image of a sample."""
    sample_of_point = np.repeat(np.arange(len(table.image_ids)), np.diff(table.first_point))
    if crops is not None:
        sample_of_instance = np.full(len(table.area), -1)
        sample_of_instance[crops.instance] = np.arange(len(crops))
        sample_of_point = sample_of_instance[table.instance]
    feeds = np.array([[name in channel for name in table.names] for channel in channels], bool)
    channel, point = np.nonzero(feeds[:, table.name_index])
    order = np.lexsort((point, channel, sample_of_point[point]))
    channel, point = channel[order], point[order]
    length = np.full(len(point), np.nan, np.float32)
    text = files.report["contract"].get("pck", {}).get("length")
    if text is not None:
        length = instance_lengths(table, _normalizer(text))[table.instance[point]]
    sample = sample_of_point[point]
    xy = table.xy[point]
    if files.has_labels:
        xy = _as_scored(files, table, crops, sample, xy)
    return LabelRows(sample, channel, xy, table.visibility[point], length, point)


def _as_scored(
    files: EvaluationFiles,
    table: KeypointTable,
    crops: InstanceCrops | None,
    sample: NDArray[np.int64],
    xy: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the labels as the scores saw them: into the network's frame and back, rounded to float32 there.

    The difference is some 1e-5 px, but a distance of exactly the limit of a PCK must fall on the same side.
    """
    size = files.report["inference"].get("image_size")
    if crops is None:
        sizes = [(int(height), int(width)) for height, width in table.image_hw]
        to_input = [letterbox_affine(image_hw, tuple(size) if size else image_hw) for image_hw in sizes]
    else:
        to_input = [box_affine(box, tuple(size), crops.padding) for box in crops.box]
    if not len(xy):
        return xy
    back = np.stack([invert(affine) for affine in to_input]).astype(np.float32)
    in_frame = transform_points(np.stack(to_input)[sample], xy).astype(np.float32)
    scored = transform_points(torch.from_numpy(back[sample]), torch.from_numpy(in_frame))
    return scored.double().numpy()


def _detections(files: EvaluationFiles, names: list[str]) -> DetectionRows:
    rows = []
    for sample, entry in enumerate(files.found):
        if list(entry.channels) != names:
            raise ValueError(
                f"{files.folder / PREDICTIONS_FILE}: entry {sample}, field 'channels': expected "
                f"{', '.join(names)}, got {', '.join(entry.channels) or 'none'}; {SCORE_AGAIN}"
            )
        rows += [
            (sample, channel, point.x, point.y, point.score, point.visibility)
            for channel, points in enumerate(entry.channels.values())
            for point in points
        ]
    table = np.array(rows, np.float64).reshape(-1, 6)
    sample, channel = table[:, :2].T.astype(np.int64)
    return DetectionRows(sample, channel, table[:, 2:4], table[:, 4], occluded=table[:, 5] == 1)


def _normalizer(text: str) -> LengthNormalizer:
    """Return the normaliser that `LengthNormalizer.describe` gave this text for."""
    for name in NORMALIZERS:
        if LengthNormalizer(name).describe() == text:
            return LengthNormalizer(name)
    ends = re.fullmatch('distance "(.*)" - "(.*)"', text)
    if ends is None:
        raise ValueError(f"expected a length of PCK that this version knows, got {text!r}; {SCORE_AGAIN}")
    return LengthNormalizer("reference", (ends[1], ends[2]))


def _check_same_errors(evaluated: Evaluated) -> None:
    """Refuse labels and detections that do not give the distances that were scored, sample by sample."""
    mean, missed = evaluated.statistic("mean_error_px"), evaluated.statistic("missed")
    if mean is None or missed is None:
        return
    pairs, sample, q = evaluated.pairs, evaluated.labels.sample, len(evaluated.row)
    total = np.bincount(sample, np.nan_to_num(pairs.distance), q)
    lost = np.bincount(sample, pairs.missed, q)
    before, lost_before = mean.numerator[:, 0].numpy(), missed.numerator[:, 0].numpy()
    same = len(before) == q
    if same:
        wrong = (np.abs(total - before) > SAME_ERROR * (1 + before)) | (lost != lost_before)
        same = not wrong.any()
    if not same:
        raise ValueError(
            f"{evaluated.files.folder}: {PREDICTIONS_FILE} and {evaluated.table.json_path} give other errors "
            f"than those that were scored; give the COCO file as it was then, or {SCORE_AGAIN}"
        )
