import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.planted_points import write_points

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.doctor_merging import crowded_channels, merging_pairs, merging_points
from keypoint_detection.doctor_samples import LabelSamples, Settings, label_samples
from keypoint_detection.utils.heatmap import extract_keypoints, generate_heatmaps

NAMES = ["leaf0", "leaf1"]
ONE_CHANNEL = "leaf0=leaf1"


def samples_of(
    folder: Path, distance_px: float, settings: Settings, at: tuple[float, float] = (30.0, 30.0)
) -> LabelSamples:
    """Return an image with two points side by side, and one with two far apart."""
    x, y = at
    pair, far = {"leaf0": (x, y), "leaf1": (x + distance_px, y)}, {"leaf0": (9, 9), "leaf1": (50, 50)}
    return label_samples(read_table(write_points(folder, [[pair], [far]], NAMES)), settings)


@pytest.mark.parametrize(
    ("distance_px", "decoder", "merges"),  # the decoder: stride, sigma, radius of suppression
    [
        (1, (1, 2.0, 1), True),  # neighbouring pixels, both 1: one plateau
        (3, (1, 2.0, 1), False),  # pixels between them are lower
        (3, (1, 2.0, 3), True),  # within the radius of suppression
        (4, (1, 2.0, 3), False),  # one pixel beyond it
        (4, (4, 2.0, 1), True),  # one heatmap pixel
        (12, (4, 2.0, 1), False),  # three heatmap pixels
        (2, (1, 1.0, 1), False),  # the pixel between them is exp(-1/2)
        (2, (1, 1.0, 2), True),
        (2, (2, 1.0, 1), True),
        (0, (1, 1.0, 1), True),
    ],
)
def test_known_distances(
    tmp_path: Path, distance_px: float, decoder: tuple[int, float, int], merges: bool
) -> None:
    stride, sigma_px, min_distance_px = decoder
    settings = Settings(
        stride=stride, sigma_px=sigma_px, min_distance_px=min_distance_px, channels=ONE_CHANNEL
    )
    centre = 8 * stride + (stride - 1) / 2  # of heatmap pixel 8
    at = (centre, centre)
    merging = merging_points(samples_of(tmp_path, distance_px, settings, at))
    assert merging["pairs"] == int(merges)
    assert merging["points"] == 2 * merges
    assert merging["share"] == 0.5 * merges
    assert merging["images"] == int(merges)


def test_an_example_names_image_annotation_and_points(tmp_path: Path) -> None:
    settings = Settings(image_hw=(32, 32), stride=2, channels=ONE_CHANNEL)
    merging = merging_points(samples_of(tmp_path, 3.0, settings))
    (example,) = merging["examples"]
    assert example["image_id"] == 101
    assert example["file_name"] == "0.png"
    assert example["annotation_ids"] == [1, 1]
    assert example["names"] == NAMES
    assert example["channel"] == "leaf0=leaf1"
    assert example["distance_px"] == pytest.approx(3.0)
    assert example["heatmap_distance_px"] == pytest.approx(0.75)
    assert (merging["suppressed"], merging["same_place"], merging["blurred"]) == (1, 0, 1)


def test_other_channels_images_and_excluded_points_do_not_merge(tmp_path: Path) -> None:
    assert merging_points(samples_of(tmp_path, 1.0, Settings()))["pairs"] == 0  # a channel each
    occluded = {"leaf0": (30, 30, 2), "leaf1": (31, 30, 1)}
    table = read_table(write_points(tmp_path, [[occluded]], NAMES))
    for required, expected in ((1, 1), (2, 0)):
        settings = Settings(channels=ONE_CHANNEL, required_visibility=required)
        assert merging_points(label_samples(table, settings))["pairs"] == expected
    regression = Settings(channels=ONE_CHANNEL, head="regression")
    assert merging_points(label_samples(table, regression))["pairs"] == 0


def test_points_of_several_instances_merge_in_an_image_and_not_in_crops(tmp_path: Path) -> None:
    instances = [{"leaf0": (30, 30)}, {"leaf0": (31, 30)}, {"leaf0": (50, 9)}]
    table = read_table(write_points(tmp_path, [instances], NAMES))
    merging = merging_points(label_samples(table, Settings()))
    assert (merging["pairs"], merging["examples"][0]["annotation_ids"]) == (1, [1, 2])
    crops = Settings(input_mode="instance", image_hw=(64, 64))
    assert merging_points(label_samples(table, crops))["pairs"] == 0


def test_pairs_are_those_that_the_whole_map_loses(tmp_path: Path) -> None:
    """Independent count: draw each image's two points into a whole map and see what is found."""
    rng = np.random.default_rng(4)
    first = rng.uniform(10, 50, (150, 2))
    second = first + rng.uniform(-4, 4, (150, 2))
    images = [
        [{"leaf0": (a, b), "leaf1": (c, d)}]
        for (a, b), (c, d) in zip(first.tolist(), second.tolist(), strict=True)
    ]
    table = read_table(write_points(tmp_path, images, NAMES))
    for stride, sigma in ((1, 1.0), (1, 2.0), (2, 2.0)):
        settings = Settings(channels=ONE_CHANNEL, stride=stride, sigma_px=sigma)
        samples = label_samples(table, settings)
        pairs = merging_pairs(samples)
        points = torch.from_numpy(samples.heatmap_xy).view(150, 1, 2, 2)
        maps = generate_heatmaps(points, torch.ones(150, 1, 2), (64 // stride, 64 // stride), sigma)
        found, _ = extract_keypoints(maps)
        lost = [row for row in range(150) if not _both_found(points[row, 0], found[row, 0])]
        assert 5 < len(lost) < 140
        assert samples.sample[pairs.one].tolist() == lost


def _both_found(points: torch.Tensor, found: torch.Tensor) -> bool:
    kept = found[found.isfinite().all(-1)]
    limit = float((points[0] - points[1]).norm()) / 2
    return any(
        all(float((kept[index] - point).norm()) < limit for index, point in zip(order, points, strict=True))
        for order in itertools.permutations(range(len(kept)), 2)
    )


def test_crowded_channels_are_counted_and_named(tmp_path: Path) -> None:
    many = [{"leaf0": (10 * i, 5), "leaf1": (10 * i, 40)} for i in range(1, 5)]
    table = read_table(write_points(tmp_path, [many[:2], many, []], NAMES))
    crowded = crowded_channels(label_samples(table, Settings(max_keypoints=3)))
    assert (crowded["limit"], crowded["most"], crowded["samples"]) == (3, 4, 1)
    assert crowded["worst"] == {"image_id": 102, "file_name": "1.png", "channel": "leaf0"}
    pooled = crowded_channels(label_samples(table, Settings(max_keypoints=8, channels=ONE_CHANNEL)))
    assert (pooled["most"], pooled["samples"], pooled["worst"]) == (8, 0, None)
    crops = Settings(input_mode="instance", image_hw=(64, 64), max_keypoints=1, channels=ONE_CHANNEL)
    assert crowded_channels(label_samples(table, crops))["samples"] == 0  # a detection per pooled name
    regression = crowded_channels(label_samples(table, Settings(head="regression")))
    assert (regression["limit"], regression["samples"]) == (1, 2)
