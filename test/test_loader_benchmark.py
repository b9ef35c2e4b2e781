from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from keypoint_detection.benchmark import Row
from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.loader_benchmark import (
    as_jpeg,
    our_loader,
    seconds_per_image,
    time_data_wait,
    time_images,
)
from keypoint_detection.loader_benchmark_plain import MEAN, STD, PlainImages

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset("flowers", tmp_path_factory.mktemp("drawn"), 6, (64, 64))


def test_rows_name_both_ways(drawn: Path) -> None:
    rows = list(time_images(drawn, 1))
    assert [row.name.split(" | ")[0].rsplit(" ", 1)[1] for row in rows] == ["ram", "off"]
    assert all(row.seconds > 0 and row.reference_seconds > 0 for row in rows)
    assert "images/s (wanted >= 450)" in rows[0].note
    assert rows[0].name.startswith("PNG 64x64 augmented, 2 workers")


def test_jpeg_images_are_the_same_pictures(drawn: Path) -> None:
    table, jpeg = read_table(drawn), read_table(as_jpeg(drawn))
    assert all(name.endswith(".jpg") for name in jpeg.file_names)
    assert np.array_equal(table.xy, jpeg.xy)
    ours, theirs = (cv2.imread(str(part.image_path(2))).astype(float) for part in (table, jpeg))
    assert 0 < np.abs(ours - theirs).mean() < 8


def test_the_plain_way_gives_normalised_floats_and_moved_points(drawn: Path) -> None:
    table = read_table(drawn)
    off = AugmentationConfig(
        scale=1.0,
        rotation_degrees=0.0,
        translation=0.0,
        horizontal_flip=0.0,
        color_probability=0.0,
        blur_probability=0.0,
        noise_probability=0.0,
    )
    plain = PlainImages(table, off)
    image, points = plain[1]
    assert image.dtype == torch.float32
    expected = (cv2.imread(str(table.image_path(1)))[..., ::-1] / 255.0 - MEAN) / STD
    assert np.abs(image.permute(1, 2, 0).numpy() - expected).max() < 0.02
    assert np.allclose(points, table.xy[slice(*table.first_point[1:3])])
    changed, moved = PlainImages(table, AugmentationConfig())[1]
    assert changed.shape == image.shape
    assert (changed - image).abs().mean() > 0.05
    assert not np.allclose(moved, points)
    assert "," in plain.tools


def test_every_image_is_counted(drawn: Path) -> None:
    loader = our_loader(drawn, "off", 4, 0)
    assert sum(len(batch["image"]) for batch in loader) == 6
    assert seconds_per_image(loader) > 0


def test_the_wait_is_measured_against_a_step(drawn: Path) -> None:
    row = time_data_wait(drawn, "Unet", batch_size=2, steps=2)
    assert isinstance(row, Row)
    assert 0 < row.seconds < row.reference_seconds
    assert "% of a step (wanted < 5 %), on" in row.note
