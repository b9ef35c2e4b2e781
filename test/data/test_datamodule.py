import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import CocoFolder, noise_image
from torch.utils.data import DataLoader

from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.datamodule import KeypointsDataModule, resized_dataset_path

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 and later warn about every fork of a process with threads, which is how workers start.
    "ignore:.*multi-threaded.*fork:DeprecationWarning",
    "ignore:This DataLoader will create",  # on a machine with a single core
)


def module(path: Path, **options: Any) -> KeypointsDataModule:
    return KeypointsDataModule(json_dataset_path=path, **{"num_workers": 0, "batch_size": 4, **options})


def epoch(loader: Any) -> list[dict[str, Any]]:
    assert isinstance(loader, DataLoader)
    return list(loader)


def flat(batches: Iterable[dict[str, Any]], key: str) -> torch.Tensor:
    return torch.cat([batch[key] for batch in batches])


def test_batches_are_reproducible_with_any_number_of_workers(ten_images: Path) -> None:
    def two_epochs(num_workers: int, seed: int = 7) -> list[list[dict[str, Any]]]:
        options = {"augment_train": True, "validation_split_ratio": 0, "seed": seed}
        loader = module(ten_images, num_workers=num_workers, **options).train_dataloader()
        return [epoch(loader), epoch(loader)]

    alone, shared, other = two_epochs(0), two_epochs(2), two_epochs(0, seed=8)
    for first, second in zip(alone, shared, strict=True):
        for key in ("image", "keypoints", "image_id", "to_image"):
            expected = flat(first, key)
            assert torch.equal(expected.nan_to_num(), flat(second, key).nan_to_num())
    assert not torch.equal(flat(alone[0], "image_id"), flat(alone[1], "image_id"))
    assert not torch.equal(flat(alone[0], "image_id"), flat(other[0], "image_id"))
    by_id = [dict(zip(flat(e, "image_id").tolist(), flat(e, "to_image"), strict=True)) for e in alone]
    assert sorted(by_id[0]) == list(range(10, 20))
    assert not any(torch.equal(by_id[0][image_id], by_id[1][image_id]) for image_id in by_id[0])


def test_the_split_is_seeded_and_validation_is_never_augmented(ten_images: Path) -> None:
    data = module(ten_images, augment_train=True, validation_split_ratio=0.3, seed=3)
    train, held_out = data.train_dataset.image_ids, data.validation_dataset.image_ids
    assert (len(train), len(held_out)) == (7, 3)
    assert sorted(train + held_out) == list(range(10, 20))
    assert module(ten_images, validation_split_ratio=0.3, seed=3).train_dataset.image_ids == train
    assert module(ten_images, validation_split_ratio=0.3, seed=4).train_dataset.image_ids != train
    plain = COCOKeypointsDataset(ten_images)
    for batch in epoch(data.val_dataloader()):
        for row, image_id in enumerate(batch["image_id"].tolist()):
            assert np.array_equal(batch["image"][row], plain[image_id - 10]["image"])
    changed = epoch(data.train_dataloader())[0]
    first = int(changed["image_id"][0]) - 10
    assert not np.array_equal(changed["image"][0], plain[first]["image"])


def test_given_validation_and_test_files_are_used(ten_images: Path, tmp_path: Path) -> None:
    content = json.loads(ten_images.read_text())
    for name, count in (("val.json", 3), ("test.json", 2)):
        images = content["images"][:count]
        ids = {image["id"] for image in images}
        annotations = [a for a in content["annotations"] if a["image_id"] in ids]
        (tmp_path / name).write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    data = module(
        ten_images,
        json_validation_dataset_path=tmp_path / "val.json",
        json_test_dataset_path=tmp_path / "test.json",
        augment_train=True,
    )
    assert len(data.train_dataset) == 10
    assert flat(epoch(data.val_dataloader()), "image_id").tolist() == [10, 11, 12]
    assert flat(epoch(data.test_dataloader()), "image_id").tolist() == [10, 11]
    assert data.validation_dataset.augmenter is None
    assert data.test_dataset.augmenter is None


def test_without_a_split_there_is_no_validation(ten_images: Path) -> None:
    data = module(ten_images, validation_split_ratio=0)
    assert data.val_dataloader() == data.test_dataloader() == []
    assert [len(batch["image"]) for batch in epoch(data.train_dataloader())] == [4, 4, 2]


