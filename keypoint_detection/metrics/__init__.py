"""The numbers that a detector is judged by: each a pure function and a thin torchmetrics class."""

from keypoint_detection.metrics.average_precision import KeypointAveragePrecision, keypoint_average_precision
from keypoint_detection.metrics.matching_rule import similarity_of_thresholds
from keypoint_detection.metrics.mean_error import KeypointMeanError, keypoint_mean_error
from keypoint_detection.metrics.rmse import KeypointRMSE, keypoint_rmse

__all__ = [
    "KeypointAveragePrecision",
    "KeypointMeanError",
    "KeypointRMSE",
    "keypoint_average_precision",
    "keypoint_mean_error",
    "keypoint_rmse",
    "similarity_of_thresholds",
]
