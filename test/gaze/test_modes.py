import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keypoint_detection.gaze.modes import group_peaks, map_entropy, summarise
from keypoint_detection.utils.heatmap import generate_heatmaps


def maps_at(points: Tensor, sigma_px: float = 3.0) -> Tensor:
    """Return one map of 64x64 px for each point `[n, s, 2]`."""
    return generate_heatmaps(points[:, :, None], torch.ones(points.shape[:2])[..., None], (64, 64), sigma_px)


def two_targets(first: int, seed: int = 0) -> Tensor:
    """Return 16 peaks of one person, `first` of them around (12, 20), the others around (50, 24)."""
    generator = torch.Generator().manual_seed(seed)
    middle = torch.tensor([[12.0, 20.0]] * first + [[50.0, 24.0]] * (16 - first))
    return (middle + torch.randn(16, 2, generator=generator))[torch.randperm(16, generator=generator)]


@pytest.mark.parametrize("first", [8, 11, 4])
def test_two_targets_are_found_with_their_weights(first: int) -> None:
    peaks = torch.stack([two_targets(first, seed) for seed in range(5)])
    summary = summarise(maps_at(peaks))
    assert summary.modes.shape == (5, 2, 2)
    large = max(first, 16 - first) / 16
    assert summary.weights.tolist() == [pytest.approx([large, 1 - large])] * 5
    assert (summary.peaks - peaks).abs().max() <= 0.1
    for person in range(5):
        left = summary.modes[person][summary.modes[person, :, 0].argmin()]
        mean = peaks[person][peaks[person, :, 0] < 30].mean(0)
        assert (left - mean).norm() <= 0.1


def test_numbers_by_hand() -> None:
    peaks = torch.tensor([[[10.0, 10], [14, 10], [40, 50], [12, 13]]])
    summary = summarise(maps_at(peaks))
    assert summary.modes[0].flatten().tolist() == pytest.approx([12, 11, 40, 50], abs=0.05)
    assert summary.weights[0].tolist() == [0.75, 0.25]
    # squared distances to (12, 11): 5, 5 and 4
    assert summary.mode_std_px[0].tolist() == pytest.approx([math.sqrt(14 / 3), 0], abs=0.05)
    mean = peaks[0].mean(0)
    expected = math.sqrt(sum(float((peak - mean).square().sum()) for peak in peaks[0]) / 4)
    assert float(summary.peak_std_px) == pytest.approx(expected, abs=0.05)


def test_people_with_fewer_modes_are_padded() -> None:
    one = torch.tensor([30.0, 30.0]).expand(16, 2)
    summary = summarise(maps_at(torch.stack([one, two_targets(8)])))
    assert summary.weights[0].tolist() == [1, 0]
    assert summary.modes[0, 1].isnan().all()
    assert summary.mode_std_px[0].isnan().tolist() == [False, True]
    assert summary.weights.sum(1).tolist() == pytest.approx([1, 1])
    assert float(summary.entropy[0]) < float(summary.entropy[1])
    assert float(summary.peak_std_px[0]) <= 1e-3
    assert float(summary.peak_std_px[1]) > 10


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_flat_maps_point_to_their_middle(value: float, dtype: torch.dtype) -> None:
    summary = summarise(torch.full((2, 3, 8, 12), value, dtype=dtype))
    assert not any(part.isnan().any() for part in summary)
    assert summary.modes.tolist() == [[[5.5, 3.5]]] * 2
    assert summary.weights.tolist() == [[1.0]] * 2
    assert summary.entropy.tolist() == pytest.approx([math.log(96)] * 2, rel=1e-5)
    assert summary.peak_std_px.tolist() == [0, 0]


def test_maps_cut_off_at_the_top_are_plateaus() -> None:
    blunt = maps_at(torch.tensor([[[20.0, 30.0]]])).clamp(max=0.7)
    assert (summarise(blunt).modes[0, 0] - torch.tensor([20.0, 30.0])).norm() <= 0.1


def test_one_sample_and_nobody() -> None:
    summary = summarise(maps_at(torch.tensor([[[5.0, 9.0]]])))
    assert summary.weights.tolist() == [[1.0]]
    assert float(summary.peak_std_px) == 0
    empty = summarise(torch.zeros(0, 4, 8, 8))
    assert [tuple(part.shape) for part in empty] == [
        (0, 8, 8),
        (0, 4, 2),
        (0,),
        (0,),
        (0, 0, 2),
        (0, 0),
        (0, 0),
    ]


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 12), st.integers(0, 10_000), st.floats(0.5, 30))
def test_groups_equal_a_slow_reference(count: int, seed: int, radius_px: float) -> None:
    peaks = 40 * torch.rand(3, count, 2, generator=torch.Generator().manual_seed(seed))
    found = group_peaks(peaks, radius_px)
    for person, modes in zip(peaks, found.tolist(), strict=True):
        assert modes == slow_groups(person.tolist(), radius_px)
        sizes = [modes.count(number) for number in range(max(modes) + 1)]
        assert sizes == sorted(sizes, reverse=True)


def slow_groups(peaks: list[list[float]], radius_px: float) -> list[int]:
    """Group the peaks of one person one mode after another, as it is defined."""
    mode = [-1] * len(peaks)
    for number in range(len(peaks)):
        best: tuple[int, float, int] | None = None
        for leader, peak in enumerate(peaks):
            free = [other for other in range(len(peaks)) if mode[other] < 0]
            around = [other for other in free if math.dist(peak, peaks[other]) <= radius_px]
            if mode[leader] < 0:
                mean = sum(math.dist(peak, peaks[other]) for other in around) / len(around)
                if best is None or (-len(around), mean, leader) < best:
                    best = (-len(around), mean, leader)
        if best is None:
            break
        for other in range(len(peaks)):
            if mode[other] < 0 and math.dist(peaks[best[2]], peaks[other]) <= radius_px:
                mode[other] = number
    return mode


def test_the_same_every_time_and_for_everybody_alone() -> None:
    maps = torch.rand(4, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    together, again = summarise(maps), summarise(maps)
    for one, other in zip(together, again, strict=True):
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))
    for person in range(4):
        alone = summarise(maps[person : person + 1])
        count = alone.modes.shape[1]
        assert torch.equal(alone.modes[0], together.modes[person, :count])
        assert torch.equal(alone.weights[0], together.weights[person, :count])


def test_the_order_of_samples_does_not_matter() -> None:
    maps = maps_at(two_targets(10)[None])
    one, other = summarise(maps), summarise(maps.flip(1))
    assert torch.allclose(one.modes, other.modes, atol=1e-4)
    assert torch.equal(one.weights, other.weights)


def test_entropy_by_hand() -> None:
    maps = torch.tensor([[[0.5, 0.25], [0.25, 0.0]], [[0.0, 0.0], [0.0, 7.0]], [[0.0, -1.0], [2.0, 2.0]]])
    assert map_entropy(maps).tolist() == pytest.approx([1.5 * math.log(2), 0, math.log(2)], abs=1e-6)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected floating-point samples \[n, s, h, w\].*\[2, 0, 8, 8\]"):
        summarise(torch.zeros(2, 0, 8, 8))
    with pytest.raises(ValueError, match="expected radius_px > 0"):
        summarise(torch.zeros(1, 1, 8, 8), 0.0)
    broken = torch.zeros(3, 2, 4, 4)
    broken[1, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity for person 1"):
        summarise(broken)
