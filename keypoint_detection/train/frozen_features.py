"""Train head and decoder on features of a frozen encoder that are computed once: `--frozen_features`."""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from keypoint_detection.data.augmentations_device import DeviceChange, change_images, stack_changes
from keypoint_detection.data.coco_dataset import collate
from keypoint_detection.data.coco_dataset_images import stack_images
from keypoint_detection.data.datamodule import KeypointsDataModule
from keypoint_detection.data.datamodule_loaders import make_dataloader
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.feature_cache import FrozenEncoder
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.utils.load_checkpoints import read_checkpoint

logger = logging.getLogger("keypoint_detection")

FOLDER = "frozen_features"
KEY = "features"
SPARE = 1.05
"""How much more room than the features need must be free."""

Sample = dict[str, Any]


@contextmanager
def frozen_features(
    config: TrainConfig, trainer: pl.Trainer, detector: KeypointDetector, data: KeypointsDataModule
) -> Iterator[None]:
    """Let a training with `--frozen_features` use kept features within the block; else do nothing.

    A training image has K views; which one an epoch shows is drawn by the sampler's seed. Validation images
    have one view. Test images go through the encoder.

    Raises:
        ValueError: The backbone has no encoder apart, there are several devices, images differ in size, or
            the features do not fit on the disk.
    """
    if not config.frozen_features:
        yield
        return
    if trainer.world_size > 1:
        raise ValueError(f"--frozen_features: expected one device, got {trainer.world_size}; use --devices 1")
    if config.ckpt_path:
        detector.load_state_dict(read_checkpoint(config.ckpt_path)["state_dict"])
    encoder = FrozenEncoder(detector.to(trainer.strategy.root_device).backbone)
    folder = Path(trainer.default_root_dir) / FOLDER
    try:
        _keep(config, detector, encoder, data, folder)
        callback = _UseKeptFeatures(encoder)
        trainer.callbacks.append(callback)  # pyright: ignore[reportAttributeAccessIssue]
        with encoder.replaced():
            yield
    finally:
        for name in ("train_dataloader", "val_dataloader"):
            vars(data).pop(name, None)
        shutil.rmtree(folder, ignore_errors=True)


def _keep(
    config: TrainConfig,
    detector: KeypointDetector,
    encoder: FrozenEncoder,
    data: KeypointsDataModule,
    folder: Path,
) -> None:
    """Compute the features and let the data module give them."""
    parts = {"train": (data.train_dataset, config.frozen_features)}
    if data.validation_dataset is not None:
        parts["validation"] = (data.validation_dataset, 1)
    _check_room(detector, encoder, parts, folder)
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    made = {}
    for name, (dataset, n_views) in parts.items():
        augmented = _Views(dataset, n_views, config.seed) if name == "train" else dataset
        made[name] = KeptFeatures(augmented, n_views, folder / name)
        made[name].fill(detector, encoder, config.batch_size)
    options: dict[str, Any] = {"num_workers": 0, "collate_fn": collate_kept}
    vars(data)["train_dataloader"] = lambda: make_dataloader(
        made["train"], config.batch_size, shuffle_seed=config.seed, **options
    )
    if "validation" in made:
        vars(data)["val_dataloader"] = lambda: make_dataloader(
            made["validation"], config.batch_size, **options
        )


def _check_room(
    detector: KeypointDetector,
    encoder: FrozenEncoder,
    parts: Mapping[str, tuple[Any, int]],
    folder: Path,
) -> None:
    """Say how large the features will be, and refuse what does not fit."""
    first = parts["train"][0][0]["image"]
    image = torch.from_numpy(first)[None].to(detector.device)
    kept = encoder.record((image - detector.image_mean) / detector.image_std)
    one = first.nbytes + sum(level.nbytes for level in kept)
    count = sum(len(dataset) * n_views for dataset, n_views in parts.values())
    parent = next(parent for parent in folder.absolute().parents if parent.exists())
    free = shutil.disk_usage(parent).free
    logger.info(
        "frozen features: %d views of %.2f MB, %.2f GB in %s", count, one / 1e6, count * one / 1e9, folder
    )
    if free < SPARE * count * one:
        raise ValueError(
            f"--frozen_features {parts['train'][1]}: expected {SPARE * count * one / 1e9:.1f} GB free in "
            f"{parent}, got {free / 1e9:.1f} GB; use fewer views or a smaller --image_size"
        )


class _Views(Dataset):
    """Give the views of a training data set by position and number of the view."""

    def __init__(self, dataset: Any, n_views: int, seed: int) -> None:
        self.dataset, self.n_views, self.seed = dataset, n_views, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: tuple[int, int]) -> Sample:
        position, seed = index
        return self.dataset[position, view_seed(self.seed, position, seed % self.n_views)]


def view_seed(seed: int, position: int, view: int) -> int:
    """Return the seed of the augmentation of a view: that of the epoch of the same number."""
    return int(np.random.SeedSequence((seed, view, position)).generate_state(1, np.uint64)[0])


