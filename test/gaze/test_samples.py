from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from reference.dots import centroid, draw_dot

from keypoint_detection.gaze.augmentation import GazeAugmentation
from keypoint_detection.gaze.people import GazeTable
from keypoint_detection.gaze.samples import GazeDataset, collate_gaze
from keypoint_detection.geometry import PAD_VALUE, transform_points

MOVES = GazeAugmentation(crop_probability=1, box_probability=1, flip_probability=0.5, color_probability=0)


def table_of(
    image_hw: tuple[int, int],
    people: list[tuple[Any, Any, Any, int]],
    names: tuple[str, ...] = ("a.png",),
) -> GazeTable:
    """Return a table of (head box, eye, gaze points, in_frame) in the first image."""
    return GazeTable(
        image_names=names,
        image_hw=np.tile(np.array(image_hw, np.int64), (len(names), 1)),
        image=np.zeros(len(people), np.int64),
        person=tuple(f"p{number}" for number in range(len(people))),
        head_box=np.array([person[0] for person in people], np.float64).reshape(-1, 4),
        eye_xy=np.array([person[1] for person in people], np.float64).reshape(-1, 2),
        gaze_xy=np.array([person[2] for person in people], np.float64).reshape(len(people), -1, 2),
        in_frame=np.array([person[3] for person in people], np.int8),
        group=("g",) * len(people),
    )


def write(path: Path, image: np.ndarray) -> None:
    assert cv2.imwrite(str(path), image)


@pytest.mark.parametrize("image_hw", [(120, 160), (91, 333), (480, 301)])
@pytest.mark.parametrize("augmentation", [None, MOVES], ids=["plain", "moved"])
def test_a_dot_lands_where_the_sample_says(
    image_hw: tuple[int, int], augmentation: GazeAugmentation | None, tmp_path: Path
) -> None:
    gaze, eye = (0.62 * image_hw[1], 0.55 * image_hw[0] + 0.3), (0.3 * image_hw[1] + 0.2, 0.4 * image_hw[0])
    box = [eye[0] - 20, eye[1] - 15, eye[0] + 16, eye[1] + 22]
    table = table_of(image_hw, [(box, eye, [gaze], 1)])
    mirrors, shown = set(), set()
    for name, xy in (("gaze", gaze), ("eye", eye)):
        write(tmp_path / "a.png", draw_dot(image_hw, xy, 2.5))
        dataset = GazeDataset(
            table, tmp_path, scene_hw=(150, 170), head_hw=(64, 64), augmentation=augmentation
        )
        for seed in range(10):
            sample = dataset[0, seed]
            expected = sample[name].reshape(2)
            away = expected - centroid(sample["scene"][0])
            inner = np.minimum(expected, np.array([169, 149]) - expected) / np.abs(
                1 / np.diag(sample["to_image"][:, :2])
            )
            if inner.min() > 9:  # of the original: the whole dot is shown
                assert np.abs(away).max() <= 0.05
                shown.add((name, seed))
            back = transform_points(sample["to_image"].astype(np.float64), expected.astype(np.float64))
            np.testing.assert_allclose(back, xy, atol=1e-3)
            mirrors.add(sample["to_image"][0, 0] < 0)
    assert mirrors == ({False} if augmentation is None else {False, True})
    assert len(shown) > 10


def test_the_head_crop_shows_its_dot_where_geometry_says(tmp_path: Path) -> None:
    box = np.array([40.0, 30.0, 70.0, 54.0])
    write(tmp_path / "a.png", draw_dot((100, 140), (58.3, 40.1), 2.0))
    dataset = GazeDataset(table_of((100, 140), [(box, [50, 40], [90, 80], 1)]), tmp_path, head_hw=(96, 110))
    # 30 x 24 px, larger by 10 % about its middle (55, 42), fill the frame
    expected = [(58.3 - (55 - 16.5)) * 110 / 33 - 0.5, (40.1 - (42 - 13.2)) * 96 / 26.4 - 0.5]
    np.testing.assert_allclose(centroid(dataset[0]["head"][1]), expected, atol=0.05)


