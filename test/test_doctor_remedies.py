from dataclasses import replace
from pathlib import Path

import pytest
from reference.planted_points import write_points

from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.doctor_ceiling import ceiling
from keypoint_detection.doctor_merging import merging_pairs, merging_points
from keypoint_detection.doctor_remedies import alternatives, raising, separating
from keypoint_detection.doctor_samples import LabelSamples, Settings, label_samples

NAMES = ["leaf0", "leaf1"]
POOLED = Settings(image_hw=(64, 64), stride=4, channels="leaf0=leaf1")


def pair_samples(folder: Path, distance_px: float, settings: Settings = POOLED) -> LabelSamples:
    pair = {"leaf0": (29.5, 29.5), "leaf1": (29.5 + distance_px, 29.5)}
    return label_samples(read_table(write_points(folder, [[pair]], NAMES)), settings)


def test_the_mildest_change_of_each_kind_is_named_and_true(tmp_path: Path) -> None:
    samples = pair_samples(tmp_path, 4)  # one heatmap pixel: neither 1.5 times nor a smaller sigma part them
    advice = separating(samples, merging_pairs(samples))
    assert advice == "--output_stride 1 or --image_size 192x192 would part them"
    for changed, expected in (
        (replace(POOLED, stride=1), 0),
        (replace(POOLED, image_hw=(192, 192)), 0),
        (replace(POOLED, stride=2), 1),
        (replace(POOLED, image_hw=(128, 128)), 1),
        (replace(POOLED, sigma_px=1.0), 1),
    ):
        assert merging_points(label_samples(samples.table, changed))["pairs"] == expected


def test_points_at_one_place_need_another_channel_or_crops(tmp_path: Path) -> None:
    samples = pair_samples(tmp_path, 0)
    assert "only a channel for each name" in separating(samples, merging_pairs(samples))
    twice = [{"leaf0": (30, 30)}, {"leaf0": (30, 30)}]
    samples = label_samples(read_table(write_points(tmp_path, [twice], NAMES)), Settings())
    assert "only --input_mode instance would" in separating(samples, merging_pairs(samples))


def test_where_nothing_parts_all_the_best_change_is_named(tmp_path: Path) -> None:
    images = [[{"leaf0": (29.5, 29.5), "leaf1": (29.5 + d, 29.5)}] for d in (0.1, 4, 4, 4)]
    samples = label_samples(read_table(write_points(tmp_path, images, NAMES)), POOLED)
    advice = separating(samples, merging_pairs(samples))
    assert advice == "--output_stride 1 would part 75% of them, a channel for each name would part all"


def test_the_cause_of_a_low_ceiling_is_found(tmp_path: Path) -> None:
    many = [{"leaf0": (12 * i, 30)} for i in range(1, 5)]
    table = read_table(write_points(tmp_path, [many], NAMES))
    samples = label_samples(table, Settings(max_keypoints=2))
    advice = raising(samples, ceiling(samples)["worst"], "ap@2px", 0.99)
    assert advice == "--max_keypoints 4 would be enough on the 1 samples that lose most"
    suppressed = pair_samples(
        tmp_path, 5, Settings(channels="leaf0=leaf1", min_distance_px=5, image_hw=(64, 64))
    )
    advice = raising(suppressed, ceiling(suppressed)["worst"], "ap@2px", 0.99)
    assert advice.startswith("--minimal_keypoint_extraction_pixel_distance 1 or --image_size 96x96 would be")


def test_a_loss_that_no_setting_mends_is_said_to_be_one(tmp_path: Path) -> None:
    samples = pair_samples(tmp_path, 0)
    advice = raising(samples, ceiling(samples)["worst"], "ap@2px", 0.99)
    assert advice.startswith("no single change is enough")
    assert "--head heatmap" in raising(samples, [], "ap@2px", 0.99)


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        (POOLED, ["sigma", "sigma", "stride", "stride", "size", "size", "size", "size"]),
        (replace(POOLED, sigma_px=1.0, stride=1), ["size"] * 4),
        (replace(POOLED, head="regression"), ["head"]),
    ],
)
def test_alternatives_change_one_setting_for_the_finer(
    tmp_path: Path, settings: Settings, kinds: list[str]
) -> None:
    samples = pair_samples(tmp_path, 4, settings)
    found = list(alternatives(samples))
    assert [kind for kind, _, _ in found] == kinds
    for _, _, changed in found:
        differing = [name for name in vars(settings) if getattr(settings, name) != getattr(changed, name)]
        assert len(differing) == 1
