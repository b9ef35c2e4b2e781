"""The data of a training: which images belong to which part, and the loaders that bring them."""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from keypoint_detection.data.augmentations import AugmentationConfig, Augmenter
from keypoint_detection.data.augmentations_device import change_images
from keypoint_detection.data.channels import Channels, channel_name
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset, channels_of
from keypoint_detection.data.coco_dataset_table import KeypointTable, read_table
from keypoint_detection.data.datamodule_loaders import make_dataloader
from keypoint_detection.data.image_cache import CacheKind, open_cache
from keypoint_detection.data.instance_crops import label_crops
from keypoint_detection.data.splits import random_split

logger = logging.getLogger("keypoint_detection")

INPUT_MODES = ("image", "instance")
LEAST_BOX_PADDING = 0.5
"""Below half its size a box no longer shows the instance."""


class KeypointsDataModule(LightningDataModule):
    """Read COCO keypoint files and give Lightning its loaders; only training images are ever augmented.

    Attributes:
        channels: Keypoint names of each channel.
        keypoint_names: Every keypoint name of the training file.
        symmetry: Which names change places in a mirror, as that file declares it.
        skeleton: Pairs of names that a line joins in drawings.
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
        cache: CacheKind = "off",
        cache_bytes: int = 2 * 10**9,
        cache_dir: str | Path | None = None,
        prefetch: int = 2,
        augment_device: str = "cpu",
        input_mode: str = "image",
        box_padding: float = 1.25,
        sigmas: Mapping[str, float] | None = None,
        lengths: Callable[[KeypointTable], NDArray[np.floating]] | None = None,
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
            symmetric_keypoints: Pairs of names that a mirror exchanges; None takes those that the category of
                the file declares, or else finds them from the names.
            cache: Where decoded images are kept for all processes: `"ram"`, `"disk"` or `"off"`.
            cache_bytes: Most bytes of them.
            cache_dir: Folder of the cache; None takes that of `image_cache.default_folder`.
            prefetch: Batches that each loader process prepares ahead.
            augment_device: `"cpu"` augments in the loader processes, `"gpu"` where the model is.
            input_mode: `"image"` for whole images, `"instance"` for a crop of every labelled instance; the
                split is one of images all the same.
            box_padding: Each box is enlarged by this factor for its crop, at least 0.5.
            sigmas: OKS constants by keypoint name, for `keypoint_sigma`; a name without one gets NaN.
            lengths: Gives `[m]` lengths in original pixels, one per instance of a file, for
                `keypoint_length`; called once per file.

        Raises:
            FileNotFoundError: A file, its folder, or an image is missing.
            ValueError: A file is not valid, a channel has no keypoint to learn from, or in instance mode
                there is no `image_size`, or no instance in a part of the data.
        """
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        _check_input(input_mode, image_size, box_padding)
        self._box_padding = box_padding if input_mode == "instance" else None
        self.batch_size, self.num_workers, self.seed = batch_size, num_workers, seed
        self._prefetch, self._augments_on_device = prefetch, augment_device == "gpu"
        self._json_dataset_img_size = json_dataset_img_size
        self._sample_options: dict[str, Any] = {
            "image_size": image_size and (image_size[0], image_size[1]),
            "n_channels_in": n_channels_in,
            "cache": open_cache(cache, cache_bytes, cache_dir),
        }
        table = self._read(json_dataset_path)
        self.keypoint_names, self.symmetry, self.skeleton = table.names, table.symmetry, table.skeleton
        self.channels = channels_of(table, keypoint_channel_configuration)
        check_learnable(table, self.channels)
        targets = _targets(table, sigmas, lengths)
        train_ids, held_out = None, None
        if json_validation_dataset_path is None and validation_split_ratio != 0:
            train_ids, held_out = random_split(table.image_ids.tolist(), validation_split_ratio, seed)
        augmenter = None
        if augment_train:
            augmenter = self._augmenter(augmentation or AugmentationConfig(), symmetric_keypoints)
        # The cache has room for them in this order.
        self.train_dataset = self._dataset(table, targets, train_ids, augmenter)
        self.validation_dataset, self.test_dataset = None, None
        if held_out is not None:
            self.validation_dataset = self._dataset(table, targets, held_out)
        elif json_validation_dataset_path is not None:
            other = self._read(json_validation_dataset_path)
            self.validation_dataset = self._dataset(other, _targets(other, sigmas, lengths))
        if json_test_dataset_path is not None:
            other = self._read(json_test_dataset_path)
            self.test_dataset = self._dataset(other, _targets(other, sigmas, lengths))
        if self._sample_options["cache"] is not None:
            self._sample_options["cache"].make_room()

    def train_dataloader(self) -> DataLoader:
        """Return the training samples, in a new order and newly augmented every epoch."""
        return make_dataloader(
            self.train_dataset,
            self.batch_size,
            num_workers=self.num_workers,
            shuffle_seed=self.seed,
            sizes_hw=self.train_dataset.sizes_hw,
            prefetch=self._prefetch,
            image_bytes=self.train_dataset.largest_bytes,
        )

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Do on the device of a batch what its augmentation still asks for, see `augmentations_device`."""
        if isinstance(batch, dict) and "change" in batch:
            change = batch.pop("change")
            batch["image"] = change_images(batch["image"], batch["input_hw"], change)
        return batch

    def val_dataloader(self) -> DataLoader | list:
        """Return the validation samples, or no loader."""
        return self._in_order(self.validation_dataset)

    def test_dataloader(self) -> DataLoader | list:
        """Return the test samples, or no loader."""
        return self._in_order(self.test_dataset)

    def _in_order(self, dataset: COCOKeypointsDataset | None) -> DataLoader | list:
        if dataset is None:
            return []
        return make_dataloader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            prefetch=self._prefetch,
            image_bytes=dataset.largest_bytes,
        )

    def _read(self, path: str | Path) -> KeypointTable:
        if self._json_dataset_img_size is not None:
            path = resized_dataset_path(path, self._json_dataset_img_size)
        return read_table(path)

    def _dataset(
        self,
        table: KeypointTable,
        targets: dict[str, Any],
        image_ids: list[int] | None = None,
        augmenter: Augmenter | None = None,
    ) -> COCOKeypointsDataset:
        chosen: dict[str, Any] = {"image_ids": image_ids}
        if self._box_padding is not None:
            crops = label_crops(table, self._box_padding, image_ids)
            if not len(crops):
                count = len(table.image_ids if image_ids is None else image_ids)
                raise ValueError(
                    f"{table.json_path}: expected instances with labelled keypoints in every part of the "
                    f"data, got none in one of {count} images; give other images, or another --seed"
                )
            chosen = {"crops": crops}
        if augmenter is not None and self._augments_on_device:
            chosen["changes_on_device"] = True
        options = {**self._sample_options, **targets, **chosen}
        return COCOKeypointsDataset(table, self.channels, augmenter=augmenter, **options)

    def _augmenter(self, config: AugmentationConfig, pairs: Sequence[Sequence[str]] | None) -> Augmenter:
        """Return the augmenter, without flips when a name that a mirror would exchange has no partner."""
        mirror = self.symmetry.mirror(self.keypoint_names, pairs)
        used = {name for channel in self.channels for name in channel}
        is_declared = pairs is not None or self.symmetry.pairs is not None
        alone = [name for name in mirror.unpaired if is_declared or name in used]
        if alone and (config.horizontal_flip > 0 or config.vertical_flip > 0):
            logger.warning(
                "flips are off, because there is no partner for the keypoint %s; declare the pairs with "
                "symmetric_keypoints",
                ", ".join(alone),
            )
            config = replace(config, horizontal_flip=0.0, vertical_flip=0.0)
        return Augmenter(config, mirror.swap)


def _check_input(input_mode: str, image_size: tuple[int, int] | None, box_padding: float) -> None:
    if image_size is not None and min(image_size) < 1:
        raise ValueError(f"image_size: expected height and width of at least 1, got {tuple(image_size)}")
    if input_mode not in INPUT_MODES:
        raise ValueError(f"input_mode: expected {' or '.join(INPUT_MODES)}, got {input_mode!r}")
    if input_mode == "instance" and image_size is None:
        raise ValueError(
            "input_mode instance: expected the size of the crops, got none; add such as --image_size 256x192"
        )
    if not LEAST_BOX_PADDING <= box_padding < math.inf:
        raise ValueError(
            f"box_padding: expected a factor of at least {LEAST_BOX_PADDING:g}, such as 1.25, got "
            f"{box_padding:g}"
        )


def _targets(
    table: KeypointTable,
    sigmas: Mapping[str, float] | None,
    lengths: Callable[[KeypointTable], NDArray[np.floating]] | None,
) -> dict[str, Any]:
    """Return the arrays of a file that samples take: a sigma per name and a length per instance."""
    by_name = None if sigmas is None else np.array([sigmas.get(name, np.nan) for name in table.names])
    return {"sigmas": by_name, "lengths": None if lengths is None else lengths(table)}


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
