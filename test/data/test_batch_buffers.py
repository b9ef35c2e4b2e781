import gc
import os
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from keypoint_detection.data import batch_buffers as module
from keypoint_detection.data.batch_buffers import BatchBuffers, Shared, batch_buffers, keep_freed_memory
from keypoint_detection.data.coco_dataset_images import stack_in_buffer
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.synthetic import make_dataset

SIDE, BATCH = 8, 4


class Squares(Dataset):
    """Give images `[3, SIDE, SIDE]` that are filled with their position; every fifth is smaller."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> np.ndarray:
        side = SIDE // 2 if index % 5 == 4 else SIDE
        return np.full((3, side, side), index, np.uint8)


def collate_squares(samples: list, buffers: BatchBuffers | None) -> dict:
    return {"image": stack_in_buffer(samples, buffers)}


def loader(count: int, buffers: BatchBuffers | None, workers: int) -> DataLoader:
    return DataLoader(
        Squares(count),
        BATCH,
        num_workers=workers,
        collate_fn=partial(collate_squares, buffers=buffers),
        persistent_workers=workers > 0,
    )


def wanted(count: int) -> list[torch.Tensor]:
    return [batch["image"] for batch in loader(count, None, 0)]


def lent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of the buffers that are lent from now on."""
    numbers, lend = [], BatchBuffers.lend

    def counted(self: BatchBuffers, number: int, shape: tuple[int, ...]) -> torch.Tensor:
        numbers.append(number)
        return lend(self, number, shape)

    monkeypatch.setattr(BatchBuffers, "lend", counted)
    return numbers


def test_batches_are_the_same_and_their_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    buffers, numbers = BatchBuffers(8, BATCH * 3 * SIDE**2), lent(monkeypatch)
    batches = loader(40, buffers, 2)
    for _ in range(3):
        for batch, reference in zip(batches, wanted(40), strict=True):
            assert torch.equal(batch["image"], reference)
    assert len(numbers) == 30, "a batch came from new memory"
    assert set(numbers) <= set(range(8))


def test_batches_that_are_kept_do_not_change_and_others_get_memory_of_their_own() -> None:
    buffers = BatchBuffers(3, BATCH * 3 * SIDE**2)
    batches = loader(48, buffers, 2)
    kept = [batch["image"] for batch in batches]
    for _ in batches:
        pass
    for image, reference in zip(kept, wanted(48), strict=True):
        assert torch.equal(image, reference)


def test_a_view_of_a_batch_keeps_its_buffer() -> None:
    buffers = BatchBuffers(4, BATCH * 3 * SIDE**2)
    batches = loader(40, buffers, 1)
    views, arrays = [], []
    for batch in batches:
        views.append(batch["image"][1:, 0])
        arrays.append(batch["image"].numpy()[0])
    for view, array, reference in zip(views, arrays, wanted(40), strict=True):
        assert torch.equal(view, reference[1:, 0])
        assert np.array_equal(array, reference[0].numpy())


def test_an_epoch_that_is_left_early_loses_no_buffer() -> None:
    buffers = BatchBuffers(8, BATCH * 3 * SIDE**2)
    batches = loader(80, buffers, 2)
    for _ in range(8):
        for _batch in islice(batches, 3):
            pass
    for batch, reference in zip(batches, wanted(80), strict=True):
        assert torch.equal(batch["image"], reference)
    del batch, _batch
    gc.collect()
    assert sorted(os.read(buffers._free, 99)) == list(range(8)), "all are free again"


def test_a_tensor_outlives_the_buffers() -> None:
    gc.collect()
    buffers = BatchBuffers(2, 12)
    tensor = buffers.lend(0, (3, 4))
    tensor.fill_(7)
    before = os.listdir("/proc/self/fd") if Path("/proc/self/fd").is_dir() else []
    del buffers
    gc.collect()
    assert (tensor == 7).all()
    del tensor  # gives back to nobody
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before) - 2, "the pipe is closed"


def test_what_does_not_fit_gets_memory_of_its_own() -> None:
    buffers = BatchBuffers(2, 3 * SIDE**2)  # for one image
    for batch, reference in zip(loader(9, buffers, 1), wanted(9), strict=True):
        assert torch.equal(batch["image"], reference)
    assert buffers.empty((1,)) is None, "only loader processes take buffers"


def test_the_number_of_a_buffer_is_all_that_is_sent() -> None:
    buffers = BatchBuffers(2, 12)
    shared = Shared(id(buffers), 1, (3, 4), buffers.array(1, (3, 4)))
    shared.array[:] = np.arange(12).reshape(3, 4)
    function, where = shared.__reduce__()
    assert where == (id(buffers), 1, (3, 4))
    arrived = function(*where)
    assert torch.equal(arrived, torch.arange(12, dtype=torch.uint8).reshape(3, 4))
    shared.array[0, 0] = 99
    assert arrived[0, 0] == 99, "it is the same memory"


def test_the_memory_of_all_buffers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    few = batch_buffers(8, 30)
    assert few is not None
    assert len(few._memory) == 3
    assert batch_buffers(8, 101) is None
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    assert batch_buffers(8, 30) is None, "such processes share no memory with this one"


def test_a_loader_process_keeps_what_it_frees(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Library:
        def mallopt(self, name: int, value: int) -> None:
            calls.append((name, value))

    monkeypatch.setattr("ctypes.CDLL", lambda _: Library())
    keep_freed_memory()
    assert calls == [(-1, 2**28), (-3, 2**25)]
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())  # a system without that function
    keep_freed_memory()


def test_the_loaders_of_a_training_use_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_dataset("boxes", tmp_path, 24, (32, 40), seed=1)
    options = {"json_dataset_path": path, "batch_size": 4, "augment_train": True}
    data = KeypointsDataModule(**options, num_workers=2)
    reference = KeypointsDataModule(**options, num_workers=0)
    numbers = lent(monkeypatch)
    for name, n_batches in (("train_dataloader", 5), ("val_dataloader", 2)):
        numbers.clear()
        ours, plain = getattr(data, name)(), getattr(reference, name)()
        for _ in range(3):
            for batch, other in zip(ours, plain, strict=True):
                assert torch.equal(batch["image"], other["image"])
        assert len(numbers) == 3 * n_batches, "a batch came from new memory"
