"""Decoded images that several processes share: one memory-mapped file each, in memory or on a disk.

An entry is written under a temporary name and renamed, so a reader finds a whole one or none, whoever writes
at the same time and whenever a writer is killed. Its header names the state of the image file that it was
made of: a file that has changed since is decoded anew, and its entry replaced.
"""

import contextlib
import hashlib
import json
import logging
import mmap
import os
import re
import shutil
import struct
import tempfile
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from keypoint_detection.data.image_cache_lock import LOCK_NAMES, FolderLock
from keypoint_detection.files import atomic_write

logger = logging.getLogger("keypoint_detection")

CacheKind = Literal["ram", "disk", "off"]
CACHE_KINDS = ("ram", "disk", "off")

_HEADER = struct.Struct("<8sIIIIQq24x")  # 64 bytes: magic, h, w, c, checksum, size and time of the image file
_MAGIC = b"kpimage1"
_SUFFIX = ".pixels"
_OWN_NAME = re.compile(r"[0-9a-f]{40}\.pixels|\.[0-9a-f]{40}-\w+\.pixels")
_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class FileState:
    """Hold what tells one state of a file from another: its size in bytes and the time of its last change."""

    size: int
    mtime_ns: int


def file_state(path: str | Path) -> FileState:
    """Return the state of a file now; a missing one is an OSError."""
    status = os.stat(path)
    return FileState(status.st_size, status.st_mtime_ns)


def entry_name(path: str | Path, settings: Sequence[Any]) -> str:
    """Return the name of the entry of an image file under some settings: plain numbers, texts and lists."""
    key = json.dumps([os.path.abspath(path), cv2.__version__, *settings])
    return hashlib.sha256(key.encode()).hexdigest()[:40] + _SUFFIX


def default_folder(kind: CacheKind) -> Path:
    """Return where entries go: a folder of this user in shared memory or in the cache folder of a disk.

    Where a system has no shared memory with a path, the folder of temporary files takes its place.
    """
    if kind == "disk":
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root) / "keypoint-detection" / "images"
    user = os.getuid() if hasattr(os, "getuid") else 0
    root = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())
    return root / f"keypoint-detection-{user}"


