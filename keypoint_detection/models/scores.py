"""DetectionScores: the metrics of one stage behind one update, with the names that every report uses."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from keypoint_detection.geometry import transform_points
from keypoint_detection.metrics import KeypointAveragePrecision
from keypoint_detection.metrics.average_precision import similarity_of_thresholds
from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.error_statistics import error_statistics
from keypoint_detection.metrics.image_statistics import ImageStatistic
from keypoint_detection.metrics.keypoint_errors import KeypointErrorTable
from keypoint_detection.metrics.precision_recall import Interpolation
from keypoint_detection.metrics.visibility_scores import VisibilityTable
from keypoint_detection.metrics.visibility_statistics import visibility_statistics

if TYPE_CHECKING:
    from keypoint_detection.data.coco_dataset import Batch
    from keypoint_detection.models.detector import KeypointDetector

NUM_NEW = "num_new"
"""Entry of a batch: how many of its samples count; the others were scored by another process."""

DEFAULT_ALPHAS = (0.05, 0.1, 0.2)
"""Shares of the normalising length below which a keypoint is correct."""


def counted_samples(batch: "Batch | Mapping[str, Any]") -> Any:
    """Return how many samples of a batch count in a mean.

    It is a float because Lightning's mean over processes truncates a whole number.
    """
    return float(batch.get(NUM_NEW, len(batch["image"])))


class DetectionScores(nn.Module):
    """Collect detections in original pixels and give AP, PCK and errors, over all and per channel.

    Args:
        channel_names: The label of each channel.
        thresholds: AP thresholds: original-image pixels, or OKS when all are below 1.
        interpolation: Of the AP: "all" or "101".
        alphas: PCK thresholds, in units of the normalising length.
        scores_visibility: Also judge whether detections are told to be visible or occluded.
    """

    def __init__(
        self,
        channel_names: Sequence[str],
        thresholds: Sequence[float],
        interpolation: Interpolation = "all",
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        *,
        scores_visibility: bool = False,
    ) -> None:
        super().__init__()
        self.channel_names, self.thresholds = list(channel_names), list(thresholds)
        self.alphas = list(alphas)
        _check_names("AP thresholds", thresholds)
        _check_names("PCK thresholds (pck_alpha)", alphas)
        self.similarity = similarity_of_thresholds(thresholds)
        self.average_precision = KeypointAveragePrecision(
            len(channel_names), thresholds, self.similarity, interpolation=interpolation
        )
        self.errors = KeypointErrorTable(len(channel_names))
        self.visibility = VisibilityTable(len(channel_names)) if scores_visibility else None

    @staticmethod
    def options(scoring: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the arguments that the settings of a training (`ScoreConfig` by name) stand for."""
        names = {"interpolation": "ap_interpolation", "alphas": "pck_alpha"}
        return {ours: scoring[name] for ours, name in names.items() if scoring and name in scoring}

    def update(self, keypoints: Tensor, scores: Tensor, batch: "Batch", required_visibility: int) -> None:
        """Add the detections of a batch.

        Args:
            keypoints: `[n, c, k, 2]` in original pixels, NaN where there is none.
            scores: `[n, c, k]` in [0, 1], or with a minus where a keypoint is told to be occluded.
            batch: The batch that they come from; `keypoint_length` (without it, PCK is not defined),
                `crowd_box` and `image_id` (without it, every sample is an image of its own) may be missing.
                With `NUM_NEW`, only as many samples are added, the first ones.
            required_visibility: Labels below this flag are ignored: neither missed nor false.
        """
        new = slice(batch.get(NUM_NEW, len(keypoints)))
        keypoints, signed_scores = keypoints[new], scores[new]
        scores = signed_scores.abs()
        batch = {name: part[new] for name, part in batch.items() if name != NUM_NEW}  # pyright: ignore
        visibility = batch["visibility"]
        excluded = (visibility > 0) & (visibility < required_visibility)
        target = transform_points(batch["to_image"], batch["keypoints"].to(batch["to_image"].dtype))
        labels = (target, visibility)
        oks = {}
        if self.similarity == "oks":
            oks = {"scale": batch["keypoint_area"], "sigmas": batch["keypoint_sigma"]}
        regions = _padded(batch.get("crowd_box", ()), keypoints.device)
        self.average_precision.update(keypoints, scores, *labels, **oks, ignored=excluded, regions=regions)
        length = batch.get("keypoint_length")
        length = torch.full_like(target[..., 0], torch.nan) if length is None else length
        image = batch.get("image_id")
        self.errors.update(keypoints, scores, *labels, length=length, ignored=excluded, image=image)
        if self.visibility is not None:
            self.visibility.update(keypoints, signed_scores, *labels, ignored=excluded)

    def reset(self) -> None:
        """Forget everything collected."""
        self.average_precision.reset()
        self.errors.reset()
        if self.visibility is not None:
            self.visibility.reset()

    def statistics(self) -> list[ImageStatistic]:
        """Return every number as a function of how often each image counts; of this process alone."""
        names = tuple(self.channel_names)
        precision = AveragePrecisionStatistic(
            *self.average_precision.matches(),
            interpolation=self.average_precision.interpolation,
            channel_names=names,
            threshold_names=tuple(self.ap_name(threshold) for threshold in self.thresholds),
        )
        numbers = [precision, *error_statistics(self.errors.errors(), names, self.alphas)]
        if self.visibility is None:
            return numbers
        return [*numbers, *visibility_statistics(self.visibility.pairs(), names)]

    def compute(self) -> dict[str, float]:
        """Return plain numbers by name, such as `map`, `ap@2px`, `stem/ap@2px`, `mean_error_px`, `missed`.

        Over several processes the numbers are those of all of them together, bit for bit.
        """
        table = self.average_precision.compute()["ap"]
        values = {"map": _nanmean(table)}
        for index, threshold in enumerate(self.thresholds):
            values[self.ap_name(threshold)] = _nanmean(table[:, index])
        for index, name in enumerate(self.channel_names):
            values[f"{name}/map"] = float(table[index].mean())
            for column, threshold in enumerate(self.thresholds):
                values[f"{name}/{self.ap_name(threshold)}"] = float(table[index, column])
        names = tuple(self.channel_names)
        statistics: list[ImageStatistic] = [*error_statistics(self.errors.compute(), names, self.alphas)]
        if self.visibility is not None:
            statistics += visibility_statistics(self.visibility.compute(), names)
        for statistic in statistics:
            values |= dict(zip(statistic.columns, statistic.value().tolist(), strict=True))
        return values

    def ap_name(self, threshold: float) -> str:
        """Return `ap@2px` or `ap@oks0.5`."""
        return f"ap@oks{threshold:g}" if self.similarity == "oks" else f"ap@{threshold:g}px"


