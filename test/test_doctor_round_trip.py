from pathlib import Path

import numpy as np
import pytest
import torch
from reference.planted_points import write_points

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.doctor_round_trip import STAGES, decode_patches, round_trip
from keypoint_detection.doctor_samples import Settings, label_samples
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps


def planted(folder: Path, image_hw: tuple[int, int] = (480, 640), count: int = 60) -> Path:
    """Write images with one point each, anywhere in them and some in the corners."""
    height, width = image_hw
    xy = np.random.default_rng(2).uniform(-0.5, [width - 0.5, height - 0.5], (count, 2))
    xy[0], xy[1] = (-0.5, -0.5), (width - 0.5, height - 0.5)
    return write_points(folder, [[{"eye": (x, y)}] for x, y in xy.tolist()], ["eye"], image_hw)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(image_hw=(256, 256)),
        Settings(image_hw=(256, 192), stride=4),
        Settings(input_mode="instance", image_hw=(256, 192), stride=4),
        Settings(head="regression", image_hw=(224, 224)),
    ],
)
def test_usual_settings_bring_points_back(tmp_path: Path, settings: Settings) -> None:
    stages = round_trip(label_samples(read_table(planted(tmp_path)), settings))
    assert list(stages) == list(STAGES)
    for stage in STAGES:
        assert stages[stage]["mean_px"] < 0.02
        assert stages[stage]["largest_px"] < 0.05  # in a corner only a quarter of the peak is on the map
        assert stages[stage]["lost"] == 0


def test_a_narrow_target_costs_what_the_decoder_says_in_original_pixels(tmp_path: Path) -> None:
    """A sigma of 0.3 leaves one pixel of a peak; the whole map, decoded point by point, says the same."""
    settings = Settings(image_hw=(120, 160), stride=4, sigma_px=0.3)  # 4 original pixels a frame pixel
    samples = label_samples(read_table(planted(tmp_path)), settings)
    points = torch.from_numpy(samples.heatmap_xy)[:, None, None]
    maps = generate_heatmaps(points, torch.ones(points.shape[:3]), (30, 40), 0.3)
    found, _ = extract_keypoints(maps, max_keypoints=1)
    errors = 16 * (found - points).norm(dim=-1).flatten()  # original pixels per heatmap pixel
    stages = round_trip(samples)
    known = errors[errors.isfinite()]
    assert stages["decode"]["mean_px"] == pytest.approx(float(known.mean()), abs=1e-3)
    assert stages["decode"]["largest_px"] == pytest.approx(float(known.max()), abs=1e-3)
    assert stages["all"]["mean_px"] > 0.5
    assert stages["frame"]["mean_px"] < 1e-3
    assert stages["all"]["lost"] == pytest.approx(1 - len(known) / 60)


def test_patches_decode_like_whole_maps() -> None:
    rng = np.random.default_rng(0)
    size = np.array([40, 56])
    first = rng.uniform(-0.5, size[::-1] - 0.5, (200, 2))
    points = np.stack([first, first + rng.uniform(-5, 5, (200, 2))], axis=1).astype(np.float32)
    tensor = torch.from_numpy(points)[:, None]
    maps = generate_heatmaps(tensor, torch.ones(200, 1, 2), (40, 56), 2.0)
    expected, _ = extract_keypoints(maps, max_keypoints=2)
    found = decode_patches(points, np.tile(size, (200, 1)), Settings(), reach_px=3.6)
    np.testing.assert_allclose(found, expected[:, 0].numpy(), atol=2e-3)


def test_points_outside_their_crop_are_left_out(tmp_path: Path) -> None:
    images = [[{"eye": (12.0, 12.0), "ear": (60.0, 60.0)}]]
    path = write_points(tmp_path, images, ["eye", "ear"], box=(8, 8, 10, 10))
    settings = Settings(input_mode="instance", image_hw=(64, 64))
    stages = round_trip(label_samples(read_table(path), settings))
    assert stages["all"]["lost"] == 0
    assert stages["all"]["largest_px"] < 0.01


def test_nothing_is_measured_where_there_is_no_point(tmp_path: Path) -> None:
    samples = label_samples(read_table(write_points(tmp_path, [[]], ["eye"])), Settings())
    assert round_trip(samples)["all"] == {"mean_px": 0.0, "largest_px": 0.0, "lost": 0.0}
