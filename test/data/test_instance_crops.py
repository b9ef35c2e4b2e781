import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import CocoFolder, noise_image
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dots import centroid, draw_dot

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, collate
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.instance_crops import InstanceCrops, detection_crops, label_crops
from keypoint_detection.geometry import PAD_VALUE, is_inside, transform_points

REAL_DATA = Path(__file__).parents[3] / "shared" / "data" / "coco_person"
SWAP = {"nose": "nose", "left_eye": "right_eye", "right_eye": "left_eye"}
GEOMETRY = AugmentationConfig(color=0.0, color_probability=0.0, vertical_flip=0.3, rotation_degrees=180.0)
FACE = [10, 20, 2, 12.5, 10, 1, 22, 30.25, 2]
ABSENT = [0, 0, 0] * 3


def annotate(folder: CocoFolder, image_id: int, keypoints: Sequence[float], **fields: Any) -> int:
    """Add one annotation to an image and return its id."""
    annotations = folder.content["annotations"]
    identity = 50 + len(annotations)
    entry = {"id": identity, "image_id": image_id, "category_id": 1, "keypoints": list(keypoints)}
    annotations.append({**entry, **fields})
    return identity


def test_crops_of_labels_by_hand(coco_folder: CocoFolder) -> None:
    first, second = coco_folder.add(noise_image((40, 50))), coco_folder.add(noise_image((40, 50)))
    b = annotate(coco_folder, second, FACE, bbox=[9, 8, 20, 30])
    a = annotate(coco_folder, first, FACE, bbox=[-5, 2, 10, 12.5])
    annotate(coco_folder, first, ABSENT, bbox=[1, 1, 8, 8])  # nothing is labelled
    annotate(coco_folder, first, FACE, bbox=[1, 1, 8, 8], iscrowd=1)
    c = annotate(coco_folder, first, FACE, bbox=[30, 20, 90, 90])
    table = read_table(coco_folder.write())
    crops = label_crops(table, 1.5)
    assert table.instance_ids[crops.instance].tolist() == [a, c, b]  # in the order of the images
    assert crops.row.tolist() == [0, 0, 1]
    assert crops.box.tolist() == [[-5, 2, 10, 12.5], [30, 20, 90, 90], [9, 8, 20, 30]]
    assert crops.score.tolist() == crops.category_id.tolist() == [1, 1, 1]
    assert (len(crops), crops.padding) == (3, 1.5)
    assert crops.row.dtype == crops.instance.dtype == crops.category_id.dtype == np.int64
    assert crops.box.dtype == crops.score.dtype == np.float32
    assert label_crops(table, 1.5, [second]).instance.tolist() == crops.instance[2:].tolist()
    assert len(label_crops(table, 1.5, [])) == 0
    with pytest.raises(ValueError, match=r"train\.json: expected image ids of this file, got 99"):
        label_crops(table, 1.5, [99])


def test_keypoints_stand_in_for_a_missing_box(
    coco_folder: CocoFolder, caplog: pytest.LogCaptureFixture
) -> None:
    image_id = coco_folder.add(noise_image((40, 50)), [FACE])
    annotate(coco_folder, image_id, [3, 5, 2, 3, 9, 2, 0, 0, 0], bbox=[1, 1, 0, 9])  # a line is 1 px wide
    annotate(coco_folder, image_id, FACE, bbox=[1, 1, 5, 9])
    with caplog.at_level(logging.WARNING, logger="keypoint_detection"):
        crops = label_crops(read_table(coco_folder.write()), 1.0)
    # the pixel centres 10 and 22 are 10.5 and 22.5 from the corner of the image
    assert crops.box.tolist() == [[10.5, 10.5, 12, 20.25], [3, 5.5, 1, 4], [1, 1, 5, 9]]
    assert len(caplog.messages) == 1
    assert "train.json: 2 of 3 boxes are the extent of their keypoints" in caplog.text
    assert "(first annotation 0)" in caplog.text


def test_boxes_of_the_file_are_not_reported(ten_images: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="keypoint_detection"):
        label_crops(read_table(ten_images), 1.25)
    assert caplog.messages == []


@pytest.mark.parametrize("bbox", [None, [4, 4, 0, 0], [4, 4, -3, 5]])
def test_one_point_is_no_box(coco_folder: CocoFolder, bbox: list[float] | None) -> None:
    image_id = coco_folder.add(noise_image((40, 50)))
    identity = annotate(coco_folder, image_id, [7, 9.5, 2, *ABSENT[3:]], bbox=bbox)
    table = read_table(coco_folder.write())
    with pytest.raises(
        ValueError, match=rf"train\.json: annotation {identity}, field 'bbox': .* at \(7, 9\.5\)"
    ) as error:
        label_crops(table, 1.25)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("bbox", [[50, 0, 5, 5], [-5, 3, 5, 5], [3, 40, 5, 5], [3, -9.5, 8, 9]])
