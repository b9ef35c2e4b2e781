"""The images of a report: their errors and their pictures."""

from pathlib import Path

import numpy as np
import pytest
from test_evaluation_run import checkpoint, faces_json
from test_report_content import boxes, content_of, faces, scored

from keypoint_detection.report_images import make_pictures

__all__ = ["boxes", "checkpoint", "faces", "faces_json", "scored"]  # fixtures


def test_the_errors_of_the_images_are_those_of_the_table(scored: tuple[Path, Path]) -> None:
    folder, labels = scored
    content, evaluated = content_of(folder, labels)
    distance, row = evaluated.pairs.distance, evaluated.row[evaluated.labels.sample]
    there = ~np.isnan(distance)
    for index, image in enumerate(content["images"]):
        mine = distance[there & (row == index)]
        wanted = (None, None) if not len(mine) else (mine.mean(), mine.max())
        assert (image["error"], image["worst"]) == pytest.approx(wanted, abs=1e-6)


def test_one_progress_bar_for_all_pictures(
    boxes: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    _, evaluated = content_of(boxes, boxes_json)
    pictures = make_pictures(evaluated, [4, 1])
    assert list(pictures) == list(range(6))
    assert all(picture.jpeg for picture in pictures.values())
    assert capsys.readouterr().err.count("thumbnails:   0%") == 1
    assert len(make_pictures(evaluated, range(6))) == 6
    assert not capsys.readouterr().err
