from pathlib import Path

import numpy as np
import pytest
import torch
from reference.planted_points import CHANNELS, write_points

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.instance_crops import label_crops
from keypoint_detection.doctor_samples import Settings, draw_positions, label_batches, label_samples

KEYS = ("keypoints", "visibility", "keypoint_area", "keypoint_sigma", "keypoint_length", "to_image")
IDS = ("image_id", "image_hw", "input_hw")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(channels=CHANNELS),
        Settings(channels="corner0=flap_left; corner0; flap_right=corner1=corner2", image_hw=(48, 100)),
        Settings(input_mode="instance", image_hw=(40, 30), box_padding=1.1, channels=CHANNELS),
    ],
)
def test_batches_are_those_of_the_dataset_bit_for_bit(boxes_json: Path, settings: Settings) -> None:
    table = read_table(boxes_json)
    lengths, sigmas = np.linspace(5, 9, len(table.area)), np.linspace(0.1, 0.2, len(table.names))
    is_crops = settings.input_mode == "instance"
    dataset = COCOKeypointsDataset(
        table,
        settings.channels,
        image_size=settings.image_hw,
        crops=label_crops(table, settings.box_padding) if is_crops else None,
        lengths=lengths,
        sigmas=sigmas,
    )
    positions = np.array([1, 3, 4])
    expected = collate([dataset[int(position)] for position in positions])
    samples = label_samples(table, settings)
    assert len(samples) == len(dataset)
    ((part, batch),) = label_batches(samples, positions, lengths, sigmas)
    np.testing.assert_array_equal(part, positions)
    for key in (*KEYS, *IDS):
        assert torch.equal(batch[key].nan_to_num(-1), expected[key].nan_to_num(-1)), key
        assert batch[key].dtype == expected[key].dtype, key
    assert batch["image"].shape[-2:] == expected["image"].shape[-2:]


def test_a_batch_has_one_size_and_few_pixels(tmp_path: Path) -> None:
    table = read_table(write_points(tmp_path, [[{"eye": (3, 4)}]] * 5, ["eye"]))
    table.image_hw[3] = (32, 48)
    samples = label_samples(table, Settings(stride=2))
    batches = list(label_batches(samples, np.arange(5), np.ones(5), np.ones(1), most_pixels=2 * 32 * 32))
    assert [part.tolist() for part, _ in batches] == [[3], [0, 1], [2, 4]]
    assert [tuple(batch["image"].shape) for _, batch in batches] == [
        (1, 1, 32, 48),
        (2, 1, 64, 64),
        (2, 1, 64, 64),
    ]


def test_labels_below_the_required_visibility_stay_but_do_not_count(tmp_path: Path) -> None:
    path = write_points(tmp_path, [[{"eye": (3, 4, 1), "ear": (5, 6, 2)}], []], ["eye", "ear"])
    samples = label_samples(read_table(path), Settings(required_visibility=2))
    assert samples.counts.tolist() == [False, True]
    assert samples.sample.tolist() == [0, 0]
    assert len(samples) == 2


def test_heatmap_places_follow_the_convention(tmp_path: Path) -> None:
    path = write_points(tmp_path, [[{"eye": (10.0, 20.0)}]], ["eye"], image_hw=(64, 32))
    samples = label_samples(read_table(path), Settings(image_hw=(128, 128), stride=4))
    # Scale 2, and 32 of 64 frame pixels on the left: x = 10.5 * 2 + 32 - 0.5, y = 20.5 * 2 - 0.5.
    np.testing.assert_allclose(samples.frame_xy, [[52.5, 40.5]])
    np.testing.assert_allclose(samples.heatmap_xy, [[12.75, 9.75]])
    np.testing.assert_array_equal(samples.heatmap_hw, [[32, 32]])
    np.testing.assert_allclose(samples.scale, [2.0])


def test_positions_are_drawn_by_the_seed() -> None:
    np.testing.assert_array_equal(draw_positions(4, 4, seed=1), np.arange(4))
    one, same, other = (draw_positions(1000, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert len(np.unique(one)) == 50
    assert (np.diff(one) > 0).all()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="expected an image_size"):
        Settings(input_mode="instance")
    with pytest.raises(ValueError, match="sigma above 0"):
        Settings(sigma_px=0)
