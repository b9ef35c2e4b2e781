import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.visibility.pyramid_levels import average_blocks, average_depth, log_depth


def slow_averages(image: np.ndarray, factor: int) -> np.ndarray:
    rows, columns = (range(0, size, factor) for size in image.shape[:2])
    blocks = [[image[y : y + factor, x : x + factor].astype(float) for x in columns] for y in rows]
    return np.array([[block.mean((0, 1)) for block in row] for row in blocks])


def test_hand_worked_blocks_and_borders() -> None:
    image = np.array([[0, 4, 10], [8, 12, 30], [1, 3, 200]], np.uint8)
    assert average_blocks(image, 2).tolist() == [[6, 20], [2, 200]]
    assert average_blocks(image, 3).tolist() == [[30]]  # 268 / 9 = 29.8
    assert average_blocks(image, 9).tolist() == [[30]]
    assert np.array_equal(average_blocks(image, 1), image)


@given(
    st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 2, 3, 4, 8, 16, 32]), st.sampled_from([1, 3])
)
def test_averages_equal_slow_ones(height: int, width: int, factor: int, channels: int) -> None:
    rng = np.random.default_rng(height * 71 + width)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    ours = average_blocks(image, factor)
    assert ours.shape == (math.ceil(height / factor), math.ceil(width / factor), channels)
    assert ours.dtype == np.uint8
    assert np.abs(ours - slow_averages(image, factor)).max() <= 0.5 + 1e-6


def test_a_dot_keeps_its_place() -> None:
    image = np.zeros((60, 90), np.float32)
    image[20:23, 41:46] = 1  # centred at x 43, y 21
    small = average_blocks(image, 4)
    y, x = (float((grid * small).sum() / small.sum()) for grid in np.indices(small.shape))
    assert (x + 0.5) * 4 - 0.5 == pytest.approx(43, abs=0.8)
    assert (y + 0.5) * 4 - 0.5 == pytest.approx(21, abs=0.8)
    ramp = np.tile(np.arange(90, dtype=np.float32), (60, 1))
    assert average_blocks(ramp, 4)[0, 5] == (5 + 0.5) * 4 - 0.5


@pytest.mark.parametrize(
    ("depth_m", "code"),
    [
        (math.nan, 0),
        (math.inf, 0),
        (0.0, 0),
        (-3.0, 0),
        (0.2, 1),
        (1.0, 1),
        (math.sqrt(1e5), 128),
        (1e5, 255),
        (9e9, 255),
    ],
)
def test_depth_codes(depth_m: float, code: int) -> None:
    coded = average_depth(*log_depth(np.full((3, 5), depth_m)), 2)
    assert coded.dtype == np.uint8
    assert coded.tolist() == [[code] * 3] * 2


def test_depth_averages_logs_of_the_pixels_that_have_one() -> None:
    depth_m = np.array([[10.0, 1000.0, np.nan], [np.nan, np.nan, np.nan]])
    expected = 1 + round(254 * math.log(100) / math.log(1e5))
    assert average_depth(*log_depth(depth_m), 2).tolist() == [[expected, 0]]
    assert average_depth(*log_depth(depth_m.astype(np.float32)), 2).tolist() == [[expected, 0]]


def test_opencv_alone_is_no_plain_average_at_the_border() -> None:
    image = np.random.default_rng(0).integers(0, 256, (33, 45), dtype=np.uint8)
    naive = cv2.resize(image, (23, 17), interpolation=cv2.INTER_AREA)
    assert np.abs(naive - slow_averages(image, 2)).max() > 20