def test_fewer_images_than_a_batch(ten_images: Path) -> None:
    data = module(ten_images, batch_size=64, image_size=(32, 64))
    batches = epoch(data.train_dataloader())
    assert [batch["image"].shape for batch in batches] == [(len(data.train_dataset), 3, 32, 64)]


def test_channels_are_parsed(ten_images: Path) -> None:
    data = module(ten_images, keypoint_channel_configuration="nose; left_eye = right_eye")
    assert data.channels == [["nose"], ["left_eye", "right_eye"]]
    assert data.keypoint_names == ["nose", "left_eye", "right_eye"]
    assert epoch(data.val_dataloader())[0]["keypoints"].shape[1:] == (2, 2, 2)


def test_flips_are_off_when_a_partner_is_missing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = CocoFolder(tmp_path, ["nose", "left_ear"])
    folder.add(noise_image((40, 50)), [[1, 2, 2, 3, 4, 2]])
    folder.add(noise_image((40, 50)), [[1, 2, 2, 3, 4, 2]])
    path = folder.write()
    with caplog.at_level(logging.WARNING):
        augmenter = module(path, augment_train=True).train_dataset.augmenter
        assert augmenter.config.horizontal_flip == augmenter.config.vertical_flip == 0
        assert len(caplog.messages) == 1
        assert "flips are off, because there is no partner for the keypoint left_ear" in caplog.text
        caplog.clear()
        augmenter = module(path, augment_train=True, symmetric_keypoints=[]).train_dataset.augmenter
        assert augmenter.config.horizontal_flip == 0.5  # an empty list says that nothing has a side
        augmenter = module(
            path, augment_train=True, keypoint_channel_configuration="nose"
        ).train_dataset.augmenter
        assert augmenter.config.horizontal_flip == 0.5  # the ear is not learnt
        module(path, augment_train=True, augmentation=AugmentationConfig(horizontal_flip=0.0))
        module(path)
        assert caplog.messages == []
        module(path, augment_train=True, symmetric_keypoints=[["nose", "tail"]])
        assert "no partner for the keypoint tail" in caplog.text


def test_names_of_the_mirror_reach_the_samples(ten_images: Path) -> None:
    config = AugmentationConfig(
        scale=1.0, rotation_degrees=0.0, translation=0.0, horizontal_flip=1.0, color=0.0
    )
    data = module(ten_images, augment_train=True, augmentation=config, validation_split_ratio=0)
    sample = data.train_dataset[0]
    assert sample["keypoints"][1, 0].tolist() == [47 - 22, 30.25]


def test_empty_annotations(coco_folder: CocoFolder) -> None:
    coco_folder.add(noise_image((40, 50)))
    with pytest.raises(
        ValueError, match=r"train\.json: expected annotations with labelled keypoints, got none"
    ):
        module(coco_folder.write())


def test_a_channel_without_keypoints_is_named_with_the_counts(coco_folder: CocoFolder) -> None:
    for _ in range(2):
        coco_folder.add(noise_image((40, 50)), [[1, 2, 2, 3, 4, 1, 0, 0, 0]])
    path = coco_folder.write()
    with pytest.raises(
        ValueError, match=r"train\.json: .* channel 'right_eye'.* nose 2, left_eye 2, right_eye 0"
    ):
        module(path)
    assert module(path, keypoint_channel_configuration="left_eye = right_eye").channels == [
        ["left_eye", "right_eye"]
    ]


@pytest.mark.parametrize(
    ("option", "value"), [("batch_size", 0), ("image_size", (0, 5)), ("validation_split_ratio", 1.5)]
)
def test_values_out_of_range(ten_images: Path, option: str, value: object) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        module(ten_images, **{option: value})
    assert "\n" not in str(error.value)


def test_resized_data_set(coco_folder: CocoFolder, tmp_path: Path) -> None:
    small = CocoFolder(tmp_path / "data" / "dataset_24x32")
    small.add(noise_image((24, 32)), [[1, 2, 2, 3, 4, 2, 5, 6, 2]])
    small.write()
    (tmp_path / "data" / "dataset").mkdir()
    train = tmp_path / "data" / "dataset" / "train.json"
    data = module(train, json_dataset_img_size="24x32", json_validation_dataset_path=train)
    assert data.train_dataset[0]["image_hw"] == data.validation_dataset[0]["image_hw"] == (24, 32)
    with pytest.raises(
        FileNotFoundError, match=r"expected the resized data set in .*dataset_9x9, found no folder"
    ):
        module(train, json_dataset_img_size="9x9")
    with pytest.raises(ValueError, match="expected a size such as 512x512, got '512'"):
        module(train, json_dataset_img_size="512")


