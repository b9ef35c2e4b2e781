import numpy as np
import pytest

from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.utils.visualization import (
    draw_heatmap,
    draw_keypoints,
    draw_prediction,
    to_rgb,
)

GREY = np.full((40, 60, 3), 90, np.uint8)


def centroid_of_change(picture: np.ndarray, before: np.ndarray) -> tuple[float, float]:
    weight = np.abs(picture.astype(float) - before).sum(-1)
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return (columns * weight).sum() / weight.sum(), (rows * weight).sum() / weight.sum()


@pytest.mark.parametrize("enlarge", [1, 3])
def test_a_point_is_drawn_where_it_is(enlarge: int) -> None:
    picture = draw_keypoints(GREY, [np.array([[20.3, 17.6]])], enlarge=enlarge)
    assert picture.shape == (40 * enlarge, 60 * enlarge, 3)
    x, y = centroid_of_change(picture, np.full(picture.shape, 90.0))
    assert abs((x + 0.5) / enlarge - 0.5 - 20.3) < 0.15
    assert abs((y + 0.5) / enlarge - 0.5 - 17.6) < 0.15


def test_missing_and_unsure_points_are_left_out_and_the_image_stays() -> None:
    points = [np.array([[np.nan, np.nan], [20.0, 10.0]])]
    picture = draw_keypoints(GREY, points, [np.array([0.9, 0.05])])
    assert np.array_equal(picture, GREY)
    assert not np.array_equal(draw_keypoints(GREY, points, [np.array([0.9, 0.5])]), GREY)
    assert (GREY == 90).all()


def test_a_heatmap_of_another_stride_is_laid_over_at_its_place() -> None:
    heatmap = np.zeros((10, 15), np.float32)
    heatmap[4, 9] = 1.0
    before = draw_heatmap(GREY, np.zeros_like(heatmap))
    x, y = centroid_of_change(draw_heatmap(GREY, heatmap), before)
    assert (x, y) == pytest.approx(((9 + 0.5) * 4 - 0.5, (4 + 0.5) * 4 - 0.5), abs=0.1)


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (8, 9, 2), (8, 9, 4)])
def test_any_number_of_channels_becomes_rgb(shape: tuple[int, ...]) -> None:
    assert to_rgb(np.zeros(shape, np.uint8)).shape == (8, 9, 3)


def test_a_prediction_is_drawn_with_its_legend() -> None:
    prediction = Prediction(((Keypoint(30.0, 20.0, 0.9),), ()), ("stem", "leaf"), (40, 60))
    picture = draw_prediction(GREY, prediction)
    assert picture.shape == GREY.shape
    assert not np.array_equal(picture[15:26, 25:36], GREY[15:26, 25:36])
    assert not np.array_equal(picture[:15, :30], GREY[:15, :30])
