import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CocoFolder, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.geometry import PAD_VALUE, is_inside, transform_points

SWAP = {"nose": "nose", "left_eye": "right_eye", "right_eye": "left_eye"}
GEOMETRY = AugmentationConfig(color=0.0, color_probability=0.0, vertical_flip=0.3, rotation_degrees=180.0)
FACE = [10, 20, 2, 12.5, 10, 1, 22, 30.25, 2]
ABSENT = [0, 0, 0] * 3


def test_sample_by_hand(coco_folder: CocoFolder) -> None:
    image = noise_image((40, 50))
    image_id = coco_folder.add(image, [FACE, [1, 2, 2, 0, 0, 0, 3, 4, 1]], area=8.0, bbox=[0, 0, 5, 6])
    dataset = COCOKeypointsDataset(coco_folder.write(), "nose; left_eye = right_eye; right_eye")
    sample = dataset[0]
    assert np.array_equal(sample["image"], image.transpose(2, 0, 1))
    assert sample["keypoints"].shape == (3, 3, 2)
    assert sample["keypoints"][0, :2].tolist() == [[10, 20], [1, 2]]
    assert sample["keypoints"][1].tolist() == [[12.5, 10], [22, 30.25], [3, 4]]
    assert sample["keypoints"][2, :2].tolist() == [[22, 30.25], [3, 4]]  # one name may feed two channels
    assert sample["visibility"].tolist() == [[2, 2, 0], [1, 2, 1], [2, 1, 0]]
    assert np.isnan(sample["keypoints"][sample["visibility"] == 0]).all()
    assert np.array_equal(np.isnan(sample["keypoint_area"]), sample["visibility"] == 0)
    assert sample["to_image"].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert (sample["image_id"], sample["image_hw"], sample["input_hw"]) == (image_id, (40, 50), (40, 50))
    assert sample["area"].tolist() == [8, 8]
    assert sample["box"].tolist() == [[0, 0, 5, 6]] * 2
    assert dataset.file_name(image_id) == f"images/{image_id}.png"


def test_keypoint_area_is_that_of_the_instance(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE, FACE])
    for annotation, area in zip(coco_folder.content["annotations"], (30.0, 40.0), strict=True):
        annotation["area"] = area
    sample = COCOKeypointsDataset(coco_folder.write(), "nose = left_eye")[0]
    assert sample["keypoint_area"].tolist() == [[30, 30, 40, 40]]


def test_sigmas_go_by_name_and_lengths_by_instance(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[0, 0, 0, 9, 9, 2, 0, 0, 0], FACE])
    coco_folder.add(noise_image((40, 50)), [FACE])
    lengths, sigmas = np.array([5.0, 6.0, 7.0]), np.array([0.25, 0.5, np.nan])
    path = coco_folder.write()
    dataset = COCOKeypointsDataset(path, "nose; left_eye = right_eye", lengths=lengths, sigmas=sigmas)
    batch = collate([dataset[0], dataset[1]])
    nan = np.nan
    expected_sigma = [[[0.25, nan, nan], [0.5, 0.5, nan]], [[0.25, nan, nan], [0.5, nan, nan]]]
    expected_length = [[[6, nan, nan], [5, 6, 6]], [[7, nan, nan], [7, 7, nan]]]
    assert np.array_equal(batch["keypoint_sigma"], expected_sigma, equal_nan=True)
    assert np.array_equal(batch["keypoint_length"], expected_length, equal_nan=True)
    assert batch["keypoint_sigma"].dtype == batch["keypoint_length"].dtype == torch.float32
    plain = collate([COCOKeypointsDataset(path)[0]])
    assert plain["keypoint_sigma"].shape == plain["keypoint_length"].shape == plain["visibility"].shape
    assert plain["keypoint_sigma"].isnan().all()
    assert plain["keypoint_length"].isnan().all()
    for options in ({"lengths": lengths[:2]}, {"sigmas": lengths[:2]}):
        with pytest.raises(ValueError, match=r"^(lengths|sigmas): expected 3 numbers, got .* \(2,\)"):
            COCOKeypointsDataset(path, **options)


