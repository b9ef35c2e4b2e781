import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.data.splits import group_split, k_folds, random_split, split_parts


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


def test_groups_by_hand():
    """Six images: the group of 3 goes to the larger part; then 1.8 and 1.2 are lacking, and so on."""
    ids, groups = [1, 2, 3, 4, 5, 6], ["a", "a", "a", "b", "b", "c"]
    training, validation = group_split(ids, groups, 0.4, seed=0)
    # lacking 3.6 | 2.4: a (3) left, then 0.6 | 2.4: b (2) right, then 0.6 | 0.4: c left
    assert training == [1, 2, 3, 6]
    assert validation == [4, 5]


GROUPED = st.lists(st.tuples(st.integers(-99, 99), st.sampled_from("abcdefg")), min_size=2, max_size=40)


@settings(max_examples=100, deadline=None)
@given(GROUPED, st.floats(0.01, 0.99), st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_no_group_is_on_both_sides(pairs, ratio, seed, random_):
    group_of = dict(pairs)
    ids, groups = list(group_of), list(group_of.values())
    if len(set(groups)) < 2:
        with pytest.raises(ValueError, match="at least 2 groups of images"):
            group_split(ids, groups, ratio, seed)
        return
    training, validation = group_split(ids, groups, ratio, seed)
    assert training
    assert validation
    assert sorted(training + validation) == sorted(ids)
    assert not {group_of[i] for i in training} & {group_of[i] for i in validation}
    largest = max(groups.count(group) for group in groups)
    assert abs(len(validation) - ratio * len(ids)) <= largest
    shuffled = random_.sample(pairs := list(zip(ids, groups, strict=True)), len(pairs))
    assert group_split(*zip(*shuffled, strict=True), ratio, seed) == (training, validation)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(), min_size=2, max_size=40), st.integers(2, 8), st.integers(0, 2**32))
def test_folds_validate_every_image_once(ids, k, seed):
    if len(ids) < k:
        with pytest.raises(ValueError, match=f"expected at least {k} images"):
            k_folds(list(ids), k, seed)
        return
    folds = k_folds(list(ids), k, seed)
    assert len(folds) == k
    assert sorted(image for _, validation in folds for image in validation) == sorted(ids)
    assert all(sorted(training + validation) == sorted(ids) for training, validation in folds)
    sizes = [len(validation) for _, validation in folds]
    assert max(sizes) - min(sizes) <= 1
    assert folds == k_folds(sorted(ids, reverse=True), k, seed)


def test_folds_of_groups():
    ids = list(range(12))
    groups = [str(identity // 2) for identity in ids]
    folds = k_folds(ids, 3, seed=1, groups=groups)
    for training, validation in folds:
        assert len(validation) == 4
        assert not {groups[i] for i in training} & {groups[i] for i in validation}
    assert folds != k_folds(ids, 3, seed=2, groups=groups)
    with pytest.raises(ValueError, match="at least 7 groups of images for as many parts, got 6"):
        k_folds(ids, 7, 0, groups)


def test_three_parts():
    parts = split_parts(range(100), (0.7, 0.2, 0.1), seed=3)
    assert [len(part) for part in parts] == [70, 20, 10]
    assert sorted(image for part in parts for image in part) == list(range(100))


def test_the_smallest_share_gets_a_group():
    assert [len(part) for part in split_parts(range(10), (0.99, 0.01), 0, ["a"] * 5 + ["b"] * 5)] == [5, 5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: k_folds([1, 2], 1, 0), "at least 2 folds, got 1"),
        (lambda: group_split([1, 2], ["a"], 0.5, 0), "a group for each of 2 images, got 1"),
        (lambda: group_split([1, 1], ["a", "b"], 0.5, 0), "image 1: expected one group"),
        (lambda: group_split([1, 2], ["a", "b"], 1.5, 0), "shares between 0 and 1"),
        (lambda: split_parts([1, 2], (0.5, 0.4), 0), "add up to 1, got 0.5, 0.4"),
        (lambda: split_parts([1, 2], (math.nan, 0.4), 0), "add up to 1"),
    ],
)
def test_calls_that_cannot_be_met(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
