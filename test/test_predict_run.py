from collections.abc import Generator

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.predict_run import Batch, confident, make_batches
from keypoint_detection.predict_source import Item
from keypoint_detection.records import Keypoint, Prediction

SIZES = ((8, 8), (8, 12), None)
"""None: an image that cannot be read."""


def items(sizes: list[int], start: int = 0) -> Generator[Item, None, None]:
    for index in range(start, len(sizes)):
        hw = SIZES[sizes[index]]
        image = None if hw is None else np.full((*hw, 3), index, np.uint8)
        yield Item(index, f"{index}.png", image, problem=None if hw else "unreadable")


def plain(batches: list[Batch]) -> list[tuple[list[int], list[int]]]:
    """Return the places of all items, and of those that the network gets, by their grey level."""
    return [
        (
            [item.index for item in batch.items],
            [] if batch.network is None else batch.network["image"][:, 0, 0, 0].tolist(),
        )
        for batch in batches
    ]


def test_batches_are_of_one_size_and_in_order() -> None:
    sizes = [0, 0, 0, 1, 2, 1, 0, 2]
    assert plain(list(make_batches(items(sizes), 2, None))) == [
        ([0, 1], [0, 1]),
        ([2], [2]),
        ([3, 4, 5], [3, 5]),
        ([6, 7], [6]),
    ]


def test_letterboxed_images_are_all_of_one_size() -> None:
    (batch,) = make_batches(items([0, 1, 0]), 8, (16, 16))
    assert batch.network is not None
    assert list(batch.network["image"].shape) == [3, 3, 16, 16]
    assert batch.network["image_hw"].tolist() == [[8, 8], [8, 12], [8, 8]]
    assert all(item.image is None for item in batch.items)


def test_unreadable_images_alone_are_a_batch_without_images() -> None:
    assert plain(list(make_batches(items([2, 2]), 1, None))) == [([0, 1], [])]


@given(st.lists(st.integers(0, 2), max_size=20), st.integers(1, 4))
def test_starting_behind_any_batch_gives_the_batches_that_are_left(sizes: list[int], size: int) -> None:
    whole = plain(list(make_batches(items(sizes), size, None)))
    assert [index for places, _ in whole for index in places] == list(range(len(sizes)))
    assert all(len(images) <= size for _, images in whole)
    for number, (places, _) in enumerate(whole):
        rest = make_batches(items(sizes, places[-1] + 1), size, None)
        assert plain(list(rest)) == whole[number + 1 :]


def test_a_point_at_the_threshold_is_kept() -> None:
    points = (Keypoint(1, 2, 0.5), Keypoint(3, 4, 0.25), Keypoint(5, 6, 0.1))
    prediction = Prediction((points, ()), ("a", "b"), (8, 8), "x.png")
    assert confident(prediction, 0.25) == Prediction((points[:2], ()), ("a", "b"), (8, 8), "x.png")


def test_originals_go_along_where_they_are_asked_for() -> None:
    sizes = [0, 2, 1, 1, 0]
    (first, second, third) = make_batches(items(sizes), 4, None, keep_originals=True)
    shapes = [[image.shape for image in batch.originals] for batch in (first, second, third)]
    assert shapes == [[(8, 8, 3)], [(8, 12, 3)] * 2, [(8, 8, 3)]]
    assert [image[0, 0, 0] for image in second.originals] == [2, 3]
    letterboxed = make_batches(items(sizes), 8, (16, 16), keep_originals=True)
    assert [len(batch.originals) for batch in letterboxed] == [4]
    assert not any(batch.originals for batch in make_batches(items(sizes), 4, None))