def test_a_batch_has_the_crowd_boxes_of_its_images(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((20, 30)), [FACE])
    coco_folder.add(noise_image((20, 30)), [ABSENT, ABSENT], iscrowd=1, bbox=[1, 2, 3, 4])
    dataset = COCOKeypointsDataset(coco_folder.write())
    batch = collate([dataset[0], dataset[1]])
    assert [boxes.tolist() for boxes in batch["crowd_box"]] == [[], [[1, 2, 3, 4]] * 2]
    assert [boxes.shape for boxes in batch["crowd_box"]] == [(0, 4), (2, 4)]
    assert all(boxes.dtype == torch.float32 for boxes in batch["crowd_box"])


def test_images_without_annotations_are_kept(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE])
    coco_folder.add(noise_image((40, 50)))
    coco_folder.add(noise_image((40, 50)), [ABSENT])
    dataset = COCOKeypointsDataset(coco_folder.write())
    assert len(dataset) == 3
    for index in (1, 2):
        sample = dataset[index]
        assert sample["keypoints"].shape == (3, 1, 2)
        assert np.isnan(sample["keypoints"]).all()
        assert not sample["visibility"].any()
    assert [len(dataset[index]["area"]) for index in range(3)] == [1, 0, 1]


def test_letterbox_by_hand(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((20, 40)), [[-0.5, -0.5, 2, 39.5, 19.5, 2, 10, 5, 2]])
    sample = COCOKeypointsDataset(coco_folder.write(), image_size=(80, 80))[0]
    # scale 2, twenty rows of padding above and below; a point on the border stays
    assert sample["keypoints"][:, 0].tolist() == [[-0.5, 19.5], [79.5, 59.5], [20.5, 30.5]]
    assert (sample["image"][:, :19] == PAD_VALUE).all()
    assert (sample["image"][:, 61:] == PAD_VALUE).all()
    assert sample["image"][:, 20:60].std() > 20
    assert sample["to_image"].tolist() == [[0.5, 0, -0.25], [0, 0.5, -10.25]]
    assert (sample["input_hw"], sample["image_hw"]) == ((80, 80), (20, 40))


@pytest.fixture(scope="module")
def random_points(tmp_path_factory: pytest.TempPathFactory) -> COCOKeypointsDataset:
    """Return images of two sizes with one face each, anywhere in the image."""
    folder = CocoFolder(tmp_path_factory.mktemp("random"))
    rng = np.random.default_rng(0)
    for index in range(6):
        hw = (60, 90) if index % 2 else (110, 70)
        xy = rng.uniform((0, 0), (hw[1] - 1, hw[0] - 1), (3, 2))
        folder.add(noise_image(hw, index), [[value for x, y in xy for value in (x, y, 2)]])
    return COCOKeypointsDataset(folder.write())


@given(st.integers(0, 5), st.integers(0, 2**62), st.sampled_from([None, (64, 64), (50, 97)]))
@settings(max_examples=60, deadline=None)
def test_round_trip_under_augmentation(
    random_points: COCOKeypointsDataset, index: int, seed: int, image_size: tuple[int, int] | None
) -> None:
    plain = random_points[index]["keypoints"][:, 0]
    dataset = COCOKeypointsDataset(
        random_points.table, image_size=image_size, augmenter=Augmenter(GEOMETRY, SWAP)
    )
    sample = dataset[(index, seed)]
    to_image = sample["to_image"].astype(float)
    if np.linalg.det(to_image[:, :2]) < 0:
        plain = plain[[0, 2, 1]]  # the right eye of a mirrored face is the left one of the face
    back = transform_points(to_image, sample["keypoints"][:, 0].astype(float))
    kept = sample["visibility"][:, 0] > 0
    assert np.abs(back - plain)[kept].max(initial=0) <= 0.02
    assert np.isnan(sample["keypoints"][~kept]).all()
    assert is_inside(sample["keypoints"][kept], sample["input_hw"]).all()
    from_image = np.linalg.inv(np.vstack([to_image, [0, 0, 1]]))[:2]
    assert not is_inside(transform_points(from_image, plain)[~kept], sample["input_hw"]).any()


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> COCOKeypointsDataset:
    """Return an image whose red dot is the left eye and whose green dot is the right eye."""
    folder = CocoFolder(tmp_path_factory.mktemp("dots"))
    left, right = (88.3, 61.6), (55.75, 84.1)
    image = np.full((140, 150, 3), PAD_VALUE, np.uint8)
    image[..., 0], image[..., 1] = draw_dot((140, 150), left, 2.0), draw_dot((140, 150), right, 2.0)
    folder.add(image, [[0, 0, 0, *left, 2, *right, 2]])
    return COCOKeypointsDataset(folder.write())