class ImageCache:
    """Keep decoded images in one folder up to a number of bytes, for all processes that use it.

    A cache in memory is removed when the last process that uses it ends; what a killed one left behind is
    used or removed by the next. One on a disk stays.
    """

    def __init__(self, folder: str | Path, limit_bytes: int, *, is_kept: bool = True) -> None:
        """Open the folder, made if need be.

        Args:
            folder: Where the entries are. In a folder of another user nothing is read or written.
            limit_bytes: Most bytes of the entries of this run; half of what is free there is never exceeded.
            is_kept: False removes the entries when the last process that uses the folder ends.

        Raises:
            ValueError: The folder cannot be made, or belongs to another user.
        """
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ValueError(
                f"image cache: expected a folder that can be written, got {self.folder} ({error.strerror}); "
                "give another --cache_dir or --cache off"
            ) from None
        if hasattr(os, "getuid") and self.folder.stat().st_uid != os.getuid():
            raise ValueError(
                f"image cache: expected a folder of this user, got {self.folder}; give another --cache_dir"
            )
        self._lock = FolderLock(self.folder)
        self.limit_bytes = min(limit_bytes, (self._stored_bytes() + _free_bytes(self.folder, is_kept)) // 2)
        self._wanted: dict[str, int] = {}
        self._planned: dict[str, int] = {}
        self._is_writing, self._verified = True, set[str]()
        weakref.finalize(self, _close, self._lock, self.folder, is_kept, os.getpid())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_wanted": {},
            "_planned": {},
            "_lock": None,
        }  # who made the cache holds the lock

    def admit(self, names: Sequence[str], sizes_bytes: Sequence[int]) -> NDArray[np.bool_]:
        """Return which entries there is room for, first come, first kept; call it before workers start.

        Args:
            names: Of `entry_name`; one that was admitted before takes no room again.
            sizes_bytes: Bytes of the pixels of each.
        """
        free = self.limit_bytes - sum(self._planned.values())
        fits = np.zeros(len(names), bool)
        for index, (name, pixels) in enumerate(zip(names, sizes_bytes, strict=True)):
            size = self._wanted[name] = pixels + _HEADER.size
            if name not in self._planned and size <= free:
                self._planned[name] = size
                free -= size
            fits[index] = name in self._planned
        return fits

    def make_room(self) -> None:
        """Say what does not fit, and remove what killed writers left and what else is beyond the bound.

        Entries of other runs go, the oldest first. Nothing is removed while another run uses the folder.
        """
        missing = len(self._wanted) - len(self._planned)
        if missing:
            logger.info(
                "image cache: room for %d of %d images in %d MB of %s; the others are decoded every time; "
                "--cache_mb %d holds all, where so much is free",
                len(self._planned),
                len(self._wanted),
                self.limit_bytes // 10**6,
                self.folder,
                -(-sum(self._wanted.values()) // 10**6),
            )
        with self._lock.alone() as is_alone:
            if is_alone:
                self._remove_what_is_too_much()

    def _remove_what_is_too_much(self) -> None:
        for path in _own_files(self.folder):
            if path.name.startswith("."):
                path.unlink(missing_ok=True)
        foreign = sorted(_aged(path) for path in _own_files(self.folder) if path.name not in self._planned)
        excess = sum(size for _, size, _ in foreign) + sum(self._planned.values()) - self.limit_bytes
        for _, size, path in foreign:
            if excess > 0:
                path.unlink(missing_ok=True)
                excess -= size

    def read(self, name: str, state: FileState, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
        """Return an entry, read-only and mapped from its file, or None where there is no good one.

        Args:
            name: Of `entry_name`.
            state: Of the image file now.
            shape: `(h, w, c)` of the entry.
        """
        try:
            with (self.folder / name).open("rb") as file:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # none, or an empty file
            return None
        n_bytes = int(np.prod(shape))
        if len(content) != _HEADER.size + n_bytes:
            return None
        magic, *found_shape, checksum, size, mtime_ns = _HEADER.unpack_from(content)
        if (magic, *found_shape, size, mtime_ns) != (_MAGIC, *shape, state.size, state.mtime_ns):
            return None
        pixels = np.frombuffer(content, np.uint8, n_bytes, _HEADER.size)
        key = f"{name} {mtime_ns}"
        if key not in self._verified:  # a disk may have lost what was written last when its power went
            if zlib.crc32(pixels.data) != checksum:
                return None
            self._verified.add(key)
            with contextlib.suppress(OSError):
                os.utime(self.folder / name)
        return pixels.reshape(shape)

    def write(self, name: str, state: FileState, image: NDArray[np.uint8]) -> None:
        """Store an image `[h, w, c]` made of a file in a certain state; a full disk ends all storing.

        Args:
            name: Of `entry_name`, one that was admitted.
            state: Of the image file before it was read.
            image: `[h, w, c]`.
        """
        if not self._is_writing or not self.folder.is_dir():
            return
        pixels = np.ascontiguousarray(image)
        header = _HEADER.pack(_MAGIC, *image.shape, zlib.crc32(pixels.data), state.size, state.mtime_ns)
        try:
            with atomic_write(self.folder / name) as temporary, temporary.open("wb") as file:
                file.write(header)
                file.write(pixels.data)
        except OSError as error:
            self._is_writing = False
            logger.warning(
                "image cache: %s takes no more (%s); the other images are decoded every time",
                self.folder,
                error.strerror,
            )

    def _stored_bytes(self) -> int:
        return sum(size for _, size, _ in map(_aged, _own_files(self.folder)))


def open_cache(kind: CacheKind, limit_bytes: int, folder: str | Path | None = None) -> ImageCache | None:
    """Return the cache of a kind, or None for `"off"` and for a limit of 0.

    Raises:
        ValueError: The kind is unknown, or the folder cannot be used.
    """
    if kind not in CACHE_KINDS:
        raise ValueError(f"cache: expected one of {', '.join(CACHE_KINDS)}, got {kind!r}")
    if kind == "off" or limit_bytes < 1:
        return None
    return ImageCache(folder or default_folder(kind), limit_bytes, is_kept=kind == "disk")


def _own_files(folder: Path) -> list[Path]:
    """Return the entries of a folder and what killed writers left of some; nothing else is ever touched."""
    return [path for path in folder.iterdir() if _OWN_NAME.fullmatch(path.name)]


def _aged(path: Path) -> tuple[int, int, Path]:
    """Return the time of a file's last use in ns, its bytes and its path; zeros for one that just went."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0, path
    return status.st_mtime_ns, status.st_size, path


def _free_bytes(folder: Path, is_on_disk: bool) -> int:
    """Return what is free where the folder is, and not more than the machine has left if that is memory."""
    free = shutil.disk_usage(folder).free
    memory = Path("/proc/meminfo")
    if is_on_disk or not memory.is_file():
        return free
    fields = dict(line.split(":", 1) for line in memory.read_text(encoding="ascii").splitlines())
    return min(free, int(fields.get("MemAvailable", f"{free} kB").split()[0]) * 1024)


def _close(lock: FolderLock, folder: Path, is_kept: bool, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked loader process lets go of nothing
    with contextlib.suppress(OSError), lock.alone() as is_alone:  # a file of someone else keeps the folder
        if is_alone and not is_kept:
            for path in _own_files(folder):
                path.unlink(missing_ok=True)
            for name in LOCK_NAMES:
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
    lock.close()
