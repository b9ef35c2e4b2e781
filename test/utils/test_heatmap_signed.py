import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.heatmap_cases import DTYPES, visible
from reference.heatmap_signed import draw_signed_heatmap

from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps
from keypoint_detection.utils.heatmap_signed import extract_signed_keypoints, generate_signed_heatmaps


def draw(points: list[list[float]], flags: list[int], size: int = 24, sigma_px: float = 2.0) -> torch.Tensor:
    keypoints = torch.tensor(points)[None, None]
    return generate_signed_heatmaps(keypoints, torch.tensor(flags)[None, None], (size, size), sigma_px)


def found(maps: torch.Tensor, **options) -> list[tuple[float, float, float]]:
    keypoints, scores = extract_signed_keypoints(maps, **options)
    there = ~keypoints[0, 0, :, 0].isnan()
    return [
        (*xy, score)
        for xy, score in zip(keypoints[0, 0][there].tolist(), scores[0, 0][there].tolist(), strict=True)
    ]


def spread_points(random: np.random.Generator, hw: tuple[int, int], least: float) -> np.ndarray:
    points = np.empty((0, 2))
    for candidate in random.uniform([-0.5, -0.5], [hw[1] - 0.5, hw[0] - 0.5], (60, 2)):
        if (np.linalg.norm(points - candidate, axis=1) > least).all():
            points = np.vstack([points, candidate])
    return points


def test_encode_hand_worked() -> None:
    maps = draw([[4.0, 5.0], [12.0, 5.0], [9.0, 18.0]], [2, 1, 0])
    assert maps[0, 0, 5, 4] == 1.0
    assert maps[0, 0, 5, 12] == -1.0
    assert maps[0, 0, 5, 13] == pytest.approx(-math.exp(-1 / 8))
    assert maps[0, 0, 5, 7] == pytest.approx(math.exp(-9 / 8))  # the visible one is nearer
    assert maps[0, 0, 5, 8] == pytest.approx(math.exp(-16 / 8))  # as far from both: the visible one
    assert maps[0, 0, 5, 9] == pytest.approx(-math.exp(-9 / 8))
    assert maps[0, 0, 18, 9].abs() < 1e-6


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 19), st.integers(1, 15)),
    sigma=st.floats(0.3, 6),
    k=st.integers(0, 7),
)
def test_encode_equals_dense_reference(seed: int, size: tuple[int, int], sigma: float, k: int) -> None:
    random = np.random.default_rng(seed)
    keypoints = random.uniform(-8, 28, (1, 2, k, 2)).astype(np.float32)
    keypoints[random.random((1, 2, k)) < 0.2] = np.nan
    flags = random.choice([0.0, 1.0, 2.0, np.nan], (1, 2, k))
    maps = generate_signed_heatmaps(torch.from_numpy(keypoints), torch.from_numpy(flags), size, sigma)
    for channel in range(2):
        dense = draw_signed_heatmap(keypoints[0, channel], flags[0, channel], size, sigma)
        ours, labels = maps[0, channel].numpy(), flags[0, channel]
        assert np.abs(np.abs(ours) - np.abs(dense)).max() <= 5e-7
        occluded, seen = (
            draw_signed_heatmap(keypoints[0, channel], np.where(labels == flag, 2, 0), size, sigma)
            for flag in (1, 2)
        )
        decided = np.abs(occluded - seen) > 1e-6  # else rounding picks the sign
        np.testing.assert_allclose(ours[decided], dense[decided], rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_magnitude_is_that_of_the_plain_heatmap(dtype: torch.dtype) -> None:
    keypoints = torch.rand(2, 3, 5, 2, generator=torch.Generator().manual_seed(0)) * 20
    flags = torch.randint(0, 3, (2, 3, 5), generator=torch.Generator().manual_seed(1))
    maps = generate_signed_heatmaps(keypoints, flags, (18, 22), 1.5, dtype)
    assert maps.dtype == dtype
    assert torch.equal(maps.abs(), generate_heatmaps(keypoints, flags, (18, 22), 1.5, dtype))
    assert (maps < 0).any()
    assert (maps > 0).any()


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6), sigma=st.floats(1, 3.5), height=st.integers(24, 60), width=st.integers(24, 60)
)
def test_round_trip_of_both_signs(seed: int, sigma: float, height: int, width: int) -> None:
    random = np.random.default_rng(seed)
    points = spread_points(random, (height, width), 5 * sigma + 1)
    flags = random.integers(1, 3, len(points))
    keypoints = torch.from_numpy(points).float()[None, None]
    maps = generate_signed_heatmaps(keypoints, torch.from_numpy(flags)[None, None], (height, width), sigma)
    detections = np.array(found(maps, max_keypoints=60))
    distances = np.linalg.norm(detections[:, None, :2] - points, axis=2)
    assert len(detections) == len(points)
    assert distances.min(1).max() <= 0.02
    assert distances.min(0).max() <= 0.02
    assert np.where(detections[:, 2] < 0, 1, 2).tolist() == flags[distances.argmin(1)].tolist()


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), distance=st.floats(3, 12), angle=st.floats(0, 2 * math.pi))
def test_neighbours_of_unlike_signs_do_not_pull(seed: int, distance: float, angle: float) -> None:
    first = np.random.default_rng(seed).uniform(14, 18, 2)
    second = first + distance * np.array([math.cos(angle), math.sin(angle)])
    detections = found(draw([first.tolist(), second.tolist()], [1, 2], 34), threshold=0.3)
    assert len(detections) == 2
    occluded, seen = sorted(detections, key=lambda point: point[2])
    assert np.hypot(*(np.array(occluded[:2]) - first)) <= 0.02
    assert np.hypot(*(np.array(seen[:2]) - second)) <= 0.02
    assert occluded[2] < 0 < seen[2]


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), refine=st.sampled_from(["none", "quarter", "taylor"]))
def test_maps_of_one_sign_decode_as_plain_ones_and_a_turned_sign_turns_the_scores(
    seed: int, refine: str
) -> None:
    random = np.random.default_rng(seed)
    points = spread_points(random, (30, 36), 6.0)
    keypoints = torch.from_numpy(points).float()[None, None]
    maps = generate_heatmaps(keypoints, visible(keypoints), (30, 36), 2.0)
    plain, scores = extract_keypoints(maps, refine=refine)
    for sign in (1, -1):
        same, signed_scores = extract_signed_keypoints(sign * maps, refine=refine)
        torch.testing.assert_close(same, plain, rtol=0, atol=1e-4, equal_nan=True)
        assert torch.equal(signed_scores, sign * scores)
    noisy = (maps - 0.5 + torch.from_numpy(random.normal(0, 0.1, maps.shape)).float()).clamp(-1, 1)
    one, other = (
        extract_signed_keypoints(noisy, refine=refine),
        extract_signed_keypoints(-noisy, refine=refine),
    )
    # Fits of noise take the peaks in another order, whose rounding they enlarge.
    torch.testing.assert_close(one[0], other[0], rtol=0, atol=5e-3, equal_nan=True)
    assert torch.equal(one[1], -other[1])
    assert (one[1].abs().diff(dim=-1) <= 0).all()  # best first