@given(st.integers(0, 2**62), st.sampled_from([None, (128, 128), (100, 180)]))
@settings(max_examples=60, deadline=None)
def test_dot_under_augmentation(
    dots: COCOKeypointsDataset, seed: int, image_size: tuple[int, int] | None
) -> None:
    dataset = COCOKeypointsDataset(dots.table, image_size=image_size, augmenter=Augmenter(GEOMETRY, SWAP))
    sample = dataset[(0, seed)]
    mirrored = np.linalg.det(sample["to_image"][:, :2]) < 0
    limits = np.array(sample["input_hw"][::-1]) - 1
    for color, channel in ((0, 2 if mirrored else 1), (1, 1 if mirrored else 2)):
        point = sample["keypoints"][channel, 0]
        if np.minimum(point, limits - point).min() > 9:  # the whole dot is in the frame
            assert np.abs(centroid(sample["image"][color]) - point).max() <= 0.05


def test_a_seed_fixes_the_sample_and_none_draws_one(random_points: COCOKeypointsDataset) -> None:
    dataset = COCOKeypointsDataset(random_points.table, augmenter=Augmenter(AugmentationConfig(), SWAP))
    first, again, other = (dataset[(0, seed)]["image"] for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    torch.manual_seed(0)
    drawn, next_drawn = dataset[0]["image"], dataset[0]["image"]
    torch.manual_seed(0)
    assert np.array_equal(drawn, dataset[0]["image"])
    assert not np.array_equal(drawn, next_drawn)


def test_flip_exchanges_the_names_of_both_sides(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE])
    flip = AugmentationConfig(
        scale=1.0,
        rotation_degrees=0.0,
        translation=0.0,
        horizontal_flip=1.0,
        color_probability=0.0,
        color=0.0,
    )
    path = coco_folder.write()
    sample = COCOKeypointsDataset(path, "nose; left_eye", augmenter=Augmenter(flip, SWAP))[0]
    # x' = 49 - x; the right eye at 22 becomes the left one
    assert sample["keypoints"][:, 0].tolist() == [[39, 20], [27, 30.25]]
    both = dataclasses.replace(flip, vertical_flip=1.0)  # a half turn mirrors nothing
    sample = COCOKeypointsDataset(path, "nose; left_eye", augmenter=Augmenter(both, SWAP))[0]
    assert sample["keypoints"][:, 0].tolist() == [[39, 19], [36.5, 29]]
    assert sample["visibility"].tolist() == [[2], [1]]


def test_points_that_leave_the_frame_are_absent(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((41, 41)), [[20, 20, 2, 1, 20, 2, 40, 20, 2]])
    zoom = AugmentationConfig(
        scale=2.0,
        rotation_degrees=0.0,
        translation=0.0,
        keep_keypoints=0.0,
        horizontal_flip=0.0,
        color_probability=0.0,
    )
    dataset = COCOKeypointsDataset(
        coco_folder.write(), "left_eye = right_eye = nose", augmenter=Augmenter(zoom)
    )
    for seed in range(20):
        sample = dataset[(0, seed)]
        scale = 1 / sample["to_image"][0, 0]
        count = 3 if 20 * scale <= 20.5 else 2 if 19 * scale <= 20.5 else 1
        assert sample["keypoints"].shape == (1, count, 2)
        assert (sample["visibility"] == 2).all()
        assert [20, 20] in np.round(sample["keypoints"][0], 3).tolist()


