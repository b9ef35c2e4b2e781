import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.datamodule_loaders import (
    ResumableLoader,
    SeededSampler,
    make_dataloader,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning",  # workers start by a fork
    "ignore:This DataLoader will create",  # on a machine with a single core
)


def loader_of(images: Path, workers: int, batch_size: int = 3) -> tuple[ResumableLoader, SeededSampler]:
    loader = make_dataloader(COCOKeypointsDataset(images), batch_size, num_workers=workers, shuffle_seed=5)
    assert isinstance(loader, ResumableLoader)
    assert isinstance(loader.sampler, SeededSampler)
    return loader, loader.sampler


def epoch_of(loader: ResumableLoader) -> list[list[int]]:
    return [batch["image_id"].tolist() for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_goes_on_after_its_batches_and_the_next_one_is_whole(ten_images: Path, workers: int) -> None:
    whole, _ = loader_of(ten_images, 0)
    epochs = [epoch_of(whole) for _ in range(3)]
    assert epochs[1] != epochs[2]
    resumed, sampler = loader_of(ten_images, workers)
    iterator = iter(resumed)  # as Lightning does, before it knows where to go on
    sampler.set_epoch(1)
    resumed.load_state_dict({**whole.state_dict(), "batches_done": 2})
    assert [batch["image_id"].tolist() for batch in iterator] == epochs[1][2:]
    assert epoch_of(resumed) == epochs[2]
    assert len(resumed) == 4


def test_a_place_among_other_batches_is_refused(ten_images: Path) -> None:
    state = {**loader_of(ten_images, 0)[0].state_dict(), "batches_done": 2}
    other, _ = loader_of(ten_images, 0, batch_size=4)
    with pytest.raises(ValueError, match="expected batch_size 3 per process as there, got 4"):
        other.load_state_dict(state)
    other.load_state_dict({**state, "batches_done": 0})  # the start of an epoch is the same for all
    assert len(epoch_of(other)) == 3


def test_a_loader_draws_nothing_from_the_numbers_of_the_training(ten_images: Path) -> None:
    loader, _ = loader_of(ten_images, 0)
    before = torch.get_rng_state()
    epoch_of(loader)
    assert torch.equal(torch.get_rng_state(), before)


class Waiting(Dataset[int]):
    """Say which process asks, and wait a while."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        time.sleep(0.5)
        return os.getpid()


def worker_of(loader: ResumableLoader) -> tuple[Iterator[torch.Tensor], int]:
    """Return an iterator of a loader whose one process is at work, and that process."""
    iterator = iter(loader)
    return iterator, int(next(iterator))


@pytest.mark.skipif(
    not hasattr(signal, "sigwaitinfo"), reason="a loader can tell who sent a signal on Linux only"
)
def test_loader_processes_obey_the_training_alone() -> None:
    loader = make_dataloader(Waiting(), 1, num_workers=1, collate_fn=lambda found: torch.tensor(found[0]))
    assert isinstance(loader, ResumableLoader)
    _, worker = worker_of(loader)
    for name in ("INT", "USR1", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)  # from another process
    assert worker_of(loader)[1] == worker
    (process,) = [child for child in multiprocessing.active_children() if child.pid == worker]
    process.terminate()
    process.join(20)
    assert process.exitcode == 0
