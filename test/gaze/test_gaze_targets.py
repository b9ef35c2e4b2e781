import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.gaze.gaze_targets import (
    one_annotator,
    target_maps,
    to_map_pixels,
    to_scene_pixels,
)
from keypoint_detection.utils.heatmap import extract_keypoints

NAN = float("nan")


def test_the_corners_of_the_scene_are_those_of_the_map() -> None:
    corners = torch.tensor([[-0.5, -0.5], [223.5, 111.5]])
    on_map = to_map_pixels(corners, (112, 224), (32, 64))
    assert on_map.tolist() == [[-0.5, -0.5], [63.5, 31.5]]
    assert to_map_pixels(torch.tensor([10.0, 10.0]), (112, 224), (28, 112)).tolist() == [4.75, 2.125]


@given(st.floats(-1, 300), st.floats(-1, 300), st.integers(8, 300), st.integers(8, 300))
def test_there_and_back(x: float, y: float, height: int, width: int) -> None:
    point = torch.tensor([x, y], dtype=torch.float64)
    there = to_map_pixels(point, (height, width), (64, 48))
    torch.testing.assert_close(to_scene_pixels(there, (height, width), (64, 48)), point)


def slow_map(
    points: np.ndarray, scene_hw: tuple[int, int], map_hw: tuple[int, int], sigma: float
) -> np.ndarray:
    """Return the sum of the Gaussians of the points that are there, over its maximum, pixel by pixel."""
    total = np.zeros(map_hw)
    for x, y in points[np.isfinite(points).all(1)]:
        u = (x + 0.5) * map_hw[1] / scene_hw[1] - 0.5
        v = (y + 0.5) * map_hw[0] / scene_hw[0] - 0.5
        for row in range(map_hw[0]):
            for column in range(map_hw[1]):
                total[row, column] += np.exp(-((column - u) ** 2 + (row - v) ** 2) / (2 * sigma**2))
    return total / total.max() if total.max() > 0 else total


def test_maps_are_those_of_a_slow_reference() -> None:
    rng = np.random.default_rng(0)
    scene_hw, map_hw = (90, 130), (24, 32)
    gaze = rng.uniform(-0.5, 89.5, (5, 3, 2))
    gaze[1, 2], gaze[2] = NAN, NAN
    gaze[3, 1, 0] = NAN  # half a point is none
    maps = target_maps(torch.tensor(gaze), scene_hw, map_hw, 2.0)
    assert maps.shape == (5, 1, 24, 32)
    assert maps.dtype == torch.float32
    for row, points in zip(maps[:, 0].numpy(), gaze, strict=True):
        np.testing.assert_allclose(row, slow_map(points, scene_hw, map_hw, 2.0), atol=1e-5)
    assert maps[2].abs().max() == 0
    assert maps.amax((1, 2, 3))[[0, 1, 3, 4]].tolist() == [1.0] * 4


def test_a_single_point_is_decoded_to_where_it_was() -> None:
    gaze = torch.tensor([[[70.3, 41.9]], [[11.2, 88.0]]])
    maps = target_maps(gaze, (96, 120), (64, 64), 3.0)
    assert maps.amax((2, 3)).tolist() == [[1.0], [1.0]]  # also where the point lies between pixels
    found, _ = extract_keypoints(maps, 1)
    torch.testing.assert_close(to_scene_pixels(found[:, :, 0], (96, 120), (64, 64)), gaze, atol=0.05, rtol=0)


def test_two_answers_give_two_peaks_of_which_the_more_frequent_is_higher() -> None:
    gaze = torch.tensor([[[8.0, 16.0], [24.0, 16.0], [24.0, 16.0]]])
    (row,) = target_maps(gaze, (32, 32), (32, 32), 2.0)[:, 0, 16]
    assert row[24] == 1
    assert row[8].item() == pytest.approx(0.5, abs=1e-5)
    assert row[16] < 0.001


def test_annotators_are_drawn_as_often_as_they_are() -> None:
    torch.manual_seed(0)
    gaze = torch.full((3000, 3, 2), NAN)
    gaze[:, 0], gaze[:, 2] = 1.0, 2.0  # the second of three is missing
    drawn = one_annotator(gaze)
    assert drawn.shape == (3000, 1, 2)
    assert drawn.isfinite().all()
    share = (drawn[:, 0, 0] == 2).float().mean().item()
    assert 0.46 < share < 0.54  # 4 standard deviations are 0.037


def test_nobody_is_invented_where_there_is_no_annotator() -> None:
    drawn = one_annotator(torch.full((4, 2, 2), NAN))
    assert drawn.isnan().all()
    half = torch.tensor([[[NAN, 3.0], [4.0, 5.0]]])
    assert all(one_annotator(half)[0, 0].tolist() == [4.0, 5.0] for _ in range(10))


def test_the_generator_says_who_is_drawn() -> None:
    gaze = torch.arange(80.0).reshape(20, 2, 2)
    first, again, other = (one_annotator(gaze, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
