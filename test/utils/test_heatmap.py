import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.heatmap import draw_heatmap, find_peaks
from torch import Tensor

from keypoint_detection.utils import heatmap, heatmap_decode
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps, sigma_at_epoch

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def visible(keypoints: Tensor) -> Tensor:
    return torch.full(keypoints.shape[:-1], 2, dtype=torch.uint8)


def draw(points: list[list[float]], size: int = 24, sigma_px: float = 2.0) -> Tensor:
    """Draw one map `[1, 1, size, size]` with the points."""
    keypoints = torch.tensor(points)[None, None]
    return generate_heatmaps(keypoints, visible(keypoints), (size, size), sigma_px)


def found(maps: Tensor, *arguments, **options) -> list[list[float]]:
    """Return the detections `[x, y]` of a batch of one map."""
    keypoints, _ = extract_keypoints(maps, *arguments, **options)
    return keypoints[0, 0][~keypoints[0, 0, :, 0].isnan()].tolist()


# Encoding


def test_encode_hand_worked() -> None:
    keypoints = torch.tensor([[[[1.0, 2.0], [4.5, 2.0]], [[torch.nan, torch.nan], [3.0, 3.0]]]])
    maps = generate_heatmaps(keypoints, torch.tensor([[[2, 1], [0, 0]]]), (5, 7), 2.0)
    assert maps.shape == (1, 2, 5, 7)
    assert maps[0, 0, 2, 1] == 1.0
    assert maps[0, 0, 2, 4] == pytest.approx(math.exp(-0.25 / 8))
    assert maps[0, 0, 4, 3] == pytest.approx(
        math.exp(-(1.5**2 + 2**2) / 8)
    )  # 1.5 right and 2 down of the nearest
    assert maps[0, 1].eq(0).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 21), st.integers(1, 17)),
    sigma=st.floats(0.3, 6),
    k=st.integers(0, 9),
)
def test_encode_equals_dense_reference(seed: int, size: tuple[int, int], sigma: float, k: int) -> None:
    random = np.random.default_rng(seed)
    keypoints = random.uniform(-8, 28, (2, 2, k, 2)).astype(np.float32)  # inside, outside and on the border
    keypoints[random.random((2, 2, k)) < 0.2] = np.nan
    visibility = random.choice([0.0, 1.0, 2.0, np.nan], (2, 2, k))
    maps = generate_heatmaps(torch.from_numpy(keypoints), torch.from_numpy(visibility), size, sigma)
    for image in range(2):
        for channel in range(2):
            dense = draw_heatmap(keypoints[image, channel], visibility[image, channel], size, sigma)
            np.testing.assert_allclose(maps[image, channel], dense, rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_encode_dtype_and_crowded_channel(dtype: torch.dtype) -> None:
    # 200 windows of a 10x10 map do not fit into the memory of the output at once.
    keypoints = torch.rand(1, 2, 100, 2, generator=torch.Generator().manual_seed(0)) * 10
    maps = generate_heatmaps(keypoints, visible(keypoints), (10, 10), 1.5, dtype=dtype)
    dense = draw_heatmap(keypoints[0, 1].double().numpy(), np.full(100, 2.0), (10, 10), 1.5)
    assert maps.dtype == dtype
    np.testing.assert_allclose(maps[0, 1].float(), dense, rtol=0, atol=float(torch.finfo(dtype).eps))


def test_encode_leaves_only_the_flank_of_a_point_outside() -> None:
    maps = draw([[-2.0, 10.0], [1e30, 3.0], [torch.inf, 3.0]])
    assert maps[0, 0, 10, 0] == pytest.approx(math.exp(-0.5))
    assert maps[0, 0, :, 12:].max() < 1e-7


@pytest.mark.parametrize("shape", [(0, 3, 4, 2), (2, 3, 0, 2)])
def test_encode_nothing(shape: tuple[int, ...]) -> None:
    maps = generate_heatmaps(torch.zeros(shape), torch.ones(shape[:-1]), (6, 8), 2.0)
    assert maps.shape == (shape[0], 3, 6, 8)
    assert maps.eq(0).all()


@pytest.mark.parametrize(
    ("shape", "size", "sigma", "message"),
    [
        ((1, 2, 3), (8, 8), 2.0, r"expected keypoints \[n, c, k, 2\]"),
        ((1, 2, 3, 2), (0, 8), 2.0, "at least 1x1 pixels, got 0x8"),
        ((1, 2, 3, 2), (8, 8), 0.0, "sigma above 0 heatmap pixels, got 0.0"),
        ((1, 2, 3, 2), (8, 8), math.nan, "sigma above 0 heatmap pixels, got nan"),
    ],
)
def test_encode_refuses(shape: tuple[int, ...], size: tuple[int, int], sigma: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate_heatmaps(torch.zeros(shape), torch.ones(shape[:-1]), size, sigma)


@pytest.mark.parametrize(
    ("first", "last", "epoch", "last_epoch", "sigma"),
    [
        (4, 2, 0, 30, 4.0),
        (4, 2, 10, 30, 4.0),
        (4, 2, 20, 30, 3.0),
        (4, 2, 30, 30, 2.0),
        (4, 2, 31, 30, 2.0),
        (4, 2, 10, 10, 4.0),
        (4, 2, 3, 3, 4.0),
        (2, 2, 20, 30, 2.0),
        (2, 5, 20, 30, 2.0),
    ],
)
def test_sigma_at_epoch(first: float, last: float, epoch: int, last_epoch: int, sigma: float) -> None:
    assert sigma_at_epoch(first, last, epoch, last_epoch) == pytest.approx(sigma)


# Peaks


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
    assert_equals_reference(torch.from_numpy(maps).float(), min_distance_px, 0.2, max_keypoints)


@pytest.mark.parametrize("blur", [1, 3, 7])
def test_peaks_of_smooth_noise_equal_slow_reference(blur: int) -> None:
    noise = torch.rand(4, 2, 40, 33, generator=torch.Generator().manual_seed(blur))
    maps = torch.nn.functional.avg_pool2d(noise, blur, stride=1, padding=blur // 2).bfloat16()
    assert_equals_reference(maps, 1, 0.3, 40)
    assert_equals_reference(maps, 5, 0.3, 40)


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


# Sub-pixel positions

COUNT, SIZE = 400, 48


def random_centres(seed: int) -> Tensor:
    """Return `[COUNT, 2]` within a pixel of the middle of the map."""
    return SIZE / 2 + torch.rand(COUNT, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def maps_of(centres: Tensor, sigma_px: float) -> Tensor:
    return generate_heatmaps(centres[:, None, None], visible(centres)[:, None, None], (SIZE, SIZE), sigma_px)


def noise(level: float) -> Tensor:
    return level * torch.randn(COUNT, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(7))


def mean_error(maps: Tensor, centres: Tensor, refine: str = "taylor") -> float:
    """Return the mean distance of the best detection from its centre in pixels."""
    keypoints, _ = extract_keypoints(maps, refine=refine)
    return float((keypoints[:, 0, 0] - centres).norm(dim=1).mean())


@pytest.mark.parametrize(
    ("sigma", "clean", "noisy", "flat"),
    [
        (1.0, 0.002, 0.055, 0.01),
        (1.5, 0.002, 0.055, 0.01),
        (2.0, 0.002, 0.055, 0.01),
        (3.0, 0.002, 0.055, 0.01),
    ],
)
def test_error_of_one_peak(sigma: float, clean: float, noisy: float, flat: float) -> None:
    centres = random_centres(1)
    maps = maps_of(centres, sigma)
    assert mean_error(maps, centres) <= clean
    assert mean_error(maps + noise(0.05), centres) <= noisy
    assert mean_error((1.6 * maps).clamp(max=1), centres) <= flat
    assert mean_error(0.9 * maps + 0.05, centres) <= 0.02  # a net that is not sure of the background


def test_error_of_the_simple_refinements() -> None:
    centres = random_centres(1)
    maps = maps_of(centres, 2.0)
    assert mean_error(maps, centres, "none") == pytest.approx(
        0.383, abs=0.03
    )  # mean distance to a pixel centre
    assert mean_error(maps, centres, "quarter") == pytest.approx(0.193, abs=0.02)


@pytest.mark.parametrize("combine", [torch.add, torch.maximum])
@pytest.mark.parametrize(
    ("sigma", "distance", "limit"), [(1.5, 3, 0.05), (2.0, 3, 0.03), (2.0, 5, 0.002), (3.0, 3, 0.03)]
)
def test_error_of_two_near_peaks(combine, sigma: float, distance: float, limit: float) -> None:
    centres = random_centres(2)
    angle = torch.rand(COUNT, generator=torch.Generator().manual_seed(3)) * 2 * math.pi
    others = centres + distance * sigma * torch.stack([angle.cos(), angle.sin()], 1)
    maps = combine(maps_of(centres, sigma), 0.8 * maps_of(others, sigma))
    keypoints, _ = extract_keypoints(maps)
    assert (keypoints[:, 0, 0] - centres).norm(dim=1).mean() <= limit
    assert (keypoints[:, 0, 1] - others).norm(dim=1).mean() <= 1.5 * limit


@pytest.mark.parametrize("sigma", [1.5, 2.0, 3.0])
def test_saturated_peak_with_noise_on_top(sigma: float) -> None:
    centres = random_centres(4)
    maps = (1.6 * maps_of(centres, sigma)).clamp(max=1) + noise(
        0.01
    )  # the highest pixel is anywhere on the top
    assert mean_error(maps, centres) <= 0.07
    assert mean_error(maps, centres, "none") > 0.5


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 0.002), (torch.bfloat16, 0.004)])
def test_half_precision_maps(dtype: torch.dtype, limit: float) -> None:
    centres = random_centres(5)
    maps = maps_of(centres, 2.0).to(dtype)
    keypoints, scores = extract_keypoints(maps)
    assert (keypoints.dtype, scores.dtype) == (torch.float32, torch.float32)
    assert mean_error(maps, centres) <= limit


def test_autocast_does_not_blunt_the_refinement() -> None:
    centres = random_centres(6)
    maps = maps_of(centres, 2.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keypoints, _ = extract_keypoints(maps, 1)
    assert torch.equal(keypoints, extract_keypoints(maps, 1)[0])


def test_refinement_stays_near_and_inside() -> None:
    maps = torch.rand(4, 4, 30, 30, generator=torch.Generator().manual_seed(8))
    refined, _ = extract_keypoints(maps, 200)
    pixels, _ = extract_keypoints(maps, 200, refine="none")
    present = ~pixels[..., 0].isnan()
    assert present.sum() > 1000
    assert ((refined - pixels)[present].abs() <= 6).all()
    assert ((refined[present] >= -0.5) & (refined[present] <= 29.5)).all()
    peaks = maps_of(random_centres(9), 2.0) + noise(0.05)
    moved = extract_keypoints(peaks, 1)[0] - extract_keypoints(peaks, 1, refine="none")[0]
    assert moved.abs().max() <= 2.0


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6), sigma=st.floats(1, 3.5), height=st.integers(24, 60), width=st.integers(24, 60)
)
def test_round_trip(seed: int, sigma: float, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    points = np.empty((0, 2))
    for candidate in random.uniform([-0.5, -0.5], [width - 0.5, height - 0.5], (60, 2)):
        if (np.linalg.norm(points - candidate, axis=1) > 5 * sigma + 1).all():
            points = np.vstack([points, candidate])
    keypoints = torch.from_numpy(points).float()[None, None]
    maps = generate_heatmaps(keypoints, visible(keypoints), (height, width), sigma)
    detections = np.array(found(maps, 60))
    distances = np.linalg.norm(detections[:, None] - points, axis=2)
    assert len(detections) == len(points)
    assert distances.min(1).max() <= 0.02
    assert distances.min(0).max() <= 0.02
