"""People and where they look: the table, its parts and its file, under one name."""

from keypoint_detection.gaze.people_file import read_table, write_table
from keypoint_detection.gaze.people_parts import drop_outliers, sample_frames, split, subsample
from keypoint_detection.gaze.people_table import INSIDE, OUTSIDE, UNKNOWN, GazeTable, check, concat

__all__ = [
    "INSIDE",
    "OUTSIDE",
    "UNKNOWN",
    "GazeTable",
    "check",
    "concat",
    "drop_outliers",
    "read_table",
    "sample_frames",
    "split",
    "subsample",
    "write_table",
]
