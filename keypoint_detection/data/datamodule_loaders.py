"""Loaders: how samples are shuffled, seeded, shared between processes and made into batches."""

import os
from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from keypoint_detection.data.coco_dataset import collate

FEW_IMAGES = 8
"""Up to here loading in the main process is quicker than starting workers."""


class SeededSampler(DistributedSampler[tuple[int, int]]):
    """Shuffle, and send a seed along with each position, both fixed by the seed, the epoch and the position.

    So a run is the same for any number of workers, and they may live on from epoch to epoch. Lightning sets
    the epoch, also when it resumes, and takes the sampler as it is on several devices; in a plain loop the
    epoch counts up.
    """

    def __init__(self, dataset: Dataset, seed: int) -> None:
        ready = distributed.is_available() and distributed.is_initialized()
        replicas, rank = (distributed.get_world_size(), distributed.get_rank()) if ready else (1, 0)
        super().__init__(dataset, replicas, rank, shuffle=True, seed=seed)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, positions = self.epoch, [int(position) for position in super().__iter__()]  # pyright: ignore
        self.set_epoch(epoch + 1)
        for position in positions:
            entropy = np.random.SeedSequence((self.seed, epoch, position))
            yield position, int(entropy.generate_state(1, np.uint64)[0])


def make_dataloader(
    dataset: Dataset,
    batch_size: int,
    *,
    num_workers: int | None = None,
    shuffle_seed: int | None = None,
    collate_fn: Callable[[list], Any] = collate,
) -> DataLoader:
    """Return a loader whose workers stay alive and keep to one thread each.

    Args:
        dataset: Its samples, taken by position, or by (position, seed) when shuffled.
        batch_size: Images per batch; the last batch may be smaller.
        num_workers: Loader processes; None chooses, see `default_num_workers`.
        shuffle_seed: Shuffle by this seed; None keeps the order.
        collate_fn: Makes a batch of samples.
    """
    workers = default_num_workers(len(dataset)) if num_workers is None else num_workers  # pyright: ignore
    return DataLoader(
        dataset,
        batch_size,
        sampler=None if shuffle_seed is None else SeededSampler(dataset, shuffle_seed),
        num_workers=workers,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=limit_threads,
    )


def default_num_workers(n_images: int) -> int:
    """Return one worker per core that this process may use, 4 at most, and none for a few images."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if n_images <= FEW_IMAGES else min(4, cores)


def limit_threads(worker_id: int) -> None:
    """Keep a loader process to one thread: OpenCV and torch would otherwise start one per core in each."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
