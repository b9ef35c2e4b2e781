"""The worst images of an evaluation of visibility as pictures: image, truth and prediction."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from scipy.special import expit

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.visibility.evaluate_files import PointEvaluation
from keypoint_detection.visibility.pictures import compare_points
from keypoint_detection.visibility.report_html import ImageRow, ShownImage

LONGEST_PX = 400
"""Longer side of each of the three pictures of an image."""

_QUALITY = 82


def worst_pictures(
    evaluation: PointEvaluation, rows: Sequence[ImageRow], folder: Path, most: int
) -> list[ShownImage]:
    """Return pictures of the images with the greatest loss, worst first.

    Args:
        evaluation: The points and what was said of them.
        rows: Of the images.
        folder: To which the names of the images are relative.
        most: Most pictures.
    """
    ranked = sorted(rows, key=lambda row: -row.loss)[:most]
    return [_shown(evaluation, row, folder) for row in ranked]


def _shown(evaluation: PointEvaluation, row: ImageRow, folder: Path) -> ShownImage:
    table = evaluation.table
    chosen = table.image == row.image
    image = load_image(folder / row.name)
    p_visible = expit(evaluation.logits[chosen])
    picture = compare_points(image, table.xy[chosen], table.label[chosen], p_visible, longest_px=LONGEST_PX)
    _, jpeg = cv2.imencode(".jpg", picture[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))
    n_wrong = round(row.n_points * (1 - row.accuracy))
    note = f"{row.view}: {n_wrong} of {row.n_points} points wrong, loss {row.loss:.3f}"
    if row.distance is not None:
        note += f", visibility {row.distance}"
    return ShownImage(row.name, note, np.asarray(jpeg).tobytes())