class KeptFeatures(Dataset):
    """Hold the features, image and labels of some views of every sample; the large ones lie in files.

    A sample is taken by its position, or by position and seed, which picks the view.

    Args:
        dataset: Its samples, by position, or with several views by position and view.
        n_views: Views per sample.
        folder: Where the files go.
    """

    def __init__(self, dataset: Any, n_views: int, folder: Path) -> None:
        self.dataset, self.n_views, self.folder = dataset, n_views, folder
        self._labels: list[Sample] = []
        self._arrays: list[NDArray] = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> Sample:
        """Return a sample as the data set gives it, and `features`, float16 `[c, h, w]` per scale."""
        position, seed = index if isinstance(index, tuple) else (index, 0)
        row = seed % self.n_views * len(self) + position
        image, *features = (array[row] for array in self._arrays)
        return {**self._labels[row], "image": image, "features": features}

    def fill(self, detector: KeypointDetector, encoder: FrozenEncoder, batch_size: int) -> None:
        """Compute everything.

        Raises:
            ValueError: The images differ in size.
        """
        with_view = isinstance(self.dataset, _Views)
        rows = [(position, view) for view in range(self.n_views) for position in range(len(self))]
        for first in range(0, len(rows), batch_size):
            part = rows[first : first + batch_size]
            samples = [self.dataset[row if with_view else row[0]] for row in part]
            images = [sample.pop("image") for sample in samples]
            stacked = stack_images(images)
            if any(image.shape != stacked.shape[1:] for image in images):
                _refuse_sizes(images)
            stacked = _changed(stacked.to(detector.device), samples)
            normalised = (stacked - detector.image_mean) / detector.image_std
            self._write(first, len(rows), [stacked, *encoder.record(normalised)])
            self._labels += samples

    def _write(self, first: int, count: int, tensors: Sequence[Tensor]) -> None:
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        if not self._arrays:
            self._arrays = [
                np.lib.format.open_memmap(
                    self.folder.with_name(f"{self.folder.name}_{number}.npy"),
                    "w+",
                    array.dtype,
                    (count, *array.shape[1:]),
                )
                for number, array in enumerate(arrays)
            ]
        for kept, array in zip(self._arrays, arrays, strict=True):
            if kept.shape[1:] != array.shape[1:]:
                _refuse_sizes([kept[0], array[0]])
            kept[first : first + len(array)] = array


def _changed(images: Tensor, samples: Sequence[Sample]) -> Tensor:
    """Return uint8 images after the augmentation that `--augment_device gpu` has left to do, if any."""
    changes = [sample.pop("change") for sample in samples if "change" in sample]
    if not changes:
        return images
    input_hw = torch.tensor([sample["input_hw"] for sample in samples], device=images.device)
    drawn = cast("dict[str, Tensor]", stack_changes(changes))
    on_device = {name: value.to(images.device) for name, value in drawn.items()}
    return change_images(images, input_hw, cast("DeviceChange", on_device))


def _refuse_sizes(images: Sequence[NDArray]) -> None:
    sizes = sorted({f"{image.shape[-2]}x{image.shape[-1]}" for image in images})
    raise ValueError(
        f"--frozen_features: expected images of one size, got {', '.join(sizes)}; add such as --image_size "
        "256x256"
    )


def collate_kept(samples: Sequence[Mapping[str, Any]]) -> Any:
    """Return a batch of samples of `KeptFeatures`: a `Batch`, and `features0`, ... float16 `[n, c, h, w]`.

    Every entry has a row per sample, as callbacks cut batches.
    """
    batch = cast("dict[str, Any]", collate(samples))
    levels = zip(*(sample["features"] for sample in samples), strict=True)
    stacked = {f"{KEY}{scale}": torch.from_numpy(np.stack(level)) for scale, level in enumerate(levels)}
    return {**batch, **stacked}


def kept_of(batch: Mapping[str, Any]) -> list[Tensor] | None:
    """Return the features in a batch, from fine to coarse, or None without any."""
    count = sum(name.startswith(KEY) for name in batch)
    return [batch[f"{KEY}{scale}"] for scale in range(count)] or None


class _UseKeptFeatures(pl.Callback):
    """Hand the features of each batch to the encoder's stand-in, and take them back after the step."""

    def __init__(self, encoder: FrozenEncoder) -> None:
        self.encoder = encoder

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """Hand over those of a training batch."""
        self.encoder.features = kept_of(batch)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, batch: Any, *_: int) -> None:
        """Hand over those of a validation batch."""
        self.encoder.features = kept_of(batch)

    def on_train_batch_end(self, *_: Any) -> None:
        """Take them back."""
        self.encoder.features = None

    def on_validation_batch_end(self, *_: Any) -> None:
        """Take them back."""
        self.encoder.features = None
