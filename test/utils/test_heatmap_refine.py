import math

import pytest
import torch
from reference.heatmap_cases import visible
from torch import Tensor

from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps

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
