"""The data of a training: which images belong to which part, and the loaders that bring them."""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import distributed
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter
from keypoint_detection.data.channels import Channels, channel_name, mirror_names
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, channels_of, collate
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.splits import random_split

logger = logging.getLogger("keypoint_detection")

FEW_IMAGES = 8
"""Up to here loading in the main process is quicker than starting workers."""


class KeypointsDataModule(LightningDataModule):
    """Read COCO keypoint files and give Lightning its loaders; only training images are ever augmented.

    Attributes:
        channels: Keypoint names of each channel.
        keypoint_names: Every keypoint name of the training file.
        train_dataset: Training samples.
        validation_dataset: Validation samples, or None.
        test_dataset: Test samples, or None.
    """

    def __init__(  # noqa: PLR0913 - one plain name per choice, each a flag of the training
        self,
        *,
        json_dataset_path: str | Path,
        keypoint_channel_configuration: str | Channels | None = None,
        json_validation_dataset_path: str | Path | None = None,
        json_test_dataset_path: str | Path | None = None,
        json_dataset_img_size: str | None = None,
        image_size: tuple[int, int] | None = None,
        n_channels_in: int = 3,
        batch_size: int = 16,
        validation_split_ratio: float = 0.25,
        seed: int = 2022,
        num_workers: int | None = None,
        augment_train: bool = False,
        augmentation: AugmentationConfig | None = None,
        symmetric_keypoints: Sequence[Sequence[str]] | None = None,
        image_cache_bytes: int = 0,
    ) -> None:
        """Read and check the files.

        Args:
            json_dataset_path: COCO file of the training images.
            keypoint_channel_configuration: As `channels.parse_channels` takes it.
            json_validation_dataset_path: COCO file to validate on; without one, a share of the training file.
            json_test_dataset_path: COCO file to test on.
            json_dataset_img_size: Such as `"512x512"`: read `data/dataset_512x512/` for `data/dataset/`.
            image_size: Height and width in pixels to letterbox to; None keeps each image's own size.
            n_channels_in: 1 for grey, 3 for RGB; any other number must be that of the files.
            batch_size: Images per batch.
            validation_split_ratio: Share of the training file that is held out when there is no validation
                file; 0 holds out nothing.
            seed: Seed of the split, the order and the augmentation.
            num_workers: Loader processes; None is one per core, 4 at most, and none for a few images.
            augment_train: Change training images at random.
            augmentation: Strengths; None takes the defaults.
            symmetric_keypoints: Pairs of names that a mirror exchanges; None finds them from the names.
            image_cache_bytes: Memory of each loader process for decoded images.

        Raises:
            FileNotFoundError: A file, its folder, or an image is missing.
            ValueError: A file is not valid, or a channel has no keypoint to learn from.
        """
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        if image_size is not None and min(image_size) < 1:
            raise ValueError(f"image_size: expected height and width of at least 1, got {tuple(image_size)}")
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._json_dataset_img_size = json_dataset_img_size
        self._sample_options: dict[str, Any] = {
            "image_size": image_size and (image_size[0], image_size[1]),
            "n_channels_in": n_channels_in,
            "cache_bytes": image_cache_bytes,
        }
        table = self._read(json_dataset_path)
        self.keypoint_names = table.names
        self.channels = channels_of(table, keypoint_channel_configuration)
        check_learnable(table, self.channels)
        train_ids, validation = None, None
        if json_validation_dataset_path is not None:
            validation = self._dataset(self._read(json_validation_dataset_path))
        elif validation_split_ratio != 0:
            train_ids, held_out = random_split(table.image_ids.tolist(), validation_split_ratio, seed)
            validation = self._dataset(table, held_out)
        augmenter = None
        if augment_train:
            augmenter = self._augmenter(augmentation or AugmentationConfig(), symmetric_keypoints)
        self.train_dataset = self._dataset(table, train_ids, augmenter)
        self.validation_dataset = validation
        test_table = None if json_test_dataset_path is None else self._read(json_test_dataset_path)
        self.test_dataset = test_table and self._dataset(test_table)

    def train_dataloader(self) -> DataLoader:
        """Return the training samples, in a new order and newly augmented every epoch."""
        return make_dataloader(
            self.train_dataset, self.batch_size, num_workers=self.num_workers, shuffle_seed=self.seed
        )

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation samples, or no loader."""
        return self._in_order(self.validation_dataset)

    def test_dataloader(self) -> DataLoader | list:
        """Return the test samples, or no loader."""
        return self._in_order(self.test_dataset)

    def _in_order(self, dataset: COCOKeypointsDataset | None) -> DataLoader | list:
        if dataset is None:
            return []
        return make_dataloader(dataset, self.batch_size, num_workers=self.num_workers)

    def _read(self, path: str | Path) -> KeypointTable:
        if self._json_dataset_img_size is not None:
            path = resized_dataset_path(path, self._json_dataset_img_size)
        return read_table(path)

    def _dataset(
        self, table: KeypointTable, image_ids: list[int] | None = None, augmenter: Augmenter | None = None
    ) -> COCOKeypointsDataset:
        chosen = {"image_ids": image_ids, "augmenter": augmenter}
        return COCOKeypointsDataset(table, self.channels, **chosen, **self._sample_options)

    def _augmenter(self, config: AugmentationConfig, pairs: Sequence[Sequence[str]] | None) -> Augmenter:
        """Return the augmenter, without flips when a name that a mirror would exchange has no partner."""
        mirror = mirror_names(self.keypoint_names, pairs)
        used = {name for channel in self.channels for name in channel}
        alone = [name for name in mirror.unpaired if pairs is not None or name in used]
        if alone and (config.horizontal_flip > 0 or config.vertical_flip > 0):
            logger.warning(
                "flips are off, because there is no partner for the keypoint %s; declare the pairs with "
                "symmetric_keypoints",
                ", ".join(alone),
            )
            config = replace(config, horizontal_flip=0.0, vertical_flip=0.0)
        return Augmenter(config, mirror.swap)


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


def resized_dataset_path(path: str | Path, size: str) -> Path:
    """Return `data/dataset_512x512/train.json` for `data/dataset/train.json` and `"512x512"`.

    Raises:
        ValueError: The size is not written as two numbers with an x.
        FileNotFoundError: There is no such folder.
    """
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*", size):
        raise ValueError(f"json_dataset_img_size: expected a size such as 512x512, got {size!r}")
    path = Path(path)
    folder = path.parent if path.parent.name else path.parent.absolute()
    resized = folder.with_name(f"{folder.name}_{size}")
    if not resized.is_dir():
        raise FileNotFoundError(
            f"json_dataset_img_size {size}: expected the resized data set in {resized}, found no folder; "
            "make it, or leave the option out"
        )
    return resized / path.name


def check_learnable(table: KeypointTable, channels: Channels) -> None:
    """Raise a ValueError that names the file when there is a channel without any labelled keypoint."""
    counts = dict(zip(table.names, table.keypoint_counts().tolist(), strict=True))
    if not any(counts.values()):
        raise ValueError(f"{table.json_path}: expected annotations with labelled keypoints, got none")
    for channel in channels:
        if not any(counts[name] for name in channel):
            listed = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise ValueError(
                f"{table.json_path}: expected labelled keypoints for channel {channel_name(channel)!r}, "
                f"got none; the file has {listed}"
            )
