"""Run a detector over the samples of an evaluation, and collect what it found and how good it is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from keypoint_detection.data.coco_results import keypoint_results
from keypoint_detection.data.datamodule import make_dataloader
from keypoint_detection.evaluation_labels import EvaluationLabels, sample_scores
from keypoint_detection.metrics.image_statistics import ImageStatistic
from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.flip_test import forward_with_flip
from keypoint_detection.models.inference import decode_batch, decode_instances
from keypoint_detection.models.scores import DetectionScores, scores_of
from keypoint_detection.score_sheet import ReindexedStatistic, ScoreSheet


@dataclass(frozen=True)
class Found:
    """Hold what a detector found in q samples of c channels.

    Attributes:
        scores: The scores of the samples; None when they have no labels.
        channels: Per sample, the points of every channel as plain values.
        points: float64 `[q, c, 2]`, the best point of every channel in original pixels; none where the
            samples are no instances.
        point_scores: float64 `[q, c]`, likewise, in [0, 1].
        point_visibility: int64 `[q, c]`, COCO's flag of these points, 1 or 2; None if the detector does not
            tell occluded ones.
    """

    scores: DetectionScores | None
    channels: list[dict[str, Any]]
    points: NDArray[np.float64]
    point_scores: NDArray[np.float64]
    point_visibility: NDArray[np.int64] | None = None

    def sheet(self, labels: EvaluationLabels) -> ScoreSheet:
        """Return every score as a function of how often each image counts."""
        statistics: list[ImageStatistic] = []
        if self.scores is not None:
            samples = torch.from_numpy(labels.image_of_sample)
            statistics += [ReindexedStatistic(one, samples) for one in self.scores.statistics()]
        if not isinstance(labels.instances, str):
            statistics.append(self._oks_statistic(labels))
        return ScoreSheet(torch.from_numpy(labels.image_ids), labels.groups, tuple(statistics))

    def entries(self, labels: EvaluationLabels) -> list[dict[str, Any]]:
        """Return an entry per sample: a COCO result where instances are defined, and points by channel."""
        dataset = labels.dataset
        extra: list[dict[str, Any]] = [
            {"file_name": dataset.file_name(image_id), "channels": points}
            for image_id, points in zip(dataset.image_ids, self.channels, strict=True)
        ]
        if dataset.crops is not None:
            for entry, box in zip(extra, dataset.crops.box.tolist(), strict=True):
                entry["box"] = box
        if isinstance(labels.instances, str):
            return [
                {"image_id": image_id, **entry}
                for image_id, entry in zip(dataset.image_ids, extra, strict=True)
            ]
        order = labels.instances.channel_of_keypoint
        scores = self.point_scores[:, order]
        if self.point_visibility is not None:
            for entry, flags in zip(extra, self.point_visibility[:, order].tolist(), strict=True):
                entry["visibility"] = flags
        categories = np.full(len(extra), labels.instances.category_id)
        return keypoint_results(
            np.array(dataset.image_ids, np.int64),
            categories,
            self.points[:, order],
            scores,
            sample_scores(labels, scores),
            extra=extra,
        )

    def _oks_statistic(self, labels: EvaluationLabels) -> ImageStatistic:
        """Match the samples as instances, each image as a whole."""
        assert not isinstance(labels.instances, str)
        columns = labels.instances.channel_of_keypoint
        points, point_scores = self.points[:, columns], self.point_scores[:, columns]
        scores, image = sample_scores(labels, point_scores), labels.image_of_sample
        order = np.argsort(image, kind="stable")
        parts = np.split(order, np.searchsorted(image[order], np.arange(1, len(labels.image_ids))))
        ids = labels.image_ids.tolist()
        metric = OKSAveragePrecision(labels.instances.sigmas.tolist())
        metric.update(
            [{"keypoints": points[part], "scores": scores[part]} for part in parts],
            [{**labels.instances.targets[image_id], "image_id": image_id} for image_id in ids],
        )
        statistic, scored_ids = metric.statistic()
        rows = {image_id: row for row, image_id in enumerate(ids)}
        index = torch.tensor([rows[image_id] for image_id in scored_ids.tolist()], dtype=torch.int64)
        return ReindexedStatistic(statistic, index)


@torch.inference_mode()
def run_detector(
    detector: KeypointDetector,
    labels: EvaluationLabels,
    *,
    batch_size: int,
    num_workers: int,
    mirrored: Sequence[int] | None = None,
) -> Found:
    """Find the keypoints of every sample and score those that have labels.

    Args:
        detector: In eval mode.
        labels: The samples.
        batch_size: Samples per forward pass.
        num_workers: Loader processes.
        mirrored: For the flip test, the channel that each one becomes in a mirror; None goes without it.
    """
    scores = scores_of(detector).to(detector.device) if labels.has_labels else None
    channels, points, point_scores = [], [], []
    signed = detector.head.is_signed
    for batch, output in _outputs(detector, labels, batch_size, num_workers, mirrored):
        keypoints, confidence = decode_batch(detector, output, batch, signed=True)
        if scores is not None:
            scores.update(keypoints, confidence, batch, detector.required_visibility)  # pyright: ignore
        channels += _plain_points(detector.channel_names, keypoints.cpu(), confidence.cpu())
        if not isinstance(labels.instances, str):
            best, best_scores = decode_instances(detector, output, batch, signed=True)
            points.append(best.double().cpu().numpy())
            point_scores.append(best_scores.double().cpu().numpy())
    c = len(detector.channel_names)
    signed_scores = np.concatenate([np.zeros((0, c)), *point_scores])
    return Found(
        scores,
        channels,
        np.concatenate([np.zeros((0, c, 2)), *points]),
        np.abs(signed_scores),
        np.where(signed_scores < 0, 1, 2) if signed else None,
    )


def _outputs(
    detector: KeypointDetector,
    labels: EvaluationLabels,
    batch_size: int,
    num_workers: int,
    mirrored: Sequence[int] | None,
) -> Iterator[tuple[Mapping[str, Any], torch.Tensor]]:
    """Yield each batch on the detector's device, and what the detector gives for it."""
    device = detector.device
    loader = make_dataloader(labels.dataset, batch_size, num_workers=num_workers)
    for batch in tqdm(loader, desc="eval", leave=False):
        moved = {key: v.to(device) if isinstance(v, torch.Tensor) else v for key, v in batch.items()}
        image = moved["image"]
        yield moved, detector(image) if mirrored is None else forward_with_flip(detector, image, mirrored)


def _plain_points(
    channel_names: Sequence[str], keypoints: torch.Tensor, scores: torch.Tensor
) -> list[dict[str, Any]]:
    """Return `{channel: [{"x", "y", "score"}]}` for every sample of `[n, c, k, 2]` and `[n, c, k]`.

    A point whose score has a minus is occluded: its score is given without it, and `"visibility": 1` as well.
    """
    found = keypoints.isfinite().all(-1).tolist()
    rows = zip(keypoints.tolist(), scores.tolist(), found, strict=True)
    return [
        {
            name: [
                {"x": x, "y": y, "score": abs(score), **({"visibility": 1} if score < 0 else {})}
                for (x, y), score, there in zip(xy, confidence, kept, strict=True)
                if there
            ]
            for name, xy, confidence, kept in zip(channel_names, *row, strict=True)
        }
        for row in rows
    ]
