"""Loader processes end with the process that they load for."""

import atexit
import os
import weakref
from typing import Any

_LOADERS: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
"""Loaders, and the process that each belongs to: a copy in a forked process ends nothing."""


def end_workers_at_exit(loader: Any) -> None:
    """End the processes of a loader that still live when Python ends.

    They ignore the signal by which Python would end them, as a queue sends it to every process of a job, and
    Python would wait for them forever.
    """
    _LOADERS[loader] = os.getpid()


def _end_workers() -> None:
    for loader, owner in list(_LOADERS.items()):
        workers = getattr(getattr(loader, "_iterator", None), "_workers", ())
        for worker in workers if owner == os.getpid() else ():
            if worker.is_alive():
                worker.kill()


atexit.register(_end_workers)  # runs before what multiprocessing has registered, which was imported earlier
