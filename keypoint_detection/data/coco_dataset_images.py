"""The images of a COCO file: decoded, checked, and out of a cache where there is one."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from keypoint_detection.data.batch_buffers import BatchBuffers, Shared
from keypoint_detection.data.coco_dataset_table import KeypointTable
from keypoint_detection.data.image_cache import ImageCache, entry_name, file_state
from keypoint_detection.data.image_cache_plan import CachedFrame, cached_frame
from keypoint_detection.data.imageloader import ImageError, ImageLoader
from keypoint_detection.geometry import PAD_VALUE, Affine, identity_affine, warp_image


class TableImages:
    """Give images by their row in a table, with the affine from the pixels of the file to those given."""

    def __init__(self, table: KeypointTable, n_channels: int) -> None:
        """Store the settings: the table, and the channels as `load_image` takes them."""
        self._table, self._load = table, ImageLoader(n_channels)
        self._cache: ImageCache | None = None
        self._is_admitted = np.zeros(len(table.image_ids), bool)
        self._input_hw: tuple[int, int] | None = None
        self._largest_zoom: float | None = None

    @property
    def n_channels(self) -> int:
        """Return the channels of the images."""
        return self._load.n_channels

    def use_cache(
        self,
        cache: ImageCache,
        rows: NDArray[np.integer],
        input_hw: tuple[int, int] | None,
        largest_zoom: float | None,
    ) -> None:
        """Take images from a cache from now on, as many as it has room for.

        Args:
            cache: Where the images are kept.
            rows: Which images are used.
            input_hw: As in `cached_frame`.
            largest_zoom: As in `cached_frame`.
        """
        self._cache, self._input_hw, self._largest_zoom = cache, input_hw, largest_zoom
        used = np.unique(rows).tolist()
        frames = [self._frame(row) for row in used]
        n_channels = self._load.n_channels
        names = [self._name(row, frame) for row, frame in zip(used, frames, strict=True)]
        self._is_admitted[used] = cache.admit(names, [frame.n_bytes(n_channels) for frame in frames])

    def __call__(self, row: int) -> tuple[NDArray[np.uint8], Affine]:
        """Return an image `[h, w, c]`, which may be read-only, and the affine `[2, 3]` into its pixels.

        Raises:
            FileNotFoundError: It is missing.
            ImageError: It cannot be read, or its size is not that of the COCO file (a ValueError).
        """
        if self._cache is None or not self._is_admitted[row]:
            return self._decode(row), identity_affine()
        try:
            state = file_state(self._table.image_path(row))
        except OSError:
            return self._decode(row), identity_affine()  # and say what is wrong with it
        frame = self._frame(row)
        name = self._name(row, frame)
        image = self._cache.read(name, state, (*frame.hw, self._load.n_channels))
        if image is None:
            image = self._decode(row)
            image = image if frame.is_whole else warp_image(image, frame.affine, frame.hw)
            self._cache.write(name, state, image)
        return image, frame.affine

    def _frame(self, row: int) -> CachedFrame:
        height, width = self._table.image_hw[row].tolist()
        return cached_frame((height, width), self._input_hw, self._largest_zoom)

    def _name(self, row: int, frame: CachedFrame) -> str:
        return entry_name(self._table.image_path(row), frame.settings(self._load.n_channels))

    def _decode(self, row: int) -> NDArray[np.uint8]:
        path = self._table.image_path(row)
        image = self._load(path)
        height, width = self._table.image_hw[row].tolist()
        if image.shape[:2] != (height, width):
            raise ImageError(
                f"expected {path} to have width x height {width}x{height} as {self._table.json_path} says, "
                f"got {image.shape[1]}x{image.shape[0]} (turned as its EXIF data says, if it has any); "
                "correct one of the two"
            )
        return image


def channels_first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy `[c, h, w]` of `[h, w, c]`, in less than half the time that a transposed copy takes."""
    return np.stack(cv2.split(image)).astype(np.uint8, copy=False)


def stack_images(images: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Stack `[c, h, w]` images; smaller ones are padded at the right and the bottom with `PAD_VALUE`.

    A loader process stacks right into memory that it shares with the main one, which saves a copy.
    """
    shape = _padded_shape(images)
    stacked = torch.empty(0, dtype=torch.uint8)
    if get_worker_info() is not None:  # as torch's own collate does
        stacked = stacked.set_(torch.UntypedStorage._new_shared(math.prod(shape)))
    stacked = stacked.resize_(shape)
    _fill(stacked.numpy(), images)
    return stacked


def stack_in_buffer(images: Sequence[NDArray[np.uint8]], buffers: BatchBuffers | None) -> Tensor | Shared:
    """Stack as `stack_images` does, in a buffer where one is free: it arrives as a tensor."""
    shared = buffers.empty(_padded_shape(images)) if buffers is not None else None
    if shared is None:
        return stack_images(images)
    _fill(shared.array, images)
    return shared


def _padded_shape(images: Sequence[NDArray[np.uint8]]) -> tuple[int, ...]:
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    return len(images), images[0].shape[0], height, width


def _fill(pixels: NDArray[np.uint8], images: Sequence[NDArray[np.uint8]]) -> None:
    if any(image.shape != pixels.shape[1:] for image in images):
        pixels.fill(PAD_VALUE)
    for row, image in enumerate(images):
        pixels[row, :, : image.shape[1], : image.shape[2]] = image
