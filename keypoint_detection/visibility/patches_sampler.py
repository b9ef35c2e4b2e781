"""The order of points: balanced and shuffled anew every epoch, by seed and epoch alone."""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DistributedSampler


class PatchSampler(DistributedSampler[NDArray[np.int64]]):
    """Give whole batches of points, int64 `[n]` each.

    The order depends on the seed and the epoch, so a run is the same for any number of workers, and they may
    live on from epoch to epoch. Lightning sets the epoch, and takes the sampler as it is on several devices,
    where each process gets its share; in a plain loop the epoch counts up.
    """

    def __init__(self, label: NDArray[np.uint8], batch_size: int, *, balance: bool, seed: int | None) -> None:
        """Check and store the settings.

        Args:
            label: 1 visible, 0 not visible, `[p]`.
            batch_size: Points per batch; the last batch may be smaller.
            balance: As many of each class, drawn anew each epoch; False takes every point once.
            seed: Shuffle by it; None keeps the order.

        Raises:
            ValueError: A class to balance is empty, or there is no seed to draw by.
        """
        ready = distributed.is_available() and distributed.is_initialized()
        replicas, rank = (distributed.get_world_size(), distributed.get_rank()) if ready else (1, 0)
        super().__init__(label, replicas, rank, shuffle=seed is not None, seed=seed or 0)  # pyright: ignore
        self._classes = [np.flatnonzero(label == value) for value in (0, 1)]
        counts = [len(points) for points in self._classes]
        if balance and (seed is None or not min(counts)):
            got = "no shuffle_seed" if seed is None else f"{counts[1]} visible and {counts[0]} not visible"
            raise ValueError(f"balance: expected a seed, and points of both classes, got {got}; turn it off")
        self._n_points, self._batch_size, self._balance = len(label), batch_size, balance
        self._first_batch = 0

    def skip(self, n_batches: int) -> None:
        """Begin the next epoch after so many of its batches, as a training does that goes on within it."""
        self._first_batch = n_batches

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the points of an epoch, of all processes together."""
        if not self.shuffle:
            return np.arange(self._n_points)
        rng = np.random.default_rng((self.seed, epoch))
        if not self._balance:
            return rng.permutation(self._n_points)
        count = min(map(len, self._classes))
        return rng.permutation(
            np.concatenate([rng.choice(points, count, replace=False) for points in self._classes])
        )

    def __iter__(self) -> Iterator[NDArray[np.int64]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        epoch = self.epoch
        self.set_epoch(epoch + 1)
        # Every process takes as many: some points are taken twice where the number does not divide.
        own = np.resize(self.order(epoch), self._share() * self.num_replicas)[self.rank :: self.num_replicas]
        first, self._first_batch = self._first_batch * self._batch_size, 0
        for start in range(first, len(own), self._batch_size):
            yield own[start : start + self._batch_size]

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(self._share() / self._batch_size)

    def _share(self) -> int:
        n_points = 2 * min(map(len, self._classes)) if self._balance else self._n_points
        return -(-n_points // self.num_replicas)
