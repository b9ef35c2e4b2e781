from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import distributed
from torch.utils.data import DataLoader

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.datamodule_loaders import (
    SeededSampler,
    default_num_workers,
    limit_threads,
    make_dataloader,
)

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 and later warn about every fork of a process with threads, which is how workers start.
    "ignore:.*multi-threaded.*fork:DeprecationWarning",
    "ignore:This DataLoader will create",  # on a machine with a single core
)


def test_a_corrupt_image_is_one_line_out_of_a_worker(ten_images: Path) -> None:
    (ten_images.parent / "images" / "13.png").write_text("no image")
    loader = make_dataloader(COCOKeypointsDataset(ten_images), 4, num_workers=1)
    with pytest.raises(ValueError, match=r"^expected an image, got a corrupt, .*13\.png") as error:
        list(loader)
    assert "\n" not in str(error.value)


def test_number_of_workers() -> None:
    assert default_num_workers(8) == 0
    assert 1 <= default_num_workers(9) <= 4


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


def test_loaders_keep_their_workers(ten_images: Path) -> None:
    data = KeypointsDataModule(json_dataset_path=ten_images, num_workers=1)
    for loader in (data.train_dataloader(), data.val_dataloader()):
        assert isinstance(loader, DataLoader)
        assert loader.persistent_workers
        assert loader.num_workers == 1
        assert loader.worker_init_fn is limit_threads


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
    recorder, choices = Recorder(), {"num_workers": 0, "batch_size": 4, "validation_split_ratio": 0.2}
    trainer.fit(recorder, datamodule=KeypointsDataModule(json_dataset_path=ten_images, **choices))
    sampler = KeypointsDataModule(json_dataset_path=ten_images, **choices).train_dataloader().sampler
    assert isinstance(sampler, SeededSampler)
    dataset = sampler.dataset
    assert isinstance(dataset, COCOKeypointsDataset)
    for number in (1, 0):
        sampler.set_epoch(number)
        assert recorder.seen[number] == [dataset.image_ids[position] for position, _ in sampler]
    assert recorder.seen[0] != recorder.seen[1]