def test_the_head_crop_is_padded_beyond_the_border(tmp_path: Path) -> None:
    image = np.full((40, 60), 250, np.uint8)
    write(tmp_path / "a.png", image)
    # the enlarged boxes are 20 x 20 px in all: half of each is beyond a border of the image
    left = [-0.5 - 10 / 1.1, 9.5 + 10 - 10 / 1.1, -0.5 + 10 / 1.1, 9.5 + 10 + 10 / 1.1]
    below = [29.5 - 10 / 1.1, 39.5 - 10 / 1.1, 29.5 + 10 / 1.1, 39.5 + 10 / 1.1]
    people = [(box, [np.nan, np.nan], [[30, 20]], 1) for box in (left, below)]
    dataset = GazeDataset(table_of((40, 60), people), tmp_path, head_hw=(20, 20))
    on_the_left, at_the_bottom = dataset[0]["head"], dataset[1]["head"]
    assert (on_the_left[..., :10] == PAD_VALUE).all()
    assert (on_the_left[..., 10:] == 250).all()
    assert (at_the_bottom[:, :10] == 250).all()
    assert (at_the_bottom[:, 10:] == PAD_VALUE).all()
    np.testing.assert_allclose(dataset[0]["eye"], [(-0.5 + 0.5) * 224 / 60 - 0.5, 20 * 224 / 40 - 0.5])


def test_the_mask_is_the_box_with_its_share_of_pixels(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((20, 30, 3), np.uint8))
    box = [3.75, 4.5, 9.0, 10.25]
    dataset = GazeDataset(table_of((20, 30), [(box, [5, 5], [9, 9], 1)]), tmp_path, scene_hw=(20, 30))
    sample = dataset[0]
    expected = np.zeros((20, 30))
    expected[5:10, 4:9] = 1
    expected[5:10, 9] = 0.5
    expected[10, 4:9] = 0.75
    expected[10, 9] = 0.375
    expected[5:10, 4] = 0.75
    expected[10, 4] = 0.75 * 0.75
    np.testing.assert_allclose(sample["head_mask"][0] / 255, expected, atol=0.5 / 255)
    np.testing.assert_allclose(sample["head_box"], box)


