from pathlib import Path

import numpy as np
import pytest
from conftest import CocoFolder, noise_image
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.datamodule_buckets import BATCHES_PER_WINDOW, bucketed

FACE = [1, 2, 2, 3, 4, 2, 5, 6, 2]


def test_batches_of_a_window_by_hand() -> None:
    sizes = np.array([[10, 10], [30, 10], [10, 20], [30, 30], [20, 5], [20, 10]])
    order = bucketed(np.array([5, 0, 3, 1, 4, 2]), sizes, 2, np.random.default_rng(0))
    batches = {tuple(order[start : start + 2].tolist()) for start in (0, 2, 4)}
    assert batches == {(0, 2), (4, 5), (1, 3)}


@given(st.integers(0, 300), st.integers(1, 9), st.integers(0, 2**31))
def test_every_position_comes_once_and_only_the_last_batch_is_small(n: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, positions = rng.integers(1, 50, (n, 2)), rng.permutation(n)
    order = bucketed(positions, sizes, batch, np.random.default_rng(1))
    assert sorted(order.tolist()) == list(range(n))
    assert np.array_equal(order, bucketed(positions, sizes, batch, np.random.default_rng(1)))
    window = batch * BATCHES_PER_WINDOW
    for start in range(0, n, window):  # windows are those of the shuffled order
        assert sorted(order[start : start + window]) == sorted(positions[start : start + window])


def test_less_of_the_batches_is_padding() -> None:
    rng = np.random.default_rng(0)
    sizes, positions = rng.integers(100, 600, (400, 2)), rng.permutation(400)

    def padded(order: np.ndarray) -> float:
        batches = sizes[order].reshape(-1, 8, 2)
        return float((8 * batches.max(1).prod(1)).sum() / sizes.prod(1).sum())

    order = bucketed(positions, sizes, 8, rng)
    assert padded(positions) > 2.0
    assert padded(order) < 0.75 * padded(positions)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_images_of_mixed_sizes_come_in_similar_batches(tmp_path: Path) -> None:
    folder = CocoFolder(tmp_path)
    for index in range(18):
        folder.add(noise_image((20, 30) if index % 2 else (50, 40), index), [FACE])
    path = folder.write()

    def epochs(workers: int) -> list[list[tuple]]:
        data = KeypointsDataModule(
            json_dataset_path=path, batch_size=4, num_workers=workers, validation_split_ratio=0
        )
        loader = data.train_dataloader()
        return [[(b["image_id"].tolist(), tuple(b["image"].shape)) for b in loader] for _ in range(2)]

    first, second = epochs(0)
    for epoch in (first, second):
        assert sorted(image_id for ids, _ in epoch for image_id in ids) == list(range(10, 28))
        assert [len(ids) for ids, _ in epoch] == [4, 4, 4, 4, 2]
        mixed = [len({image_id % 2 for image_id in ids}) for ids, _ in epoch]
        assert sum(count > 1 for count in mixed) <= 1
    assert first != second
    assert epochs(1) == epochs(2) == [first, second]


def test_images_of_one_size_are_shuffled_as_ever(ten_images: Path) -> None:
    options = {"json_dataset_path": ten_images, "num_workers": 0, "validation_split_ratio": 0}
    sampler = KeypointsDataModule(**options).train_dataloader().sampler
    assert sampler._sizes_hw is None
    first = [position for position, _ in sampler]
    assert first != sorted(first)