def test_peaks_of_both_signs_compete_and_are_cut_by_the_same_threshold() -> None:
    maps = torch.zeros(1, 1, 9, 20)
    maps[0, 0, 4, 3], maps[0, 0, 4, 6], maps[0, 0, 4, 15] = 0.9, -0.8, -0.3
    assert [round(score, 6) for *_, score in found(maps, refine="none")] == [0.9, -0.8, -0.3]
    assert [round(score, 6) for *_, score in found(maps, min_distance_px=3, refine="none")] == [0.9, -0.3]
    assert [round(score, 6) for *_, score in found(maps, max_keypoints=2, refine="none")] == [0.9, -0.8]
    assert [round(score, 6) for *_, score in found(maps, threshold=0.5, refine="none")] == [0.9, -0.8]


def test_white_noise_does_not_cost_precision_in_either_sign() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(200, 1, 1, 2, generator=generator) * 10 + 12
    flags = torch.randint(1, 3, (200, 1, 1), generator=generator)
    maps = generate_signed_heatmaps(points, flags, (34, 34), 2.0)
    maps = maps + 0.05 * torch.randn(maps.shape, generator=generator)
    found_points, scores = extract_signed_keypoints(maps, 1)
    assert (found_points - points).norm(dim=-1).mean() < 0.06
    assert torch.equal(torch.where(scores < 0, 1, 2), flags)


def test_empty_and_nan_maps_have_no_points() -> None:
    for maps in (torch.zeros(1, 1, 6, 7), torch.full((1, 1, 6, 7), torch.nan)):
        keypoints, scores = extract_signed_keypoints(maps, 3)
        assert keypoints.isnan().all()
        assert scores.eq(0).all()
    holed = draw([[6.0, 9.0], [17.0, 9.0]], [1, 2])
    holed[0, 0, 9, 18] = torch.nan
    assert [(round(x), round(y), round(score)) for x, y, score in found(holed)] == [(6, 9, -1), (17, 9, 1)]


def test_refusals_are_those_of_the_plain_decoder() -> None:
    with pytest.raises(ValueError, match=r"^unknown refine 'tailor'; known: .* Did you mean 'taylor'\?$"):
        extract_signed_keypoints(torch.zeros(1, 1, 4, 4), refine="tailor")
    with pytest.raises(ValueError, match=r"expected floating-point heatmaps \[n, c, h, w\]"):
        extract_signed_keypoints(torch.zeros(4, 4))
