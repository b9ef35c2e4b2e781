"""Live with a full disk and with images that cannot be read: no half file, one line each, and go on."""

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from torch.utils.data import Dataset

from keypoint_detection.data.imageloader import ImageError
from keypoint_detection.files import atomic_write

logger = logging.getLogger("keypoint_detection")


class CheckpointError(RuntimeError):
    """Say in one line that too many checkpoints in a row could not be written."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write checkpoints whole or not at all, down to the disk, and go on for a while when that fails.

    Args:
        max_failures: Raise when this many in a row could not be written.

    Attributes:
        failures: How many in a row could not be written.
    """

    def __init__(self, max_failures: int = 5) -> None:
        super().__init__()
        self.max_failures, self.failures = max_failures, 0

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Save a checkpoint to a local path; a full disk leaves the one that was there.

        Raises:
            CheckpointError: It failed as many times in a row as is allowed.
        """
        try:
            _write_through(Path(path), checkpoint)
        except OSError as error:
            self._count(Path(path), error)
        else:
            self.failures = 0

    def _count(self, path: Path, error: OSError) -> None:
        self.failures += 1
        reason = error.strerror or str(error)
        if self.failures >= self.max_failures:
            raise CheckpointError(
                f"{path}: {self.failures} checkpoints in a row could not be written ({reason}); free some "
                "space, then resume from the last one that is whole"
            ) from None
        kept = "the one before is kept" if path.is_file() else "there is none yet"
        logger.warning(
            "%s: this checkpoint could not be written (%s); %s, and the next time is try %d of %d",
            *(path, reason, kept, self.failures + 1, self.max_failures),
        )


class _LateErrors:
    """Pass bytes on to a file, and keep the first error: torch.save does not survive one while it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write, unless something has failed before."""
        size = memoryview(content).nbytes
        try:
            return size if self.error is not None else self.file.write(content)
        except OSError as error:
            self.error = error
            return size

    def flush(self) -> None:
        """Hand to the system what waits, unless something has failed before."""
        try:
            if self.error is None:
                self.file.flush()
        except OSError as error:
            self.error = error


def _write_through(path: Path, checkpoint: dict[str, Any]) -> None:
    """Write a file atomically and wait until the disk has it: also a power cut leaves the old or the new."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        writer: Any = _LateErrors(file)
        torch.save(checkpoint, writer)  # right into the file: no copy of the whole in memory
        if writer.error is not None:
            raise writer.error
        os.fsync(file.fileno())
    if hasattr(os, "O_DIRECTORY"):
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # some file systems cannot
                os.fsync(folder)
        finally:
            os.close(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what checkpoints that were being written when a run was killed have left in its folder."""
    for path in [*folder.glob(".last-*.ckpt"), *folder.glob(".best-*.ckpt")]:
        path.unlink(missing_ok=True)


class DurableCSVLogger(CSVLogger):
    """Write `metrics.csv`; while the disk is full keep the lines and write them when there is room again."""

    _has_failed = False

    @rank_zero_only
    def save(self) -> None:
        """Append the new lines, or none of them."""
        writer: Any = self.experiment
        path, keys = Path(writer.metrics_file_path), list(writer.metrics_keys)
        before = path.read_bytes() if _gets_new_columns(writer) and path.is_file() else None
        size = path.stat().st_size if path.is_file() else None
        try:
            super().save()
            self._has_failed = False
        except OSError as error:
            writer.metrics_keys = keys
            _restore(path, size, before)
            if not self._has_failed:
                logger.warning(
                    "%s could not be written (%s); its lines are kept in memory until it can",
                    *(path, error.strerror or error),
                )
            self._has_failed = True


def _gets_new_columns(writer: Any) -> bool:
    return bool(set().union(*writer.metrics) - set(writer.metrics_keys)) if writer.metrics else False


def _restore(path: Path, size: int | None, content: bytes | None) -> None:
    """Bring a file back to what it was: a shorter one has room even on a full disk."""
    with suppress(OSError):
        if size is None:
            path.unlink(missing_ok=True)
        elif content is None:
            os.truncate(path, size)
        else:
            path.write_bytes(content)


class ReadableSamples(Dataset[dict[str, Any]]):
    """Give the samples of a data set, and in place of one that cannot be read the next one that can.

    The same sample is always replaced by the same one, with its own seed, whichever process asks.

    Args:
        dataset: Its samples, by position or by (position, seed).
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        self._is_unreadable = torch.zeros(len(dataset), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __getitem__(self, index: int | tuple[int, int]) -> dict[str, Any]:
        """Return a sample.

        Raises:
            ImageError: No image of the data set can be read.
        """
        first, *seed = index if isinstance(index, tuple) else (index,)
        for step in range(len(self)):
            position = (first + step) % len(self)
            if self._is_unreadable[position]:
                continue
            try:
                return self.dataset[(position, *seed) if seed else position]
            except (ImageError, OSError) as error:
                self._is_unreadable[position] = 1
                logger.warning("left out, since it cannot be read: %s", " ".join(str(error).split()))
        raise ImageError(f"expected images that can be read, got none among {len(self)}; is the disk there?")

    @property
    def unreadable_ids(self) -> list[int]:
        """Return the COCO ids of the images that could not be read so far, in any process."""
        positions = torch.nonzero(self._is_unreadable).flatten().tolist()
        return sorted({self.dataset.image_ids[position] for position in positions})

    def summary(self) -> str | None:
        """Return one line with the number and the names of the images that were left out, or None."""
        ids = self.unreadable_ids
        if not ids:
            return None
        names = ", ".join(self.dataset.file_name(number) for number in ids[:5])
        more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
        total = len(set(self.dataset.image_ids))
        return f"{len(ids)} of {total} training images could not be read: {names}{more}"
