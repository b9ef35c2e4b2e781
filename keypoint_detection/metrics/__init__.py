"""The numbers that a detector is judged by: each a pure function and a thin torchmetrics class."""

from keypoint_detection.metrics.average_precision import KeypointAveragePrecision, keypoint_average_precision
from keypoint_detection.metrics.bootstrap import bootstrap_interval
from keypoint_detection.metrics.keypoint_errors import KeypointErrorTable
from keypoint_detection.metrics.matching_rule import similarity_of_thresholds
from keypoint_detection.metrics.mean_error import KeypointMeanError, keypoint_mean_error
from keypoint_detection.metrics.normalized_mean_error import NormalizedMeanError
from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision, oks_average_precision
from keypoint_detection.metrics.oks_sigmas import resolve_oks_sigmas
from keypoint_detection.metrics.pck import (
    PercentageOfCorrectKeypoints,
    box_diagonal,
    box_side,
    head_size,
    image_diagonal,
    percentage_of_correct_keypoints,
)
from keypoint_detection.metrics.rmse import KeypointRMSE, keypoint_rmse

__all__ = [
    "KeypointAveragePrecision",
    "KeypointErrorTable",
    "KeypointMeanError",
    "KeypointRMSE",
    "NormalizedMeanError",
    "OKSAveragePrecision",
    "PercentageOfCorrectKeypoints",
    "bootstrap_interval",
    "box_diagonal",
    "box_side",
    "head_size",
    "image_diagonal",
    "keypoint_average_precision",
    "keypoint_mean_error",
    "keypoint_rmse",
    "oks_average_precision",
    "percentage_of_correct_keypoints",
    "resolve_oks_sigmas",
    "similarity_of_thresholds",
]
