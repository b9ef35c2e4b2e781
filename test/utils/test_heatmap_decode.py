import math
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.heatmap import find_peaks
from reference.heatmap_cases import DTYPES, draw, found
from torch import Tensor

from keypoint_detection.utils import heatmap, heatmap_decode
from keypoint_detection.utils.heatmap import extract_keypoints


def assert_equals_reference(maps: Tensor, min_distance_px: int, threshold: float, max_keypoints: int) -> None:
    keypoints, scores = extract_keypoints(maps, max_keypoints, min_distance_px, threshold, "none")
    for index in np.ndindex(*maps.shape[:2]):
        expected = find_peaks(maps[index].double().numpy(), min_distance_px, threshold)[:max_keypoints]
        padding = [(math.nan, math.nan, 0.0)] * (max_keypoints - len(expected))
        actual = torch.cat([keypoints[index], scores[index][:, None]], 1)
        np.testing.assert_allclose(actual, np.array(expected + padding), rtol=1e-6)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    levels=st.sampled_from([2, 3, 6, 1000]),
    min_distance_px=st.integers(0, 4),
    max_keypoints=st.integers(1, 12),
)
def test_peaks_equal_slow_reference(seed, size, levels, min_distance_px, max_keypoints) -> None:
    random = np.random.default_rng(seed)
    maps = random.integers(0, levels, (2, 2, *size)) / levels
    maps[random.random(maps.shape) < 0.05] = np.nan
    assert_equals_reference(torch.from_numpy(maps).float(), min_distance_px, 0.2001, max_keypoints)


@pytest.mark.parametrize("blur", [1, 3, 7])
def test_peaks_of_smooth_noise_equal_slow_reference(blur: int) -> None:
    noise = torch.rand(4, 2, 40, 33, generator=torch.Generator().manual_seed(blur))
    maps = torch.nn.functional.avg_pool2d(noise, blur, stride=1, padding=blur // 2).bfloat16()
    assert_equals_reference(maps, 1, 0.3, 40)
    assert_equals_reference(maps, 5, 0.3, 40)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(1, 30),
    levels=st.sampled_from([2, 6, 1000]),
    min_distance_px=st.integers(0, 4),
    max_keypoints=st.integers(1, 4),
    refine=st.sampled_from(["none", "taylor"]),
)
def test_looking_at_the_highest_rows_first_changes_nothing(
    *, seed, height, levels, min_distance_px, max_keypoints, refine
) -> None:
    random = np.random.default_rng(seed)
    maps = random.integers(0, levels, (2, 3, height, 6)) / levels
    maps[:, 1] *= np.linspace(0, 1, height)[:, None] ** 4  # few rows reach far
    maps[:, 2] = np.exp(-((np.indices((height, 6))[0] - height / 2) ** 2) / 50)  # one peak in many rows
    for value in (np.nan, np.inf, 1.0):
        maps[random.random(maps.shape) < 0.01] = value
    planes = torch.from_numpy(maps).float()
    found = []
    for rows in ((), (1, 2), (1, 3, 5)):
        with patch.object(heatmap_decode, "ROWS_PER_PEAK", rows):
            found.append(extract_keypoints(planes, max_keypoints, min_distance_px, 0.1, refine))
            if refine == "none":
                assert_equals_reference(planes, min_distance_px, 0.1, max_keypoints)
    for keypoints, scores in found[1:]:
        assert torch.equal(scores, found[0][1])
        assert torch.equal(keypoints.nan_to_num(-1), found[0][0].nan_to_num(-1))


def test_noise_is_not_looked_at_as_a_whole() -> None:
    maps = torch.rand(2, 2, 400, 50, generator=torch.Generator().manual_seed(0))
    with patch.object(heatmap_decode, "_merge_plateaus", wraps=heatmap_decode._merge_plateaus) as merge:
        extract_keypoints(maps, 2)
    (call,) = merge.call_args_list  # the first few rows had enough peaks
    assert 4 * 2 <= len(call.args[1]) < 4 * 40
    assert len(find_peaks(maps[0, 0].double().numpy(), 0, 0.01)) > 2000


