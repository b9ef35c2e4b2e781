import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from configuration import small_config

from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.data_fingerprint import coco_fingerprint, data_fingerprint


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    return make_dataset("boxes", tmp_path / "data", 3, (64, 64), seed=1)


def first_image(coco: Path) -> Path:
    return coco.parent / json.loads(coco.read_text())["images"][0]["file_name"]


def test_a_copy_elsewhere_is_the_same_data(coco: Path, tmp_path: Path) -> None:
    other = make_dataset("boxes", tmp_path / "copy", 3, (64, 64), seed=1)
    one, two = coco_fingerprint(coco), coco_fingerprint(other)
    assert one["images"] == 3
    assert one.pop("path") != two.pop("path")
    assert one == two


def test_one_pixel_of_one_image_counts(coco: Path) -> None:
    before = coco_fingerprint(coco)
    path = first_image(coco)
    image = cv2.imread(str(path))
    assert image is not None
    image[0, 0] = image[0, 0] ^ np.uint8(1)
    assert cv2.imwrite(str(path), image)
    after = coco_fingerprint(coco)
    assert after["image_files"] != before["image_files"]
    assert after["sha256"] == before["sha256"]


def test_a_label_counts_and_a_missing_image_does_not_fail(coco: Path) -> None:
    before = coco_fingerprint(coco)
    coco.write_text(coco.read_text() + " ")
    assert coco_fingerprint(coco)["sha256"] != before["sha256"]
    first_image(coco).unlink()
    assert coco_fingerprint(coco)["image_files"] != before["image_files"]


def test_every_file_of_a_training_is_there(coco: Path, tmp_path: Path) -> None:
    config = small_config(coco, tmp_path, json_test_dataset_path=str(coco))
    found = data_fingerprint(config)
    assert list(found) == ["json_dataset_path", "json_test_dataset_path"]
    assert found["json_dataset_path"]["path"] == str(coco)
