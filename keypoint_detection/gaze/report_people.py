"""The best, the median and the worst people of an evaluation of gaze as pictures."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.gaze.evaluate import PeopleJudged
from keypoint_detection.gaze.evaluate_scores import Columns, counts
from keypoint_detection.gaze.overlays import draw_gaze
from keypoint_detection.gaze.people import INSIDE, OUTSIDE, GazeTable

LONGEST_PX = 480
"""Longer side of the picture of a person."""

_QUALITY = 84


class ShownPerson(NamedTuple):
    """Hold the picture of a person and what is said of it."""

    name: str
    note: str
    jpeg: bytes


def chosen_people(
    table: GazeTable, distance: NDArray[np.float64], p_in: NDArray[np.float64], most: int
) -> dict[str, list[int]]:
    """Return rows of people by kind: those farthest off first, the nearest to the median, the best.

    Nobody comes twice. People with equal numbers come in the order of their names.

    Args:
        table: The people.
        distance: To the nearest annotator, `[p]`; NaN for who does not count.
        p_in: Probability of looking into the picture, `[p]`.
        most: Most people of each kind.
    """
    known = sorted(np.flatnonzero(~np.isnan(distance)).tolist(), key=lambda row: table.person[row])
    ranked = sorted(known, key=lambda row: -distance[row])
    worst = ranked[:most]
    best = [row for row in sorted(known, key=lambda row: distance[row]) if row not in worst][:most]
    left = [row for row in ranked if row not in {*worst, *best}]
    middle = np.median(distance[known]) if known else 0.0
    median = sorted(left, key=lambda row: abs(distance[row] - middle))[:most]
    return {
        "Worst predictions": worst,
        "Median predictions": sorted(median, key=lambda row: -distance[row]),
        "Best predictions": best,
        "Most wrong about in and out": _wrong_in_out(table, p_in, most),
    }


def _wrong_in_out(table: GazeTable, p_in: NDArray[np.float64], most: int) -> list[int]:
    """Return who is on the wrong side of 1/2, the surest first."""
    error = np.select([table.in_frame == INSIDE, table.in_frame == OUTSIDE], [1 - p_in, p_in], 0.0)
    wrong = np.flatnonzero(error > 0.5).tolist()
    return sorted(wrong, key=lambda row: (-error[row], table.person[row]))[:most]


def show_person(
    table: GazeTable, judged: PeopleJudged, scores: Columns, row: int, folder: Path
) -> ShownPerson:
    """Return the picture of a person.

    Args:
        table: The people.
        judged: What is said of them.
        scores: Numbers of each, `[p]`.
        row: The person.
        folder: To which the names of the pictures are relative.
    """
    name = table.image_names[table.image[row]]
    image, prediction = load_image(folder / name), judged.predictions[row]
    picture = draw_gaze(
        image, table.head_box[row], table.eye_xy[row], prediction, table.gaze_xy[row], longest_px=LONGEST_PX
    )
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    return ShownPerson(table.person[row], _note(table, judged, scores, row), np.asarray(jpeg).tobytes())


def _note(table: GazeTable, judged: PeopleJudged, scores: Columns, row: int) -> str:
    one = judged.predictions[row]
    words = {INSIDE: "looks inside", OUTSIDE: "looks outside"}
    parts = [table.image_names[table.image[row]], words.get(int(table.in_frame[row]), "unknown where")]
    parts.append(f"said to be inside with {one.p_in:.2f}")
    if counts(table)[row]:
        n = int(table.n_annotators[row])
        parts.append(f"distance {scores['min_distance'][row]:.3f} to {n} annotator{'s' * (n != 1)}")
        parts.append(f"angle {scores['min_angle_deg'][row]:.1f} degrees, AUC {scores['auc'][row]:.3f}")
    if len(one.samples_xy) > 1:
        weights = " / ".join(f"{100 * weight:.0f} %" for weight in one.weights[:4])
        parts.append(f"spread {one.spread:.3f}, candidates {weights}")
    return ", ".join(parts)