def test_work_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    whole = extract_keypoints(maps, 10, 3)
    monkeypatch.setattr(heatmap, "PIXELS_AT_ONCE", 900)
    monkeypatch.setattr(heatmap_decode, "WINDOW_PIXELS_AT_ONCE", 30)
    parts = extract_keypoints(maps, 10, 3)
    torch.testing.assert_close(parts[0], whole[0], rtol=0, atol=1e-4, equal_nan=True)
    assert torch.equal(parts[1], whole[1])


@pytest.mark.parametrize("min_distance_px", [1, 5])
@pytest.mark.parametrize("pixel", [(0, 0), (0, 6), (9, 0), (9, 6), (0, 3), (5, 6)])
def test_peak_on_the_border_counts(pixel: tuple[int, int], min_distance_px: int) -> None:
    maps = torch.zeros(1, 1, 10, 7)
    maps[0, 0, pixel[0], pixel[1]] = 0.7
    for refine in ("none", "quarter", "taylor"):
        keypoints, scores = extract_keypoints(maps, 3, min_distance_px, refine=refine)
        assert keypoints[0, 0, 0].tolist() == pytest.approx([pixel[1], pixel[0]], abs=0.1)
        assert scores[0, 0].tolist() == pytest.approx([0.7, 0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("refine", ["none", "quarter", "taylor"])
@pytest.mark.parametrize(("corner", "side"), [((4, 7), 5), ((4, 7), 4), ((6, 8), 2)])
def test_saturated_block_is_one_detection(dtype, refine: str, corner: tuple[int, int], side: int) -> None:
    maps = torch.zeros(1, 1, 20, 23, dtype=dtype)
    maps[..., corner[0] : corner[0] + side, corner[1] : corner[1] + side] = 1.0
    (detection,) = found(maps, refine=refine)
    middle = (side - 1) / 2
    assert detection == pytest.approx([corner[1] + middle, corner[0] + middle], abs=1e-3)


def test_saturated_block_in_a_corner_is_one_detection() -> None:
    maps = torch.zeros(1, 1, 20, 23)
    maps[..., 11:, 14:] = 1.0
    (detection,) = found(maps)
    assert detection == pytest.approx([18, 15], abs=1.0)  # whether its top goes on outside is unknown


def test_winding_plateau_is_one_peak_at_its_centre_of_mass() -> None:
    rows = ["11111", "00001", "11111", "10000", "11111"]
    maps = torch.tensor([[float(pixel) for pixel in row] for row in rows])[None, None]
    (detection,) = found(maps, refine="none")
    assert detection == pytest.approx([2.0, 2.0])
    assert len(found(maps.transpose(2, 3), refine="none")) == 1


def test_plateau_below_a_higher_pixel_is_no_peak() -> None:
    maps = torch.zeros(1, 1, 5, 9)
    maps[0, 0, 2, 1:7] = 0.5
    maps[0, 0, 2, 7] = 0.6
    assert found(maps, refine="none") == [[7.0, 2.0]]


@pytest.mark.parametrize(("value", "count"), [(0.0, 0), (0.01, 0), (0.5, 1), (1.0, 1), (math.nan, 0)])
@pytest.mark.parametrize("refine", ["none", "quarter", "taylor"])
def test_constant_map(value: float, count: int, refine: str) -> None:
    detections = found(torch.full((1, 1, 12, 17), value), refine=refine)
    assert len(detections) == count
    if count:
        assert detections[0] == pytest.approx([8.0, 5.5], abs=0.2)


@pytest.mark.parametrize(
    ("min_distance_px", "columns"), [(0, [3, 6, 12]), (2, [3, 6, 12]), (3, [3, 12]), (20, [3])]
)
def test_suppression_within_the_distance(min_distance_px: int, columns: list[int]) -> None:
    maps = torch.zeros(1, 1, 9, 16)
    maps[0, 0, 4, [3, 6, 12]] = torch.tensor([0.9, 0.8, 0.7])
    assert found(maps, 20, min_distance_px, refine="none") == [[column, 4.0] for column in columns]


def test_suppression_window_is_square() -> None:
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, 2, 2], maps[0, 0, 6, 6] = 0.9, 0.8
    assert len(found(maps, 20, 4)) == 1
    assert len(found(maps, 20, 3)) == 2


def test_equal_peaks_in_reading_order() -> None:
    maps = torch.zeros(1, 1, 12, 12)
    maps[0, 0, [9, 2, 2, 6], [1, 10, 4, 6]] = torch.tensor([0.5, 0.5, 0.5, 0.8])
    assert found(maps, refine="none") == [[6, 6], [4, 2], [10, 2], [1, 9]]
    assert found(maps, 2, refine="none") == [[6, 6], [4, 2]]
    maps[0, 0, 6, 6] = 0.0
    assert found(maps, 20, 6, refine="none") == [[4, 2], [1, 9]]


def test_threshold_is_absolute_and_exclusive() -> None:
    maps = torch.zeros(1, 2, 9, 9)
    maps[0, 0, 4, 4], maps[0, 1, 2, 2], maps[0, 1, 6, 6] = 1.0, 0.3, 0.25
    _, scores = extract_keypoints(maps, 3, threshold=0.25)
    torch.testing.assert_close(scores, torch.tensor([[[1.0, 0, 0], [0.3, 0, 0]]]))


def test_more_keypoints_asked_than_pixels() -> None:
    maps = torch.rand(2, 1, 2, 3, generator=torch.Generator().manual_seed(1))
    keypoints, scores = extract_keypoints(maps, max_keypoints=50)
    assert keypoints.shape == (2, 1, 50, 2)
    assert (scores[..., 0] == maps.flatten(2).amax(2)).all()
    assert keypoints[..., 6:, :].isnan().all()
    assert scores[..., 6:].eq(0).all()


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 0, 8, 8)])
def test_decode_nothing(shape: tuple[int, ...]) -> None:
    keypoints, scores = extract_keypoints(torch.zeros(shape), 4)
    assert keypoints.shape == (*shape[:2], 4, 2)
    assert scores.shape == (*shape[:2], 4)


