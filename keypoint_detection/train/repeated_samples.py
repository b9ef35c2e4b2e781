"""Leave out of losses and scores the samples that a process got only to keep step with the others."""

from typing import Any

import pytorch_lightning as pl
from torch.utils.data import DataLoader, DistributedSampler

from keypoint_detection.models.scores import NUM_NEW


class RepeatedSamples(pl.Callback):
    """Cut off every validation and test batch the samples that another process has scored.

    Processes take equally many samples: where their number is no multiple of that of the processes, the last
    ones get the first samples again. These would count twice. A batch of nothing else keeps one of them, as
    all processes have to take part, and says with `NUM_NEW` that it does not count.
    """

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Mark a validation batch."""
        _mark(batch, num_new(trainer.val_dataloaders, len(batch["image"]), batch_idx))

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int, *_: int
    ) -> None:
        """Mark a test batch."""
        _mark(batch, num_new(trainer.test_dataloaders, len(batch["image"]), batch_idx))


def _mark(batch: dict[str, Any], count: int) -> None:
    """Leave the first `count` samples, at least one, in a batch."""
    for name, part in batch.items():
        batch[name] = part[: max(count, 1)]
    batch[NUM_NEW] = count


def num_new(loader: Any, batch_length: int, batch_idx: int) -> int:
    """Return how many samples of a batch, always its first ones, are not repeated.

    Args:
        loader: Gives the batches of this process; one that does not share them out repeats none.
        batch_length: Samples of this batch.
        batch_idx: Its number, from 0.
    """
    sampler = loader.sampler if isinstance(loader, DataLoader) else None
    if not isinstance(sampler, DistributedSampler):
        return batch_length
    # Of n samples, process r of p takes those at r, r + p, r + 2 p, ...; places from n on start again at 0.
    n = len(sampler.dataset)  # pyright: ignore[reportArgumentType] - ours has a length
    own = len(range(sampler.rank, n, sampler.num_replicas))
    return min(max(own - batch_idx * (loader.batch_size or 1), 0), batch_length)
