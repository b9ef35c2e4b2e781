import threading
import time
from collections.abc import Generator

import cv2
import pytest

from keypoint_detection.predict_pipeline import map_in_order, opencv_in_one_thread, read_ahead, write_behind


def test_a_fast_reader_holds_no_more_than_the_queue_and_one_in_hand() -> None:
    made: list[int] = []
    used, most = 0, 0

    def batches() -> Generator[int, None, None]:
        for index in range(30):
            made.append(index)
            yield index

    with read_ahead(batches(), ahead=2) as ready:
        for index in ready:
            time.sleep(0.003)
            most = max(most, len(made) - used)
            used += 1
            assert index == used - 1
    assert used == 30
    assert most == 4  # one in work, two waiting, one that the reader holds


def test_an_error_of_the_reader_comes_out_behind_its_items() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        yield 2
        raise ValueError("frame 2 is damaged")

    seen: list[int] = []
    with pytest.raises(ValueError, match="frame 2"), read_ahead(items()) as ready:
        seen.extend(ready)
    assert seen == [1, 2]


def test_a_reader_that_is_left_early_closes_what_it_holds_in_its_thread() -> None:
    closed: list[str] = []

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            closed.append(threading.current_thread().name)

    def fail() -> None:
        with read_ahead(items()) as ready:
            next(ready)
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"):
        fail()
    assert closed == ["reader"]
    assert not [thread for thread in threading.enumerate() if thread.name == "reader"]


def test_everything_is_written_in_order_before_the_block_ends() -> None:
    written: list[int] = []

    def write(item: int) -> None:
        time.sleep(0.002)
        written.append(item)

    with write_behind(write, ahead=2) as put:
        for item in range(12):
            put(item)
            assert item + 1 - len(written) <= 4
    assert written == list(range(12))


def test_what_was_handed_over_is_written_after_an_interrupt() -> None:
    written: list[int] = []

    def interrupted() -> None:
        with write_behind(written.append) as put:
            put(1)
            put(2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [1, 2]


@pytest.mark.parametrize("n_items", [1, 50])
def test_an_error_of_the_writer_ends_the_work(n_items: int) -> None:
    written: list[int] = []

    def write(item: int) -> None:
        if item == 0:
            raise OSError("no space left")
        written.append(item)

    def work() -> None:
        with write_behind(write) as put:
            for item in range(n_items):
                put(item)
                time.sleep(0.001)

    with pytest.raises(OSError, match="no space"):
        work()
    assert written == []


def test_threads_keep_the_order_and_a_bounded_number_of_results() -> None:
    started: list[int] = []

    def square(value: int) -> int:
        started.append(value)
        time.sleep(0.004 if value % 3 == 0 else 0.0)
        return value * value

    results = []
    for result in map_in_order(square, range(20), n_threads=3):
        results.append(result)
        assert len(started) - len(results) <= 3
    assert results == [value * value for value in range(20)]


def test_an_error_in_a_thread_is_raised() -> None:
    def fail(value: int) -> int:
        if value == 2:
            raise ValueError("no image")
        return value

    results = map_in_order(fail, range(9), n_threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="no image"):
        next(results)


def test_opencv_gets_its_threads_back() -> None:
    before = cv2.getNumThreads()
    cv2.setNumThreads(3)
    try:
        with opencv_in_one_thread():
            assert cv2.getNumThreads() == 1
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
