import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.heatmap import draw_heatmap
from reference.heatmap_cases import DTYPES, draw, found, visible

from keypoint_detection.utils.heatmap import generate_heatmaps, sigma_at_epoch


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