def test_the_mirror_moves_all_together(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    write(tmp_path / "a.png", image)
    table = table_of((60, 80), [([10, 20, 30, 40], [25, 28], [[60, 50], [np.nan, np.nan]], 1)])
    flips = GazeAugmentation(flip_probability=1, crop_probability=0, box_probability=0, color_probability=0)
    plain = GazeDataset(table, tmp_path, scene_hw=(48, 64))[0]
    flipped = GazeDataset(table, tmp_path, scene_hw=(48, 64), augmentation=flips)[0]
    for name in ("scene", "head", "head_mask"):
        np.testing.assert_array_equal(flipped[name], plain[name][..., ::-1])
    for name in ("gaze", "eye"):
        np.testing.assert_allclose(flipped[name][..., 0], 63 - plain[name][..., 0], atol=1e-4)
        np.testing.assert_array_equal(flipped[name][..., 1], plain[name][..., 1])
    x0, y0, x1, y1 = plain["head_box"]
    np.testing.assert_allclose(flipped["head_box"], [63 - x1, y0, 63 - x0, y1], atol=1e-4)


def test_draws_depend_on_row_and_seed_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    people = [([10, 20, 30, 40], [25, 28], [60, 50], 1)] * 2
    config = GazeAugmentation(crop_probability=1)
    first, second = (GazeDataset(table_of((60, 80), people), tmp_path, augmentation=config) for _ in "ab")
    np.random.seed(3)  # noqa: NPY002 - neither NumPy's generator nor torch's has a say
    torch.manual_seed(3)
    for index in (0, 1, (0, 5), (0, 6)):
        a, b = first[index], second[index]
        assert all(np.array_equal(a[key], b[key], equal_nan=a[key].dtype.kind == "f") for key in a)
    boxes = [first[index]["to_image"].tolist() for index in (0, 1, (0, 5), (0, 6))]
    assert all(box not in boxes[:place] for place, box in enumerate(boxes))
    other = GazeDataset(table_of((60, 80), people), tmp_path, augmentation=config, seed=1)
    assert other[0]["to_image"].tolist() != boxes[0]


def test_people_without_a_target(tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.zeros((33, 57, 3), np.uint8))
    nowhere = [np.nan, np.nan]
    people = [([4, 4, 14, 14], [8, 8], nowhere, 0), ([4, 4, 14, 14], nowhere, nowhere, -1)]
    config = GazeAugmentation(crop_probability=1, color_probability=1)
    dataset = GazeDataset(table_of((33, 57), people), tmp_path, augmentation=config)
    batch = collate_gaze([dataset[0], dataset[1]])
    assert batch["in_frame"][0] == 0
    assert batch["in_frame"][1].isnan()
    assert batch["gaze"].shape == (2, 1, 2)
    assert batch["gaze"].isnan().all()
    assert batch["eye"].isfinite().all()
    assert (batch["head_mask"].flatten(1).amax(1) == 255).all()
    without = replace(dataset.table, gaze_xy=np.empty((2, 0, 2)))
    assert GazeDataset(without, tmp_path)[0]["gaze"].shape == (1, 2)


@pytest.mark.parametrize("shape", [(33, 57), (33, 57, 3), (33, 57, 4)], ids=["grey", "rgb", "rgba"])
def test_batches_of_any_image(shape: tuple[int, ...], tmp_path: Path) -> None:
    write(tmp_path / "a.png", np.full(shape, 90, np.uint8))
    table = table_of((33, 57), [([4, 4, 14, 14], [8, 8], [[30, 30], [31, 30]], 1)] * 3)
    dataset = GazeDataset(table, tmp_path, scene_hw=(45, 67), head_hw=(31, 29))
    batch = collate_gaze([dataset[index] for index in range(3)])
    shapes = {key: (tuple(value.shape), value.dtype) for key, value in batch.items()}  # pyright: ignore
    assert shapes == {
        "scene": ((3, 3, 45, 67), torch.uint8),
        "head": ((3, 3, 31, 29), torch.uint8),
        "head_mask": ((3, 1, 45, 67), torch.uint8),
        "gaze": ((3, 2, 2), torch.float32),
        "in_frame": ((3,), torch.float32),
        "eye": ((3, 2), torch.float32),
        "head_box": ((3, 4), torch.float32),
        "to_image": ((3, 2, 3), torch.float32),
        "image_hw": ((3, 2), torch.int64),
        "index": ((3,), torch.int64),
    }
    assert (batch["scene"] == 90).all()
    assert batch["index"].tolist() == [0, 1, 2]
    assert batch["image_hw"].tolist() == [[33, 57]] * 3


def test_depth_follows_the_scene_at_any_size(tmp_path: Path) -> None:
    (tmp_path / "depth" / "x").mkdir(parents=True)
    (tmp_path / "x").mkdir()
    write(tmp_path / "x" / "a.jpg", draw_dot((120, 160), (96.4, 70.2), 3.0))
    half = (96.4 + 0.5) / 2 - 0.5, (70.2 + 0.5) / 2 - 0.5
    dot = draw_dot((60, 80), half, 2.0)
    write(tmp_path / "depth" / "x" / "a.png", dot.astype(np.uint16) * 257)
    table = table_of((120, 160), [([40, 30, 70, 54], [50, 40], [96.4, 70.2], 1)], ("x/a.jpg",))
    dataset = GazeDataset(
        table, tmp_path, scene_hw=(150, 170), augmentation=MOVES, depth_folder=tmp_path / "depth"
    )
    n_whole = 0
    for seed in range(6):
        sample = dataset[0, seed]
        assert sample["depth"].shape == (1, 150, 170)
        if (np.abs(sample["gaze"][0] - [85, 75]) < [50, 40]).all():
            np.testing.assert_allclose(centroid(sample["depth"][0]), sample["gaze"][0], atol=0.1)
            n_whole += 1
    assert n_whole > 1
    with pytest.raises(FileNotFoundError, match=r"^expected a depth map, found nothing at .*a\.png; check"):
        GazeDataset(table, tmp_path, depth_folder=tmp_path / "nowhere")


def test_wrong_files_are_one_line(tmp_path: Path) -> None:
    table = table_of((33, 57), [([4, 4, 14, 14], [8, 8], [30, 30], 1)])
    with pytest.raises(FileNotFoundError, match=r"^expected an image, found nothing at .*a\.png"):
        GazeDataset(table, tmp_path)
    write(tmp_path / "a.png", np.zeros((30, 57), np.uint8))
    with pytest.raises(ValueError, match=r"a\.png to have width x height 57x33 as the table.*got 57x30"):
        GazeDataset(table, tmp_path)[0]
    with pytest.raises(ValueError, match=r"^head_hw: expected at least 8x8, got \(4, 4\)$"):
        GazeDataset(table, tmp_path, head_hw=(4, 4))
    broken = replace(table, head_box=table.head_box[:, [2, 1, 0, 3]])
    with pytest.raises(ValueError, match="person p0: expected a head box"):
        GazeDataset(broken, tmp_path)
