"""Reading, computing and writing at the same time: threads with short queues between them.

A queue that is full makes its producer wait, so memory does not grow with the length of a run. An error in
any thread is raised in the thread that asked for the work.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Thread
from typing import TypeVar

import cv2

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2
"""Batches that wait in a queue; besides them one is being made and one is in work."""
_LOOK_S = 0.1
"""How often a reader that waits looks whether anybody still wants its work."""


@dataclass(frozen=True)
class _End:
    """Say that nothing more comes, and why."""

    error: BaseException | None = None


@contextmanager
def read_ahead(items: Generator[T, None, None], ahead: int = AHEAD) -> Iterator[Iterator[T]]:
    """Run a generator in a thread of its own, at most `ahead` items and the one that it works on in front.

    Args:
        items: Closed in its thread when the block ends, so that it can let go of what it holds.
        ahead: Items that may wait, >= 1.

    Yields:
        An iterator over the items, in order; an error of the generator is raised there.
    """
    waiting: Queue[T | _End] = Queue(ahead)
    stopped = Event()

    def put(item: T | _End) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_LOOK_S)
                return
            except Full:
                continue

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
            items.close()
        except BaseException as caught:  # it belongs to whoever waits for the items
            error = caught
        put(_End(error))

    thread = Thread(target=read, name="reader", daemon=True)
    thread.start()
    try:
        yield _taken(waiting)
    finally:
        stopped.set()
        thread.join()


def _taken(waiting: "Queue[T | _End]") -> Iterator[T]:
    while True:
        item = waiting.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item


@contextmanager
def write_behind(write: Callable[[T], None], ahead: int = AHEAD) -> Iterator[Callable[[T], None]]:
    """Call `write` in a thread of its own, in order; leaving the block waits until everything is written.

    Args:
        write: Takes one item.
        ahead: Items that may wait, >= 1.

    Yields:
        A function that hands an item over; it, or the end of the block, raises an error of `write`, after
        which nothing more is written.
    """
    waiting: Queue[T | _End] = Queue(ahead)
    errors: list[BaseException] = []

    def work() -> None:
        while not isinstance(item := waiting.get(), _End):
            if errors:
                continue  # who waits to hand something over must not wait forever
            try:
                write(item)
            except BaseException as error:
                errors.append(error)

    def put(item: T) -> None:
        if errors:
            raise errors[0]
        waiting.put(item)

    thread = Thread(target=work, name="writer", daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(_End())
        thread.join()
    if errors:
        raise errors[0]


def map_in_order(function: Callable[[T], R], items: Iterable[T], n_threads: int) -> Generator[R, None, None]:
    """Yield `function(item)` in order, computed in threads, at most one waiting result per thread."""
    results: deque[Future[R]] = deque()
    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for item in items:
                results.append(pool.submit(function, item))
                if len(results) == n_threads:
                    yield results.popleft().result()
            while results:
                yield results.popleft().result()
        finally:
            for result in results:
                result.cancel()


@contextmanager
def opencv_in_one_thread() -> Iterator[None]:
    """Keep OpenCV from taking all cores for one image: they are for the network, or for other images."""
    n_threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(n_threads)
