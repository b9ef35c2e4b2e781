import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.splits import random_split


def test_the_split_is_the_same_everywhere():
    """The numbers follow from Python's promised random(); another machine or version must give them too."""
    draws = random.Random(2023)
    order = sorted(range(1, 11), key=[None, *(draws.random() for _ in range(10))].__getitem__)
    training, validation = random_split(range(1, 11), 0.3, seed=2023)
    assert validation == sorted(order[:3])
    assert validation == [7, 8, 9]
    assert training == [1, 2, 3, 4, 5, 6, 10]


def test_input_order_does_not_matter_and_the_seed_does():
    ids = list(range(100))
    shuffled = random.Random(1).sample(ids, 100)
    assert random_split(ids, 0.25, 0) == random_split(shuffled, 0.25, 0)
    assert random_split(ids, 0.25, 0) != random_split(ids, 0.25, 1)


def test_the_global_seed_is_neither_used_nor_moved():
    random.seed(0)
    state = random.getstate()
    first = random_split(range(20), 0.5, 3)
    assert random.getstate() == state
    random.seed(1)
    assert random_split(range(20), 0.5, 3) == first


@settings(max_examples=60, deadline=None)
@given(
    st.sets(st.integers(-(10**12), 10**12), min_size=2, max_size=50),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
    st.integers(0, 2**32),
)
def test_both_parts_have_images_and_share_none(ids, ratio, seed):
    training, validation = random_split(ids, ratio, seed)
    assert training
    assert validation
    assert sorted(training + validation) == sorted(ids)
    assert abs(len(validation) - ratio * len(ids)) <= 1


def test_every_image_can_be_drawn():
    drawn = {image for seed in range(60) for image in random_split(range(8), 0.25, seed)[1]}
    assert drawn == set(range(8))


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5, math.nan])
def test_a_ratio_outside_its_range(ratio):
    with pytest.raises(ValueError, match="ratio between 0 and 1"):
        random_split(range(10), ratio, 0)


@pytest.mark.parametrize("ids", [[], [4], [4, 4]])
def test_too_few_images(ids):
    with pytest.raises(ValueError, match="--json_validation_dataset_path") as caught:
        random_split(ids, 0.5, 0)
    assert "\n" not in str(caught.value)
