import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from conftest import CocoFolder, noise_image
from torch import distributed
from torch.utils.data import DataLoader

from keypoint_detection.data import datamodule
from keypoint_detection.data.augmentations import AugmentationConfig
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.datamodule import (
    KeypointsDataModule,
    SeededSampler,
    default_num_workers,
    make_dataloader,
    resized_dataset_path,
)

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


def test_a_corrupt_image_is_one_line_out_of_a_worker(ten_images: Path) -> None:
    (ten_images.parent / "images" / "13.png").write_text("no image")
    loader = make_dataloader(COCOKeypointsDataset(ten_images), 4, num_workers=1)
    with pytest.raises(ValueError, match=r"^expected an image, got a corrupt, .*13\.png") as error:
        epoch(loader)
    assert "\n" not in str(error.value)


def test_number_of_workers() -> None:
    assert default_num_workers(8) == 0
    assert 1 <= default_num_workers(9) <= 4


def test_loaders_keep_their_workers(ten_images: Path) -> None:
    data = module(ten_images, num_workers=1)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert isinstance(loader, DataLoader)
        assert loader.persistent_workers
        assert loader.num_workers == 1
        assert loader.worker_init_fn is datamodule.limit_threads


def test_devices_share_an_epoch(ten_images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = COCOKeypointsDataset(ten_images)
    seeds = dict(SeededSampler(dataset, 5))
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        parts.append(dict(SeededSampler(dataset, 5)))
    assert [len(part) for part in parts] == [5, 5]
    assert parts[0] | parts[1] == seeds


class Recorder(pl.LightningModule):
    """Learn nothing; note which images come in which epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: dict[str, Any]) -> torch.Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch["image_id"].tolist())
        return self.weight * batch["image"].float().mean()

    def validation_step(self, batch: dict[str, Any]) -> None:
        assert batch["image"].dtype == torch.uint8

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*number of training batches",
    "ignore:.*LeafSpec.*is deprecated:FutureWarning",  # Lightning uses what torch renamed
)
def test_lightning_sets_the_epoch(ten_images: Path) -> None:
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **options)
    recorder = Recorder()
    trainer.fit(recorder, datamodule=module(ten_images, validation_split_ratio=0.2))
    sampler = module(ten_images, validation_split_ratio=0.2).train_dataloader().sampler
    assert isinstance(sampler, SeededSampler)
    dataset = sampler.dataset
    assert isinstance(dataset, COCOKeypointsDataset)
    for number in (1, 0):
        sampler.set_epoch(number)
        assert recorder.seen[number] == [dataset.image_ids[position] for position, _ in sampler]
    assert recorder.seen[0] != recorder.seen[1]
