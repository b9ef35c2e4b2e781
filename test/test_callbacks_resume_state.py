import copy
import io
import random
from typing import Any

import numpy as np
import pytest
import torch

from keypoint_detection.callbacks_resume_state import (
    Boundary,
    of_every_process,
    random_state,
    set_random_state,
    settle_loops,
)


def drawn() -> tuple[float, ...]:
    return random.random(), random.gauss(0, 1), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002


def test_all_generators_go_on_from_a_file_that_holds_no_code() -> None:
    random.gauss(0, 1)  # Python keeps every second one
    np.random.randn()  # noqa: NPY002 - and NumPy too
    state = random_state()
    expected = drawn()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert drawn() == expected


def test_one_process_is_a_list_of_one() -> None:
    assert of_every_process("a") == ["a"]


def progress(ready: int, started: int, processed: int, completed: int) -> dict[str, int]:
    return {"ready": ready, "started": started, "processed": processed, "completed": completed}


def loops(epoch: dict[str, int], batches: dict[str, int], validation: dict[str, int]) -> dict[str, Any]:
    def both(part: dict[str, int]) -> dict[str, Any]:
        return {"total": dict(part), "current": dict(part)}

    return {
        "epoch_progress": both(epoch),
        "epoch_loop.batch_progress": {**both(batches), "is_last_batch": True},
        "epoch_loop.val_loop.batch_progress": {**both(validation), "is_last_batch": False},
    }


@pytest.mark.parametrize(
    ("boundary", "epoch", "batches"),
    [
        ("epoch", progress(3, 3, 3, 3), progress(0, 0, 0, 0)),
        ("batch", progress(4, 3, 3, 3), progress(6, 6, 6, 6)),
    ],
)
def test_what_has_only_begun_is_taken_back(
    boundary: Boundary, epoch: dict[str, int], batches: dict[str, int]
) -> None:
    state = loops(progress(4, 3, 3, 3), progress(7, 6, 6, 6), progress(0, 0, 0, 0))
    settle_loops(state, boundary)
    assert state["epoch_progress"]["current"] == epoch
    assert state["epoch_loop.batch_progress"]["current"] == batches
    assert state["epoch_loop.batch_progress"]["total"] == progress(6, 6, 6, 6)
    assert state["epoch_loop.batch_progress"]["is_last_batch"] is False


def test_a_validation_is_repeated_as_a_whole() -> None:
    state = loops(progress(4, 4, 3, 3), progress(6, 6, 6, 6), progress(2, 2, 2, 1))
    before = copy.deepcopy(state)
    settle_loops(state, "validation")
    assert state["epoch_loop.val_loop.batch_progress"]["total"] == progress(1, 1, 0, 0)
    assert state["epoch_progress"] == before["epoch_progress"]
    assert state["epoch_loop.batch_progress"] == before["epoch_loop.batch_progress"]
