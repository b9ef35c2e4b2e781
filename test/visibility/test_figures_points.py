from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.metrics.binary_classification import calibration_bins
from keypoint_detection.utils.colours import channel_colors
from keypoint_detection.visibility.distance import UNKNOWN, DistanceEstimate
from keypoint_detection.visibility.figures_points import (
    _wilson,
    draw_calibration,
    draw_distance_histogram,
    draw_distances,
)


def count_of(path: Path, color: tuple[int, int, int]) -> int:
    image = cv2.imread(str(path))
    assert image is not None
    return int((np.asarray(image)[..., ::-1] == np.array(color)).all(-1).sum())


BLUE, ORANGE = (0, 114, 178), (230, 159, 0)


def test_histograms_are_split_by_the_truth(tmp_path: Path) -> None:
    depth = np.geomspace(100, 10_000, 200)
    p = np.linspace(1, 0, 200)
    path = tmp_path / "a.png"
    draw_distance_histogram(depth, p, path, label=(depth < 1000).astype(int))
    blue, orange = count_of(path, BLUE), count_of(path, ORANGE)
    assert blue == pytest.approx(orange, rel=0.25)  # as many of both, and a dashed line
    draw_distance_histogram(depth, p, path, label=(depth < 200).astype(int))
    assert count_of(path, BLUE) < 0.45 * blue
    draw_distance_histogram(depth, p, path)
    assert count_of(path, BLUE) > 1.6 * blue


def test_points_without_a_distance_are_left_out(tmp_path: Path) -> None:
    depth, p = np.array([100.0, 1000, 5000]), np.array([0.9, 0.5, 0.1])
    draw_distance_histogram(depth, p, tmp_path / "a.png", label=np.array([1, 1, 0]))
    draw_distance_histogram(
        np.append(depth, [np.nan, np.inf, -1]),
        np.append(p, [1, 1, 1]),
        tmp_path / "b.png",
        label=[1, 1, 0, 1, 1, 1],
    )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    draw_distance_histogram([np.nan], [0.5], tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 1000


def test_calibration_draws_with_empty_bins_and_wilson_is_right(tmp_path: Path) -> None:
    logits = np.array([-3.0, -3, -3, 3, 3, 0.1])
    draw_calibration(calibration_bins(logits, np.array([0, 0, 1, 1, 1, 0])), tmp_path / "a.png")
    assert count_of(tmp_path / "a.png", BLUE) > 500
    # 8 of 10: the published example gives 0.490 to 0.943
    low, high = _wilson(np.array([0.8]), np.array([10]))
    assert (low[0], high[0]) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))


def test_distances_have_a_colour_per_view_and_unknown_ones_are_left_out(tmp_path: Path) -> None:
    near = DistanceEstimate(1000.0, 900.0, 1100.0, False, False)
    above = DistanceEstimate(9000.0, 8000.0, np.inf, True, False)
    path = tmp_path / "a.png"
    draw_distances([1000.0, 20_000.0], [near, above], path, views=["a", "b"])
    before = count_of(path, channel_colors(2)[1])
    assert count_of(path, channel_colors(2)[0]) > 20
    assert before > 20
    draw_distances(
        [1000.0, 20_000.0, np.nan, 50.0],
        [near, above, near, UNKNOWN],
        tmp_path / "b.png",
        views=["a", "b", "a", "b"],
    )
    assert path.read_bytes() == (tmp_path / "b.png").read_bytes()
    draw_distances([], [], path)
    with pytest.raises(ValueError, match="as many estimates and views"):
        draw_distances([1.0], [], path)