def scores_of(detector: "KeypointDetector") -> DetectionScores:
    """Return the scores that a detector is judged by, without any detection yet."""
    hparams = detector.hparams
    return DetectionScores(
        detector.channel_names,
        hparams["maximal_gt_keypoint_pixel_distances"],
        **DetectionScores.options(hparams["scoring"]),
        scores_visibility=detector.head.is_signed,
    )


def _check_names(kind: str, numbers: Sequence[float]) -> None:
    """Refuse numbers of which two would have the same name in a report, which has six digits."""
    if len({f"{number:g}" for number in numbers}) < len(numbers):
        listed = ", ".join(f"{number:g}" for number in numbers)
        raise ValueError(f"expected {kind} that differ in their first six digits, got {listed}")


def _padded(boxes: Sequence[Tensor], device: torch.device) -> Tensor | None:
    """Return boxes per image `[r, 4]` as one tensor `[n, most, 4]`, padded with NaN, or None without any."""
    most = max((len(box) for box in boxes), default=0)
    if not most:
        return None
    padded = torch.full((len(boxes), most, 4), torch.nan)
    for row, box in enumerate(boxes):
        padded[row, : len(box)] = box
    return padded.to(device)


def _nanmean(values: Tensor) -> float:
    return float(torch.nanmean(values.double()))