def test_collate_pads_images_and_keypoints(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((20, 30), 1), [[7, 9, 2, *ABSENT[3:]]], bbox=[1, 2, 3, 4])
    coco_folder.add(noise_image((25, 15), 2), [[1, 2, 2, *ABSENT[3:]], [3, 4, 1, *ABSENT[3:]]])
    coco_folder.add(noise_image((10, 10), 3))
    dataset = COCOKeypointsDataset(coco_folder.write(), "nose; left_eye")
    samples = [dataset[index] for index in range(3)]
    batch = collate(samples)
    assert batch["image"].shape == (3, 3, 25, 30)
    assert batch["image"].dtype == torch.uint8
    assert torch.equal(batch["image"][1, :, :25, :15], torch.from_numpy(samples[1]["image"]))
    assert (batch["image"][1, :, :, 15:] == PAD_VALUE).all()
    assert (batch["image"][0, :, 20:] == PAD_VALUE).all()
    assert batch["keypoints"].shape == (3, 2, 2, 2)
    assert batch["keypoints"].dtype == torch.float32
    assert batch["keypoints"][1, 0].tolist() == [[1, 2], [3, 4]]
    assert batch["visibility"].tolist() == [[[2, 0], [0, 0]], [[2, 1], [0, 0]], [[0, 0], [0, 0]]]
    assert batch["keypoints"].isnan().all(-1).tolist() == (batch["visibility"] == 0).tolist()
    assert batch["keypoint_area"][0, 0].tolist()[0] == 12
    assert batch["to_image"].shape == (3, 2, 3)
    assert batch["image_id"].tolist() == [10, 11, 12]
    assert batch["image_hw"].tolist() == batch["input_hw"].tolist() == [[20, 30], [25, 15], [10, 10]]
    assert [area.shape for area in batch["area"]] == [(1,), (2,), (0,)]
    assert [box.shape for box in batch["box"]] == [(1, 4), (2, 4), (0, 4)]


@pytest.mark.parametrize("n_channels", [1, 3, 4])
def test_images_of_other_kinds(coco_folder: CocoFolder, n_channels: int) -> None:
    grey = np.full((20, 30), 90, np.uint8)
    rgba = np.dstack([noise_image((20, 30)), grey])
    sixteen_bit = (noise_image((20, 30))[..., 0].astype(np.uint16)) * 257
    kinds = {1: [grey, sixteen_bit, rgba], 3: [grey, sixteen_bit, rgba], 4: [rgba]}[n_channels]
    for image in kinds:
        coco_folder.add(image, [FACE])
    augmenter = Augmenter(AugmentationConfig())
    dataset = COCOKeypointsDataset(coco_folder.write(), n_channels_in=n_channels, augmenter=augmenter)
    batch = collate([dataset[index] for index in range(len(dataset))])
    assert batch["image"].shape == (len(kinds), n_channels, 20, 30)
    plain = COCOKeypointsDataset(dataset.table, n_channels_in=n_channels)
    assert np.array_equal(
        plain[0]["image"], load_image(plain.table.image_path(0), n_channels).transpose(2, 0, 1)
    )


def test_a_subset_keeps_its_order(ten_images: Path) -> None:
    dataset = COCOKeypointsDataset(ten_images, image_ids=[17, 11])
    assert len(dataset) == 2
    assert [dataset[index]["image_id"] for index in range(2)] == dataset.image_ids == [17, 11]
    assert dataset[0]["keypoints"][0, 0].tolist() == [17, 20]
    with pytest.raises(ValueError, match=r"train\.json: expected image ids of this file, got 99"):
        COCOKeypointsDataset(ten_images, image_ids=[11, 99])


def test_a_wrong_size_in_the_file_is_named(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((20, 30)), [FACE])
    coco_folder.content["images"][0]["width"] = 31
    dataset = COCOKeypointsDataset(coco_folder.write())
    with pytest.raises(
        ValueError, match=r"10\.png to have width x height 31x20 .*train\.json says, got 30x20"
    ):
        dataset[0]


def test_an_unknown_name_is_an_error_that_names_the_file(ten_images: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.json: .*'noze'.*'nose'"):
        COCOKeypointsDataset(ten_images, "noze")


def test_coordinates_are_not_rounded(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [[math.pi, math.e, 2, *ABSENT[3:]]])
    sample = COCOKeypointsDataset(coco_folder.write())[0]
    assert sample["keypoints"][0, 0] == pytest.approx((math.pi, math.e), abs=1e-6)
