"""Shared memory for the images of whole batches, used again as soon as nobody holds the batch made in it.

New shared memory costs more than filling it: the system clears and maps it page by page, 0.7 ms for an image
of 512x512, a third of what the image takes in all. So a loader has a few buffers, which its processes share
from their start. A loader process takes a free one, writes a batch and sends its number; where the batch
arrives, the number becomes a tensor of that memory, and when its last view is gone the buffer is free again.
"""

import ctypes
import math
import mmap
import multiprocessing
import os
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

MOST_BUFFERS = 255
MOST_BYTES = 10**9
"""Of all buffers of a loader together: what was written once stays in memory as long as the loader."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _LARGEST_BYTES = -1, -3, 32 * 2**20  # of mallopt in glibc
_POOLS: weakref.WeakValueDictionary[int, "BatchBuffers"] = weakref.WeakValueDictionary()


class BatchBuffers:
    """Lend buffers to the batches of loader processes that are forked from this one.

    Args:
        count: Number of buffers, 255 at most; when all are taken a batch gets memory of its own.
        n_bytes: Size of each, that of the largest batch; memory is used only as far as it is written.
    """

    def __init__(self, count: int, n_bytes: int) -> None:
        self.n_bytes = n_bytes
        self._memory = [mmap.mmap(-1, max(n_bytes, 1)) for _ in range(min(count, MOST_BUFFERS))]
        # One byte per free buffer. A pipe needs no lock, which a killed process could leave locked.
        self._free, self._freed = os.pipe()
        for end in (self._free, self._freed):
            os.set_blocking(end, False)
        os.write(self._freed, bytes(range(len(self._memory))))
        _POOLS[id(self)] = self
        weakref.finalize(self, _close, self._free, self._freed).atexit = False

    def empty(self, shape: tuple[int, ...]) -> "Shared | None":
        """Return a uint8 array of a shape in a free buffer, or None if there is none; in a loader process."""
        if math.prod(shape) > self.n_bytes or get_worker_info() is None:
            return None
        try:
            number = os.read(self._free, 1)
        except BlockingIOError:
            return None
        return Shared(id(self), number[0], shape, self.array(number[0], shape))

    def array(self, number: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Return the beginning of a buffer as an array."""
        return np.frombuffer(self._memory[number], np.uint8, math.prod(shape)).reshape(shape)

    def lend(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """Return the beginning of a buffer as a tensor; when all its views are gone the buffer is free."""
        array = self.array(number, shape)
        # The memory of the tensor holds the array, and every view of the tensor holds the memory.
        weakref.finalize(array, _give_back, self._freed, number, weakref.ref(self)).atexit = False
        return torch.from_numpy(array)


class Shared:
    """Stand for a tensor in a buffer until it arrives in the process that owns the buffers.

    Attributes:
        array: Where to write the values, uint8.
    """

    def __init__(self, pool: int, number: int, shape: tuple[int, ...], array: NDArray[np.uint8]) -> None:
        self.array = array
        self._where = (pool, number, shape)

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        """Arrive as a tensor."""
        return _arrived, self._where


def batch_buffers(count: int, n_bytes: int) -> BatchBuffers | None:
    """Return up to `count` buffers, or None where there is no room or loader processes share no memory."""
    count = min(count, MOST_BYTES // n_bytes)
    if count < 1 or multiprocessing.get_start_method() != "fork":
        return None
    try:
        return BatchBuffers(count, n_bytes)
    except OSError:  # no memory
        return None


def keep_freed_memory() -> None:
    """Let a loader process keep the memory that an image took for the next one, where the system can."""
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 8 * _LARGEST_BYTES)
        mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES)


def _arrived(pool: int, number: int, shape: tuple[int, ...]) -> Tensor:
    return _POOLS[pool].lend(number, shape)


def _give_back(freed: int, number: int, pool: "weakref.ref[BatchBuffers]") -> None:
    if pool() is not None:
        os.write(freed, bytes([number]))


def _close(*ends: int) -> None:
    for end in ends:
        os.close(end)
