from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import noise_image

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.imageloader import ImageError
from keypoint_detection.data.unlabeled_dataset import (
    UnlabeledKeypointsDataset,
    collate_unlabeled,
    find_images,
    prepare_image,
)
from keypoint_detection.geometry import PAD_VALUE


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    (folder / "more").mkdir(parents=True)
    for name in ("frame10.png", "frame2.PNG", "frame1.jpg", "more/frame3.png"):
        cv2.imwrite(str(folder / name), noise_image((20, 30)))
    (folder / "labels.csv").write_text("x")
    return folder


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def test_a_folder_is_read_in_natural_order(frames: Path) -> None:
    assert names(find_images(frames)) == ["frame1.jpg", "frame2.PNG", "frame10.png"]


def test_globs_one_image_and_lists(frames: Path) -> None:
    assert names(find_images(f"{frames}/*.png")) == ["frame10.png"]
    assert names(find_images(f"{frames}/**/*.*")) == ["frame1.jpg", "frame2.PNG", "frame10.png", "frame3.png"]
    assert find_images(frames / "frame1.jpg") == [frames / "frame1.jpg"]
    listed = [str(frames / "frame10.png"), frames / "frame1.jpg"]
    assert names(find_images(listed)) == ["frame10.png", "frame1.jpg"]


def test_a_file_name_may_look_like_a_glob(tmp_path: Path) -> None:
    path = tmp_path / "frame[1].png"
    cv2.imwrite(str(path), noise_image((4, 4)))
    assert find_images(path) == [path]


def test_nothing_found_is_one_line(frames: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source, message in [
        (tmp_path / "empty", "expected images .* in .*empty, found none among 0 entries"),
        (f"{frames}/*.csv", "found none among 1 entries"),
        (tmp_path / "none.png", "found nothing at .*none.png"),
        ([], "got an empty list"),
        (
            [frames / "frame1.jpg", tmp_path / "none.png"],
            "expected 2 images, 1 are missing, first .*none.png",
        ),
    ]:
        with pytest.raises(FileNotFoundError, match=message) as error:
            UnlabeledKeypointsDataset(source)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("image_size", [None, (64, 48)])
def test_samples_are_those_of_the_labelled_data_set(
    ten_images: Path, image_size: tuple[int, int] | None
) -> None:
    labelled = COCOKeypointsDataset(ten_images, image_size=image_size)
    dataset = UnlabeledKeypointsDataset(ten_images.parent / "images", image_size)
    assert len(dataset) == len(labelled) == 10
    for index in (0, 9):
        sample, expected = dataset[index], labelled[index]
        assert sample["path"] == str(labelled.table.image_path(index))
        for key in ("image", "to_image", "image_hw", "input_hw"):
            assert np.array_equal(sample[key], expected[key])


def test_collate_pads(frames: Path) -> None:
    arrays = [noise_image((20, 30), 1), noise_image((24, 10), 2)]
    batch = collate_unlabeled([prepare_image(image, None) for image in arrays])
    assert batch["image"].shape == (2, 3, 24, 30)
    assert torch.equal(batch["image"][1, :, :, :10], torch.from_numpy(arrays[1].transpose(2, 0, 1).copy()))
    assert (batch["image"][1, :, :, 10:] == PAD_VALUE).all()
    assert batch["image_hw"].tolist() == batch["input_hw"].tolist() == [[20, 30], [24, 10]]
    assert batch["to_image"].tolist() == [[[1, 0, 0], [0, 1, 0]]] * 2
    assert batch["path"] == ["", ""]


def test_an_unreadable_image_stops_only_its_own_sample(frames: Path) -> None:
    (frames / "frame3.png").write_text("no image")
    dataset = UnlabeledKeypointsDataset(frames, n_channels_in=1)
    assert dataset[0]["image"].shape == (1, 20, 30)
    with pytest.raises(ImageError, match=r"frame3\.png"):
        dataset[2]
    assert dataset[3]["image"].shape == (1, 20, 30)