def test_a_box_beside_its_image_is_an_error(coco_folder: CocoFolder, bbox: list[float]) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE], bbox=bbox)
    table = read_table(coco_folder.write())
    listed = ", ".join(f"{value:g}" for value in bbox)
    for make in (
        lambda: label_crops(table, 1.25),
        lambda: detection_crops(table, np.array([bbox]), [0.5], [10], [1], 1.25),
    ):
        with pytest.raises(ValueError, match=r"(annotation|detection) 0.* overlaps its image") as error:
            make()
        assert f"50x40 pixels (images/10.png), got ({listed})" in str(error.value)
        assert "\n" not in str(error.value)


def test_crops_of_detected_boxes(ten_images: Path) -> None:
    table = read_table(ten_images)
    boxes = np.array([[1, 2, 30, 20], [5, 6, 7, 8], [40, 30, 90, 90]])
    crops = detection_crops(table, boxes, np.array([0.5, 0.25, 2.0]), [17, 10, 17], [1, 4, 1], 1.25)
    assert crops.row.tolist() == [7, 0, 7]
    assert crops.instance.tolist() == [-1, -1, -1]
    assert crops.box.tolist() == boxes.tolist()
    assert crops.score.tolist() == [0.5, 0.25, 2]
    assert crops.category_id.tolist() == [1, 4, 1]
    dataset = COCOKeypointsDataset(table, image_size=(32, 24), crops=crops)
    batch = collate([dataset[index] for index in range(3)])
    assert batch["image_id"].tolist() == dataset.image_ids == [17, 10, 17]
    assert not batch["visibility"].any()
    assert [values.shape for values in (*batch["area"], *batch["box"])] == [(0,)] * 3 + [(0, 4)] * 3
    assert len(detection_crops(table, np.empty((0, 4)), [], [], [], 1.25)) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_ids": [10, 99]}, r"expected image ids of this file, got 99"),
        ({"scores": [0.5]}, r"as many boxes as scores, image ids and category ids, got \[2, 1, 2, 2\]"),
        (
            {"scores": [0.5, float("nan")]},
            r"detection 1 of image 11: expected a finite score .* got score nan",
        ),
        ({"boxes": [[1, 1, 0, 5], [1, 1, 5, 5]]}, r"detection 0 of image 10: .* and \(1, 1, 0, 5\)"),
    ],
)
def test_wrong_detections_are_named(ten_images: Path, changed: dict[str, Any], message: str) -> None:
    values = {
        "boxes": [[1, 1, 5, 5]] * 2,
        "scores": [0.5, 0.6],
        "image_ids": [10, 11],
        "category_ids": [1, 1],
    }
    values |= changed
    with pytest.raises(ValueError, match=message) as error:
        detection_crops(read_table(ten_images), np.array(values.pop("boxes")), **values, padding=1.25)
    assert "\n" not in str(error.value)


def test_sample_by_hand(coco_folder: CocoFolder) -> None:
    image = noise_image((40, 50))
    coco_folder.add(image, [[5, 5, 2, 6, 6, 2, 7, 7, 2]], bbox=[0, 0, 20, 20], area=7.0)
    coco_folder.add(image)
    annotate(coco_folder, 10, [0, 0, 0, 25, 20, 2, 45, 30, 1], bbox=[20, 10, 10, 20], area=9.0)
    annotate(coco_folder, 10, ABSENT, bbox=[3, 4, 5, 6], iscrowd=1)
    table = read_table(coco_folder.write())
    dataset = COCOKeypointsDataset(
        table, image_size=(40, 40), crops=label_crops(table, 2.0), lengths=np.array([3.0, 4.0])
    )
    assert (len(dataset), dataset.image_ids) == (2, [10, 10])
    sample = dataset[1]
    # 2 x 20 rows fill the 40 rows of the frame: scale 1, and the centre (24.5, 19.5) goes to (19.5, 19.5)
    assert np.array_equal(sample["image"], image[:, 5:45].transpose(2, 0, 1))
    assert sample["keypoints"][1:, 0].tolist() == [[20, 20], [40, 30]]  # the second one is out of the crop
    assert sample["visibility"].tolist() == [[0], [2], [1]]
    assert sample["keypoint_area"][1:].tolist() == [[9], [9]]
    assert sample["keypoint_length"][1:].tolist() == [[4], [4]]
    assert sample["to_image"].tolist() == [[1, 0, 5], [0, 1, 0]]
    assert (sample["image_id"], sample["image_hw"], sample["input_hw"]) == (10, (40, 50), (40, 40))
    assert (sample["area"].tolist(), sample["box"].tolist()) == ([9], [[20, 10, 10, 20]])
    assert sample["crowd_box"].tolist() == [[3, 4, 5, 6]]
    still = AugmentationConfig(scale=1.0, rotation_degrees=0.0, translation=0.0, horizontal_flip=0.0)
    changed = COCOKeypointsDataset(
        table, image_size=(40, 40), crops=label_crops(table, 2.0), augmenter=Augmenter(still)
    )
    kept = {bool(changed[(1, seed)]["visibility"][2, 0]) for seed in range(40)}
    assert kept == {False, True}  # dropped, except where the frame moves to hold it


