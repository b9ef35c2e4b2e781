"""DetectionScores: the metrics of one stage behind one update, with the names that every report uses."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from keypoint_detection.geometry import transform_points
from keypoint_detection.metrics import KeypointAveragePrecision, KeypointMeanError, KeypointRMSE
from keypoint_detection.metrics.average_precision import similarity_of_thresholds

if TYPE_CHECKING:
    from keypoint_detection.data.coco_dataset import Batch


class DetectionScores(nn.Module):
    """Collect detections in original pixels and give AP, mean error and RMSE, over all and per channel.

    Args:
        channel_names: The label of each channel.
        thresholds: AP thresholds: original-image pixels, or OKS when all are below 1.
    """

    def __init__(self, channel_names: Sequence[str], thresholds: Sequence[float]) -> None:
        super().__init__()
        self.channel_names, self.thresholds = list(channel_names), list(thresholds)
        self.similarity = similarity_of_thresholds(thresholds)
        self.average_precision = KeypointAveragePrecision(len(channel_names), thresholds, self.similarity)
        self.mean_error = KeypointMeanError(len(channel_names))
        self.rmse = KeypointRMSE(len(channel_names))

    def update(self, keypoints: Tensor, scores: Tensor, batch: "Batch", required_visibility: int) -> None:
        """Add the detections of a batch.

        Args:
            keypoints: `[n, c, k, 2]` in original pixels, NaN where there is none.
            scores: `[n, c, k]` in [0, 1].
            batch: The batch that they come from.
            required_visibility: Labels below this flag count as absent.
        """
        visibility = batch["visibility"] * (batch["visibility"] >= required_visibility)
        target = transform_points(batch["to_image"], batch["keypoints"].to(batch["to_image"].dtype))
        scale = batch["keypoint_area"] if self.similarity == "oks" else None
        self.average_precision.update(keypoints, scores, target, visibility, scale)
        self.mean_error.update(keypoints, scores, target, visibility)
        self.rmse.update(keypoints, scores, target, visibility)

    def reset(self) -> None:
        """Forget everything collected."""
        for metric in (self.average_precision, self.mean_error, self.rmse):
            metric.reset()

    def compute(self) -> dict[str, float]:
        """Return plain numbers by name, such as `map`, `ap@2px`, `stem/ap@2px`, `mean_error_px`, `missed`."""
        metrics: tuple[Any, ...] = (self.average_precision, self.mean_error, self.rmse)
        precision, error, rmse = (metric.compute() for metric in metrics)
        values = {"map": float(precision["map"]), "mean_error_px": float(error["value"])}
        values |= {"rmse_px": float(rmse["value"]), "missed": float(error["missed"])}
        table = precision["ap"]
        for index, threshold in enumerate(self.thresholds):
            values[self.ap_name(threshold)] = _nanmean(table[:, index])
        for index, name in enumerate(self.channel_names):
            values |= {
                f"{name}/{self.ap_name(t)}": float(table[index, j]) for j, t in enumerate(self.thresholds)
            }
            values[f"{name}/map"] = float(table[index].mean())
            values[f"{name}/mean_error_px"] = float(error["per_channel"][index])
            values[f"{name}/rmse_px"] = float(rmse["per_channel"][index])
        return values

    def ap_name(self, threshold: float) -> str:
        """Return `ap@2px` or `ap@oks0.5`."""
        return f"ap@oks{threshold:g}" if self.similarity == "oks" else f"ap@{threshold:g}px"


def _nanmean(values: Tensor) -> float:
    return float(torch.nanmean(values.double()))
