"""Batches of patches around labelled points, cropped from a pyramid by loader processes."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from keypoint_detection.data.batch_buffers import BatchBuffers, Shared, batch_buffers
from keypoint_detection.data.datamodule_loaders import default_num_workers, limit_threads
from keypoint_detection.data.datamodule_workers import end_workers_at_exit
from keypoint_detection.visibility.patches_sampler import PatchSampler
from keypoint_detection.visibility.points import PointTable
from keypoint_detection.visibility.pyramid import PATCH_PX, Pyramid, crop_patches

PREFETCH = 2
BUFFERS_OF_THE_TRAINING = 3
"""Batches that a training holds at once: the one it works on, and those that it has asked for ahead."""

STATISTICS_POINTS = 64
"""Points that are held at once while means are computed."""


class PatchData(Dataset[dict[str, Tensor | Shared | NDArray]]):
    """Give the patches of several points at once.

    Attributes:
        table: The points.
        pyramid: The images that they lie in, found by their names.
        patch_px: Side of the patches in pixels of each level.
    """

    def __init__(self, table: PointTable, pyramid: Pyramid, patch_px: int = PATCH_PX) -> None:
        """Find the image of every point.

        Raises:
            ValueError: An image of the points is not in the pyramid, or has another size there.
        """
        self.table, self.pyramid, self.patch_px = table, pyramid, patch_px
        self._buffers: BatchBuffers | None = None
        place = {name: number for number, name in enumerate(pyramid.image_names)}
        images = np.array([place.get(name, -1) for name in table.image_names], dtype=np.int64)
        for image in np.unique(table.image).tolist():
            _check_image(table, image, pyramid, int(images[image]))
        self._image = images[table.image]

    def __len__(self) -> int:
        return len(self.table)

    @property
    def patch_shape(self) -> tuple[int, int, int]:
        """Return levels x channels, height and width of the patches of a point."""
        return len(self.pyramid.factors) * self.pyramid.n_channels, self.patch_px, self.patch_px

    def write_to(self, buffers: BatchBuffers | None) -> None:
        """Let loader processes write patches to buffers, where one is free; they arrive as a tensor."""
        self._buffers = buffers

    def __getitem__(self, index: ArrayLike) -> dict[str, Tensor | Shared | NDArray]:
        """Return the batch of points `[n]`, see `make_patch_loader`; but label and index are arrays.

        Each tensor of a loader process is sent as a file: for a few numbers that takes longer than the rest.
        """
        rows = np.atleast_1d(np.asarray(index, dtype=np.int64))
        return {"patch": self._patch(rows), "label": self.table.label[rows].astype(np.float32), "index": rows}

    def _patch(self, rows: NDArray[np.int64]) -> Tensor | Shared:
        shared = self._buffers and self._buffers.empty((len(rows), *self.patch_shape))
        if shared is None:
            return torch.from_numpy(self.crop(rows))
        self.crop(rows, shared.array)
        return shared

    def crop(self, index: NDArray[np.int64], out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
        """Return the patches of points, `[n, levels * channels, patch_px, patch_px]`, in `out` if given."""
        return crop_patches(self.pyramid, self._image[index], self.table.xy[index], self.patch_px, out)


def make_patch_loader(
    table: PointTable,
    pyramid: Pyramid,
    batch_size: int,
    *,
    balance: bool = False,
    shuffle_seed: int | None = None,
    num_workers: int | None = None,
    patch_px: int = PATCH_PX,
) -> DataLoader:
    """Return a loader of batches `{"patch", "label", "index"}`.

    `patch` is uint8 `[n, levels * channels, patch_px, patch_px]`, `label` float32 `[n]` and `index` int64
    `[n]`, the place of each point in the table. Order and balance depend on the seed and the epoch alone.

    Args:
        table: The points.
        pyramid: The images.
        batch_size: Points per batch; the last batch may be smaller.
        balance: As many of each class, drawn anew every epoch; needs a seed.
        shuffle_seed: Shuffle by it; None keeps the order.
        num_workers: Loader processes, which stay alive and keep to one thread each; None chooses.
        patch_px: Side of the patches in pixels of each level.

    Raises:
        ValueError: The batch size is below 1, a class to balance is empty, or an image is not in the pyramid.
    """
    if batch_size < 1:
        raise ValueError(f"expected a batch size of 1 or more, got {batch_size}")
    workers = default_num_workers(len(table)) if num_workers is None else num_workers
    points = PatchData(table, pyramid, patch_px)
    if workers:
        points.write_to(_buffers(workers, min(batch_size, len(table)), points.patch_shape))
    loader = PatchLoader(
        points,
        batch_size=None,  # the sampler gives whole batches
        sampler=PatchSampler(table.label, batch_size, balance=balance, seed=shuffle_seed),
        num_workers=workers,
        collate_fn=_unchanged,
        persistent_workers=workers > 0,
        prefetch_factor=PREFETCH if workers else None,
        worker_init_fn=limit_threads,
        generator=torch.Generator(),  # a loader draws a number at its start: not from the training's numbers
    )
    end_workers_at_exit(loader)
    return loader


class PatchLoader(DataLoader):
    """Go on in the middle of an epoch: the order is known, so that nothing is loaded that is not used."""

    def __iter__(self) -> Iterator[dict[str, Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Begin when the first batch is asked for: epoch and place may be set until then."""
        for batch in super().__iter__():
            yield {name: torch.as_tensor(values) for name, values in batch.items()}

    def state_dict(self) -> dict[str, int]:
        """Return what a place in an epoch depends on; whoever takes the batches counts them."""
        return {"batches": len(self)}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Begin the next epoch after `batches_done` batches, 0 if there is no such entry.

        Raises:
            ValueError: The place is that of an epoch of another length.
        """
        done = state_dict.get("batches_done", 0)
        if done and state_dict["batches"] != len(self):
            raise ValueError(
                f"--ckpt_path: the checkpoint is from epochs of {state_dict['batches']} batches, got "
                f"{len(self)}; resume with the data and the --batch_size of the run"
            )
        assert isinstance(self.sampler, PatchSampler)
        self.sampler.skip(done)


def channel_statistics(
    table: PointTable, pyramid: Pyramid, max_points: int = 2000, patch_px: int = PATCH_PX
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and standard deviation of each input channel, as uint8 values, over patches of points.

    They are those of what the network sees, the zeros outside the image included.

    Args:
        table: Points of the training only: nothing of the others may be known.
        pyramid: The images.
        max_points: At most so many points, evenly spaced in the table.
        patch_px: Side of the patches in pixels of each level.

    Returns:
        Two float64 `[levels * channels]`, in 0 to 255.

    Raises:
        ValueError: There is no point.
    """
    if not len(table) or max_points < 1:
        raise ValueError(f"expected points to compute means of, got {len(table)} and at most {max_points}")
    points = PatchData(table, pyramid, patch_px)
    chosen = np.unique(np.linspace(0, len(table) - 1, min(max_points, len(table))).round().astype(np.int64))
    counts = np.zeros((points.patch_shape[0], 256), np.int64)
    for start in range(0, len(chosen), STATISTICS_POINTS):
        patches = points.crop(chosen[start : start + STATISTICS_POINTS])
        counts += [np.bincount(patches[:, channel].ravel(), minlength=256) for channel in range(len(counts))]
    values, total = np.arange(256.0), counts.sum(axis=1)
    mean = counts @ values / total
    variance = ((values - mean[:, None]) ** 2 * counts).sum(axis=1) / total
    return mean, np.sqrt(variance)


def _check_image(table: PointTable, image: int, pyramid: Pyramid, found: int) -> None:
    name, size = table.image_names[image], tuple(table.image_hw[image].tolist())
    if found < 0:
        raise ValueError(
            f"expected image {name!r} of the points among the {pyramid.n_images} pre-scaled ones of "
            f"{pyramid.folder}, found {pyramid.image_names[0]!r} and others; build them of the same images"
        )
    size_there = tuple(pyramid.image_hw[found].tolist())
    if size != size_there:
        raise ValueError(
            f"image {name!r}: expected {size[0]}x{size[1]} pixels as in the table of points, got "
            f"{size_there[0]}x{size_there[1]} in {pyramid.folder}; build the pre-scaled images again"
        )


def _unchanged(batch: Any) -> Any:
    return batch


def _buffers(workers: int, batch_size: int, patch_shape: tuple[int, ...]) -> BatchBuffers | None:
    n_bytes = max(batch_size, 1) * math.prod(patch_shape)
    return batch_buffers(workers * PREFETCH + BUFFERS_OF_THE_TRAINING, n_bytes)
