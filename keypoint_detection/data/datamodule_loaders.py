"""Loaders: how samples are shuffled, seeded, shared between processes and made into batches."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from keypoint_detection.data.batch_buffers import batch_buffers, keep_freed_memory
from keypoint_detection.data.coco_dataset import collate
from keypoint_detection.data.datamodule_buckets import bucketed
from keypoint_detection.data.datamodule_workers import end_workers_at_exit

FEW_IMAGES = 8
"""Up to here loading in the main process is quicker than starting workers."""


class SeededSampler(DistributedSampler[tuple[int, int]]):
    """Shuffle, and send a seed along with each position, both fixed by the seed, the epoch and the position.

    So a run is the same for any number of workers, and they may live on from epoch to epoch. Lightning sets
    the epoch, also when it resumes, and takes the sampler as it is on several devices; in a plain loop the
    epoch counts up.
    """

    def __init__(
        self, dataset: Dataset, seed: int, *, sizes_hw: NDArray[np.integer] | None = None, batch_size: int = 1
    ) -> None:
        """Store the settings; `sizes_hw` and `batch_size` group positions as in `bucketed`, None does not."""
        ready = distributed.is_available() and distributed.is_initialized()
        replicas, rank = (distributed.get_world_size(), distributed.get_rank()) if ready else (1, 0)
        super().__init__(dataset, replicas, rank, shuffle=True, seed=seed)
        self._sizes_hw, self._batch_size = sizes_hw, batch_size
        self._n_skipped = 0

    def skip(self, n_samples: int) -> None:
        """Leave out the first samples of this process when it is walked through next, and only then."""
        self._n_skipped = n_samples

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, positions = self.epoch, [int(position) for position in super().__iter__()]  # pyright: ignore
        self.set_epoch(epoch + 1)
        if self._sizes_hw is not None:
            rng = np.random.default_rng((self.seed, epoch, self.rank))
            positions = bucketed(np.array(positions), self._sizes_hw, self._batch_size, rng).tolist()
        first, self._n_skipped = self._n_skipped, 0
        for position in positions[first:]:
            entropy = np.random.SeedSequence((self.seed, epoch, position))
            yield position, int(entropy.generate_state(1, np.uint64)[0])


class ResumableLoader(DataLoader):
    """Go on in the middle of an epoch: the order is known, so that nothing is loaded that is not used."""

    def __iter__(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin when the first batch is asked for: epoch and place may be set until then."""
        yield from super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """Return what a place in an epoch depends on; whoever takes the batches counts them."""
        return {
            "images": len(self.sampler),  # pyright: ignore[reportArgumentType] - ours has a length
            "batch_size": self.batch_size or 0,
        }

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Begin the next epoch after `batches_done` batches, 0 if there is no such entry.

        Raises:
            ValueError: The place is that of another number of images, or of batches of another size.
        """
        done = state_dict.get("batches_done", 0)
        if not done:
            return
        for name, here in self.state_dict().items():
            if state_dict[name] != here:
                raise ValueError(
                    f"--ckpt_path: the checkpoint is from the middle of an epoch; expected {name} "
                    f"{state_dict[name]} per process as there, got {here}; resume with the data, the "
                    "--batch_size and the number of devices that it was trained with"
                )
        assert isinstance(self.sampler, SeededSampler), "only shuffled loaders are resumed"
        self.sampler.skip(done * (self.batch_size or 0))


def make_dataloader(
    dataset: Dataset,
    batch_size: int,
    *,
    num_workers: int | None = None,
    shuffle_seed: int | None = None,
    sizes_hw: NDArray[np.integer] | None = None,
    prefetch: int = 2,
    image_bytes: int = 0,
    collate_fn: Callable[..., Any] = collate,
) -> DataLoader:
    """Return a loader whose workers stay alive and keep to one thread each.

    Args:
        dataset: Its samples, taken by position, or by (position, seed) when shuffled.
        batch_size: Images per batch; the last batch may be smaller.
        num_workers: Loader processes; None chooses, see `default_num_workers`.
        shuffle_seed: Shuffle by this seed; None keeps the order.
        sizes_hw: `[n, 2]`, height and width of each sample: shuffled batches hold similar ones where they
            differ, so that less of a batch is padding; None mixes them.
        prefetch: Batches that each loader process prepares ahead.
        image_bytes: Of the largest image; batches are made in memory that is used again. 0: each in its own.
        collate_fn: Makes a batch of samples; with `image_bytes` it takes `BatchBuffers` as `buffers`.
    """
    workers = default_num_workers(len(dataset)) if num_workers is None else num_workers  # pyright: ignore
    sampler = None
    if shuffle_seed is not None:
        differ = sizes_hw is not None and bool((sizes_hw != sizes_hw[:1]).any())
        sizes = sizes_hw if differ else None
        sampler = SeededSampler(dataset, shuffle_seed, sizes_hw=sizes, batch_size=batch_size)
    if workers > 0 and image_bytes > 0:
        # Those that wait, one that each process makes, the one in use and one that is kept for pictures.
        buffers = batch_buffers(workers * (prefetch + 1) + 2, batch_size * image_bytes)
        collate_fn = partial(collate_fn, buffers=buffers)
    loader = ResumableLoader(
        dataset,
        batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate_fn,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        prefetch_factor=prefetch if workers > 0 else None,
        worker_init_fn=limit_threads,
        generator=torch.Generator(),  # a loader draws a number at its start: not from the training's numbers
    )
    end_workers_at_exit(loader)
    return loader


def default_num_workers(n_images: int) -> int:
    """Return one worker per core that this process may use, 4 at most, and none for a few images."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 0 if n_images <= FEW_IMAGES else min(4, cores)


def limit_threads(worker_id: int) -> None:
    """Keep a loader process to one thread: OpenCV and torch would otherwise start one per core in each."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    leave_signals_to_the_training()


def leave_signals_to_the_training() -> None:
    """Ignore Ctrl-C and the signals of a queue, which reach every process: the training ends its loaders."""
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # of Linux
        # A thread waits for SIGTERM, as only so can be seen who sent it. Later threads block it as well.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_training_says_so, daemon=True).start()


def _end_when_the_training_says_so() -> None:
    """End this process at a SIGTERM of its parent, and at no other one."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