def test_a_box_at_the_border_is_padded_with_grey(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE], bbox=[-10, -10, 20, 20])
    table = read_table(coco_folder.write())
    sample = COCOKeypointsDataset(table, image_size=(40, 40), crops=label_crops(table, 1.0))[0]
    assert (sample["image"][:, :18] == PAD_VALUE).all()
    assert (sample["image"][:, :, :18] == PAD_VALUE).all()
    assert sample["image"][:, 21:, 21:].std() > 20


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> KeypointTable:
    """Return an image of two faces: red left eyes and green right eyes, each a dot on grey."""
    folder = CocoFolder(tmp_path_factory.mktemp("dots"))
    faces = [((78.3, 61.6), (55.75, 84.1)), ((190.2, 120.7), (170.45, 90.3))]
    image = np.full((170, 250, 3), PAD_VALUE, np.uint8)
    for color, side in ((0, 0), (1, 1)):
        drawn = [draw_dot((170, 250), face[side], 2.0) for face in faces]
        image[..., color] = np.maximum(*drawn)
    image_id = folder.add(image)
    for left, right in faces:
        low, high = np.minimum(left, right) - 25, np.maximum(left, right) + 25
        box = [*low.tolist(), *(high - low).tolist()]
        annotate(folder, image_id, [0, 0, 0, *left, 2, *right, 2], bbox=box)
    return read_table(folder.write())


def check_dots(sample: dict[str, Any]) -> int:
    """Compare every dot that is well inside the crop and alone there; return how many there were."""
    mirrored = np.linalg.det(sample["to_image"][:, :2]) < 0
    limits, scale = np.array(sample["input_hw"][::-1]) - 1, 1 / np.linalg.norm(sample["to_image"][0, :2])
    checked = 0
    for color, channel in ((0, 2 if mirrored else 1), (1, 1 if mirrored else 2)):
        point, radius = sample["keypoints"][channel, 0], 9 * scale + 3
        shown = sample["image"][color].copy()
        y, x = np.mgrid[: shown.shape[0], : shown.shape[1]]
        shown[np.hypot(x - point[0], y - point[1]) > radius] = PAD_VALUE  # the dot of the other face
        if np.minimum(point, limits - point).min() > radius:
            assert np.abs(centroid(shown) - point).max() <= 0.05
            checked += 1
    return checked


@pytest.mark.parametrize("image_size", [(128, 96), (60, 60), (90, 140)])
def test_dot(dots: KeypointTable, image_size: tuple[int, int]) -> None:
    dataset = COCOKeypointsDataset(dots, image_size=image_size, crops=label_crops(dots, 1.25))
    assert sum(check_dots(dataset[index]) for index in (0, 1)) == 4
    turned = COCOKeypointsDataset(
        dots, image_size=image_size, crops=dataset.crops, augmenter=Augmenter(GEOMETRY, SWAP)
    )
    assert sum(check_dots(turned[(index, seed)]) for index in (0, 1) for seed in range(20)) > 30


@given(st.integers(0, 1), st.integers(0, 2**62), st.sampled_from([(128, 96), (60, 60), (90, 140)]))
@settings(max_examples=60, deadline=None)
def test_dot_and_round_trip_under_augmentation(
    dots: KeypointTable, index: int, seed: int, image_size: tuple[int, int]
) -> None:
    dataset = COCOKeypointsDataset(
        dots, image_size=image_size, crops=label_crops(dots, 1.25), augmenter=Augmenter(GEOMETRY, SWAP)
    )
    sample = dataset[(index, seed)]
    check_dots(sample)
    mirrored = np.linalg.det(sample["to_image"][:, :2]) < 0
    own = dots.xy[2 * index : 2 * index + 2][:: -1 if mirrored else 1]
    back = transform_points(sample["to_image"].astype(float), sample["keypoints"][1:, 0].astype(float))
    kept = sample["visibility"][1:, 0] > 0
    assert np.abs(back - own)[kept].max(initial=0) <= 0.02
    assert is_inside(sample["keypoints"][1:, 0][kept], image_size).all()