def test_resized_path_of_a_bare_file_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dataset", "dataset_8x8"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "dataset")
    assert resized_dataset_path("train.json", "8x8") == tmp_path / "dataset_8x8" / "train.json"


@pytest.fixture
def pairs(coco_folder: CocoFolder) -> Path:
    """Return ten images of two faces each but for the last, which has none."""
    for index in range(10):
        faces = [[10, 20, 2, 12.5, 10, 2, 22, 30.25, 1], [30, 20, 2, 0, 0, 0, 40, 25, 2]]
        coco_folder.add(noise_image((40, 48), index), faces if index < 9 else [], bbox=[5, 5, 40, 30])
    return coco_folder.write()


def test_instance_mode_crops_every_part_and_splits_by_image(pairs: Path, tmp_path: Path) -> None:
    calls = []

    def lengths(table: KeypointTable) -> np.ndarray:
        calls.append(table)
        return np.arange(len(table.area)) + 1.0

    data = module(
        pairs,
        input_mode="instance",
        image_size=(32, 24),
        box_padding=1.5,
        augment_train=True,
        json_test_dataset_path=pairs,
        sigmas={"nose": 0.1, "right_eye": 0.2, "tail": 0.3},
        lengths=lengths,
    )
    train, held_out, test = (data.train_dataset, data.validation_dataset, data.test_dataset)
    assert not set(train.image_ids) & set(held_out.image_ids)
    assert sorted(train.image_ids + held_out.image_ids) == sorted([*range(10, 19)] * 2) == test.image_ids
    assert set(train.image_ids) <= set(module(pairs).train_dataset.image_ids)  # the split of image mode
    assert [part.crops.padding for part in (train, held_out, test)] == [1.5] * 3
    assert len(calls) == 2
    assert calls[0] is train.table is held_out.table
    batch = epoch(data.test_dataloader())[0]
    assert batch["image"].shape == (4, 3, 32, 24)
    assert batch["keypoint_length"][:, 0, 0].tolist() == [1, 2, 3, 4]
    assert batch["keypoint_sigma"][0, :, 0].numpy() == pytest.approx([0.1, np.nan, 0.2], nan_ok=True)
    assert len(flat(epoch(data.train_dataloader()), "image_id")) == len(train)


def test_a_channel_of_a_crop_gets_one_point_per_name(pairs: Path) -> None:
    channels = {"keypoint_channel_configuration": "nose; left_eye = right_eye"}
    whole = epoch(module(pairs, **channels).val_dataloader())[0]
    assert whole["keypoints"].shape[2] == 3
    crops = module(pairs, input_mode="instance", image_size=(32, 24), **channels)
    counts = torch.cat([(b["visibility"] > 0).sum(-1) for b in epoch(crops.train_dataloader())])
    assert counts.max(0).values.tolist() == [1, 2]


def test_crops_are_reproducible_with_any_number_of_workers(pairs: Path) -> None:
    options = {"input_mode": "instance", "image_size": (32, 24), "augment_train": True}
    first, second = (
        epoch(module(pairs, num_workers=workers, **options).train_dataloader()) for workers in (0, 2)
    )
    for key in ("image", "keypoints", "image_id", "to_image"):
        assert torch.equal(flat(first, key).nan_to_num(), flat(second, key).nan_to_num())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": None}, r"the size of the crops, got none; add such as --image_size 256x192"),
        ({"box_padding": 0.0}, r"^box_padding: expected a factor of at least 0\.5, such as 1\.25, got 0"),
        ({"box_padding": float("nan")}, "^box_padding: expected a factor"),
        ({"input_mode": "crop"}, "^input_mode: expected image or instance, got 'crop'"),
        ({"validation_split_ratio": 0.1, "seed": 1}, "expected instances .* got none in one of 1 images"),
    ],
)
def test_wrong_choices_of_instance_mode(pairs: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        module(pairs, **{"input_mode": "instance", "image_size": (32, 24), **options})
    assert "\n" not in str(error.value)
