"""The data of a training of gaze following: people to train on, to validate on and to test on."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from keypoint_detection.data.datamodule_loaders import make_dataloader
from keypoint_detection.gaze.augmentation import GazeAugmentation
from keypoint_detection.gaze.people import GazeTable, split
from keypoint_detection.gaze.samples import GazeDataset, collate_gaze


@dataclass(frozen=True)
class GazePart:
    """Hold people and where their images are.

    Attributes:
        table: The people.
        root: Folder that the names of the images are relative to.
        depth_folder: Folder of the depth maps, as for `GazeDataset`, or None.
    """

    table: GazeTable
    root: str | Path
    depth_folder: str | Path | None = None


class GazeData(LightningDataModule):
    """Give Lightning its loaders; only samples to train on are ever changed at random.

    Attributes:
        train_dataset: Samples to train on.
        validation_dataset: Samples to validate on, or None.
        test_dataset: Samples to test on, or None.
    """

    def __init__(
        self,
        train: GazePart,
        validation: GazePart | float | None = None,
        test: GazePart | None = None,
        *,
        scene_hw: tuple[int, int] = (224, 224),
        head_hw: tuple[int, int] = (224, 224),
        augmentation: GazeAugmentation | None = None,
        batch_size: int = 16,
        num_workers: int | None = None,
        prefetch: int = 2,
        seed: int = 0,
    ) -> None:
        """Split the people if need be, and check that their images are there.

        Args:
            train: People to train on. Those of whom nothing is known stay among them; losses leave them out.
            validation: People to validate on, or the share of those of `train` that is held out, in (0, 1);
                no group is on both sides then. None validates on nobody.
            test: People to test on.
            scene_hw: As for `GazeDataset`.
            head_hw: As for `GazeDataset`.
            augmentation: Changes samples to train on; None changes none.
            batch_size: People per batch; the last batch may be smaller.
            num_workers: Loader processes; None is one per core, 4 at most, and none for a few people.
            prefetch: Batches that each loader process prepares ahead.
            seed: Of the split, the order and the changes.

        Raises:
            FileNotFoundError: An image or a depth map is missing.
            ValueError: A number is out of range, there is nobody to train on, or some parts have depth maps
                and others none.
        """
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
        self.batch_size, self.num_workers, self.seed, self._prefetch = batch_size, num_workers, seed, prefetch
        if isinstance(validation, int | float):
            training, held_out = split(train.table, validation, seed)
            validation = GazePart(held_out, train.root, train.depth_folder)
            train = GazePart(training, train.root, train.depth_folder)
        _check_parts(train, validation, test)

        def dataset(part: GazePart, changes: GazeAugmentation | None = None) -> GazeDataset:
            return GazeDataset(
                part.table,
                part.root,
                scene_hw=scene_hw,
                head_hw=head_hw,
                augmentation=changes,
                depth_folder=part.depth_folder,
                seed=seed,
            )

        self.train_dataset = dataset(train, augmentation)
        self.validation_dataset = None if validation is None else dataset(validation)
        self.test_dataset = None if test is None else dataset(test)

    def train_dataloader(self) -> DataLoader:
        """Return the samples to train on, in a new order and newly changed every epoch."""
        return self._loader(self.train_dataset, self.seed)

    def val_dataloader(self) -> DataLoader | list:
        """Return the samples to validate on in their order, or no loader."""
        return [] if self.validation_dataset is None else self._loader(self.validation_dataset)

    def test_dataloader(self) -> DataLoader | list:
        """Return the samples to test on in their order, or no loader."""
        return [] if self.test_dataset is None else self._loader(self.test_dataset)

    def _loader(self, dataset: GazeDataset, shuffle_seed: int | None = None) -> DataLoader:
        collate: Callable[..., Any] = collate_gaze
        return make_dataloader(
            dataset,
            self.batch_size,
            num_workers=self.num_workers,
            shuffle_seed=shuffle_seed,
            prefetch=self._prefetch,
            collate_fn=collate,
        )


def _check_parts(train: GazePart, validation: GazePart | None, test: GazePart | None) -> None:
    if not len(train.table):
        raise ValueError("expected people to train on, got none; check the file and the split")
    parts = [part for part in (train, validation, test) if part is not None]
    has_depth = {part.depth_folder is not None for part in parts}
    if len(has_depth) > 1:
        raise ValueError("expected depth maps for all parts of the data or for none, got them for some")