def test_a_seed_fixes_the_crop(dots: KeypointTable) -> None:
    def dataset() -> COCOKeypointsDataset:
        augmenter = Augmenter(AugmentationConfig(), SWAP)
        return COCOKeypointsDataset(
            dots, image_size=(40, 30), crops=label_crops(dots, 1.25), augmenter=augmenter
        )

    one, other = dataset(), dataset()
    expected = [one[(index, seed)]["image"] for index in (0, 1) for seed in (1, 2)]
    again = [other[(index, seed)]["image"] for index in (1, 0) for seed in (2, 1)]
    for first, second in zip(expected, again[::-1], strict=True):
        assert np.array_equal(first, second)
    assert len({image.tobytes() for image in expected}) == 4
    torch.manual_seed(0)
    drawn = one[0]["image"]
    assert not np.array_equal(drawn, one[0]["image"])


def test_crops_of_a_batch_may_have_other_numbers_of_points(coco_folder: CocoFolder) -> None:
    image_id = coco_folder.add(noise_image((40, 50)), [FACE], bbox=[5, 5, 30, 30])
    annotate(coco_folder, image_id, [3, 3, 2, *ABSENT[3:]], bbox=[1, 1, 9, 9])
    table = read_table(coco_folder.write())
    dataset = COCOKeypointsDataset(
        table, "nose = left_eye = right_eye", image_size=(32, 24), crops=label_crops(table, 1.25)
    )
    batch = collate([dataset[0], dataset[1]])
    assert batch["keypoints"].shape == (2, 1, 3, 2)
    assert batch["visibility"].tolist() == [[[2, 1, 2]], [[2, 0, 0]]]
    assert [area.tolist() for area in batch["area"]] == [[900], [81]]


def test_images_are_checked_and_turned_as_in_image_mode(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)), [FACE], bbox=[5, 5, 30, 30])
    coco_folder.content["images"][0]["width"] = 49
    table = read_table(coco_folder.write())
    dataset = COCOKeypointsDataset(table, image_size=(32, 24), crops=label_crops(table, 1.25))
    for _ in range(2):  # a refused image is not kept
        with pytest.raises(ValueError, match=r"to have width x height 49x40 .* got 50x40"):
            dataset[0]


def test_exif_orientation_is_applied(coco_folder: CocoFolder) -> None:
    stored = cv2.GaussianBlur(noise_image((48, 64)), (0, 0), 4.0)
    coco_folder.add(stored, [FACE], "turned.jpg", bbox=[0, 0, 48, 64])
    jpeg = (coco_folder.folder / "turned.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (coco_folder.folder / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    coco_folder.content["images"][0].update(width=48, height=64)
    table = read_table(coco_folder.write())
    sample = COCOKeypointsDataset(table, image_size=(64, 48), crops=label_crops(table, 1.0))[0]
    upright = np.rot90(stored, -1).transpose(2, 0, 1).astype(float)
    assert np.abs(sample["image"] - upright).mean() < 8


def test_choices_that_do_not_go_together(ten_images: Path) -> None:
    table = read_table(ten_images)
    crops = label_crops(table, 1.25)
    for options in ({}, {"image_size": (32, 24), "image_ids": [10]}):
        with pytest.raises(ValueError, match=r"^crops: expected an image_size") as error:
            COCOKeypointsDataset(table, crops=crops, **options)
        assert "\n" not in str(error.value)


def test_real_coco_file() -> None:
    path = REAL_DATA / "test_coco.json"
    if not path.is_file():
        pytest.skip("needs the COCO images in ../shared/data/coco_person")
    table = read_table(path)
    crops: InstanceCrops = label_crops(table, 1.25)
    assert len(crops) == 12  # two of fourteen people have no labels
    dataset = COCOKeypointsDataset(table, image_size=(256, 192), crops=crops)
    labelled = {a["id"]: a for a in json.loads(path.read_text())["annotations"] if a["num_keypoints"]}
    assert set(table.instance_ids[crops.instance].tolist()) == set(labelled)
    for index, identity in enumerate(table.instance_ids[crops.instance].tolist()):
        sample, annotation = dataset[index], labelled[identity]
        values = np.array(annotation["keypoints"], float).reshape(-1, 3)
        assert np.array_equal(sample["visibility"][:, 0], values[:, 2])
        back = transform_points(sample["to_image"].astype(float), sample["keypoints"][:, 0].astype(float))
        shown = values[:, 2] > 0
        assert np.abs(back - values[:, :2])[shown].max() <= 0.02
        assert sample["image_id"] == annotation["image_id"]