def test_strong_channel_does_not_hide_a_weak_one() -> None:
    maps = torch.cat([draw([[5.0, 5.0]]), 0.02 * draw([[9.3, 11.8]])], 1)
    keypoints, scores = extract_keypoints(maps, 1)
    assert keypoints[0, :, 0].tolist() == [
        pytest.approx([5, 5], abs=1e-3),
        pytest.approx([9.3, 11.8], abs=1e-3),
    ]
    assert scores[0, 1, 0] < 0.02


def test_infinite_and_missing_pixels_do_not_crash() -> None:
    maps = draw([[8.0, 8.0]])
    maps[0, 0, 8, 10], maps[0, 0, 2, 2], maps[0, 0, 20, 20] = torch.nan, torch.inf, -torch.inf
    keypoints, scores = extract_keypoints(maps, 3)
    assert scores[0, 0].tolist() == [torch.inf, 1.0, 0.0]
    assert keypoints[0, 0, :2].flatten().tolist() == pytest.approx([2, 2, 8, 8], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine": "tailor"}, "unknown refine 'tailor'.*Did you mean 'taylor'"),
        ({"max_keypoints": 0}, "max_keypoints >= 1"),
        ({"min_distance_px": -1}, "min_distance_px >= 0"),
    ],
)
def test_decode_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_keypoints(torch.zeros(1, 1, 4, 4), **options)


@pytest.mark.parametrize("maps", [torch.zeros(4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)])
def test_decode_refuses_maps(maps: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected floating-point heatmaps \[n, c, h, w\]"):
        extract_keypoints(maps)
