import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed

from keypoint_detection.visibility.patches_sampler import PatchSampler

LABEL = np.array([1] * 30 + [0] * 11, np.uint8)


def sampler(
    batch_size: int = 8, *, balance: bool = True, seed: int | None = 3, label: np.ndarray = LABEL
) -> PatchSampler:
    return PatchSampler(label, batch_size, balance=balance, seed=seed)


def epoch_of(points: PatchSampler) -> list[int]:
    return [index for batch in points for index in batch.tolist()]


def test_as_many_of_each_class_drawn_anew_every_epoch() -> None:
    points = sampler()
    epochs = [epoch_of(points) for _ in range(40)]
    for order in epochs:
        assert len(order) == len(set(order)) == 22
        assert LABEL[order].tolist().count(1) == 11
    assert len({tuple(order) for order in epochs}) == 40
    assert set().union(*map(set, epochs)) == set(range(41))


def test_the_order_is_that_of_seed_and_epoch() -> None:
    points = sampler()
    first, second = epoch_of(points), epoch_of(points)
    assert first != second
    points.set_epoch(0)
    assert epoch_of(points) == first
    fresh = sampler(batch_size=5)
    fresh.set_epoch(1)
    assert epoch_of(fresh) == second
    assert epoch_of(sampler(seed=4)) != first


def test_all_points_once_shuffled_or_in_order() -> None:
    assert epoch_of(sampler(balance=False, seed=None)) == list(range(41))
    shuffled = epoch_of(sampler(balance=False))
    assert shuffled != list(range(41))
    assert sorted(shuffled) == list(range(41))


@given(st.lists(st.integers(0, 1), min_size=1, max_size=60), st.integers(1, 9), st.booleans())
def test_batches_are_whole_but_for_the_last(labels: list[int], batch_size: int, balance: bool) -> None:
    balance = balance and len(set(labels)) == 2
    points = sampler(batch_size, balance=balance, label=np.array(labels, np.uint8))
    sizes = [len(batch) for batch in points]
    total = 2 * min(labels.count(0), labels.count(1)) if balance else len(labels)
    assert sum(sizes) == total
    assert len(points) == len(sizes) == math.ceil(total / batch_size)
    assert all(size == batch_size for size in sizes[:-1])


def test_devices_share_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 4)
    shares = []
    for rank in range(4):
        monkeypatch.setattr(distributed, "get_rank", lambda rank=rank: rank)
        points = sampler()
        assert len(points) == 1
        shares.append(epoch_of(points))
    assert [len(share) for share in shares] == [6] * 4
    assert len({index for share in shares for index in share}) == 22


@pytest.mark.parametrize(
    ("label", "seed", "got"),
    [(LABEL, None, "no shuffle_seed"), (LABEL[:30], 0, "30 visible and 0 not visible")],
)
def test_what_cannot_be_balanced_is_an_error(label: np.ndarray, seed: int | None, got: str) -> None:
    with pytest.raises(
        ValueError, match=f"expected a seed, and points of both classes, got {got}; turn it off"
    ):
        sampler(label=label, seed=seed)


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_an_epoch_goes_on_after_the_batches_that_are_done(done: int) -> None:
    whole, resumed = sampler(), sampler()
    first, second = epoch_of(whole), epoch_of(whole)
    resumed.skip(done)
    assert epoch_of(resumed) == first[8 * done :]
    assert epoch_of(resumed) == second  # only the epoch that was cut short
