"""Parts of people: groups stay whole, choices depend on names and seed alone, outliers go."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from gaze_tables import assert_same, rows_by_person, table_of, tables
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.gaze.people import (
    GazeTable,
    check,
    concat,
    drop_outliers,
    sample_frames,
    split,
    subsample,
)

SEEDS = st.integers(0, 1000)
SHARES = st.floats(0.01, 1)


@given(tables(min_people=1), SHARES, SEEDS)
def test_subsample_keeps_people_whole_and_in_order(table, share, seed):
    part = subsample(table, share=share, seed=seed)
    whole = rows_by_person(table)
    assert rows_by_person(part) == {name: whole[name] for name in part.person}  # with all annotators
    order = [table.person.index(name) for name in part.person]
    assert order == sorted(order)
    assert len(part) == max(int(share * len(table) + 0.5), 1)


@given(tables(min_people=1), SHARES, SEEDS)
def test_subsample_of_groups_never_breaks_one(table, share, seed):
    part = subsample(table, share=share, seed=seed, whole_groups=True)
    whole, kept = Counter(table.group), Counter(part.group)
    assert all(kept[group] == whole[group] for group in kept)
    assert len(kept) == max(int(share * len(whole) + 0.5), 1)


@given(tables(min_people=1), SEEDS, st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_rows(table, seed, random):
    rows = list(range(len(table)))
    random.shuffle(rows)
    one = subsample(table, count=3, seed=seed)
    other = subsample(table.select(rows), count=3, seed=seed)
    assert set(one.person) == set(other.person)
    assert len(one) == min(3, len(table))


def test_seeds_choose_differently_and_every_person_can_be_chosen():
    table = table_of(list(range(40)))
    parts = [set(subsample(table, share=0.2, seed=seed).person) for seed in range(40)]
    assert {len(part) for part in parts} == {8}
    assert len({frozenset(part) for part in parts}) == 40
    assert set().union(*parts) == set(table.person)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "a share or a count"),
        ({"share": 0.5, "count": 2}, "a share or a count"),
        ({"share": 0.0}, "share above 0 and up to 1, got 0.0"),
        ({"share": 1.5}, "share above 0"),
        ({"count": 0}, "count of 1 or more, got 0"),
    ],
)
def test_subsample_asks_for_one_size(arguments, message):
    with pytest.raises(ValueError, match=message):
        subsample(table_of([0]), seed=0, **arguments)


@given(tables(min_groups=2), st.floats(0.05, 0.95), SEEDS)
def test_no_clip_is_on_both_sides_of_a_split(table, ratio, seed):
    training, validation = split(table, ratio, seed)
    assert len(training) > 0
    assert len(validation) > 0
    assert not set(training.group) & set(validation.group)
    assert not set(training.image_names) & set(validation.image_names)
    assert rows_by_person(concat([training, validation])) == rows_by_person(table)
    for one, other in zip((training, validation), split(table, ratio, seed), strict=True):
        assert_same(one, other)


def test_a_split_meets_its_ratio_where_groups_allow():
    training, validation = split(table_of(list(range(100))), 0.2, 3)
    assert (len(training), len(validation)) == (80, 20)


def test_a_split_needs_two_groups():
    with pytest.raises(ValueError, match=r"at least 2 clips or images to split into two parts, got 1"):
        split(table_of([0, 0, 0]), 0.5, 0)
    with pytest.raises(ValueError, match=r"ratio between 0 and 1"):
        split(table_of([0, 1]), 1.0, 0)


NAMES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=40)


@given(NAMES, SHARES, SEEDS)
def test_frames_are_chosen_whole_and_from_every_clip(rows, share, seed):
    groups = [group for group, _ in rows]
    images = [f"{group}/{frame}" for group, frame in rows]
    kept = sample_frames(images, groups, share, seed)
    chosen = {image for image, is_kept in zip(images, kept, strict=True) if is_kept}
    assert kept.tolist() == [image in chosen for image in images]  # the people of a frame stay together
    for group in set(groups):
        frames = {image for image in images if image.startswith(group)}
        assert len(frames & chosen) == max(int(share * len(frames) + 0.5), 1)


def test_the_frames_of_a_clip_do_not_depend_on_other_clips():
    images = [f"a/{frame}" for frame in range(50)]
    alone = sample_frames(images, ["a"] * 50, 0.2, 42)
    both = sample_frames(["b/0", *images], ["b", *["a"] * 50], 0.2, 42)
    assert alone.sum() == 10
    assert both[1:].tolist() == alone.tolist()
    assert sample_frames(images, ["a"] * 50, 0.2, 43).tolist() != alone.tolist()


def looked_at(*points: tuple[float, float] | None, image_hw: tuple[int, int] = (100, 200)) -> GazeTable:
    table = table_of([0], annotators=len(points))
    gaze = np.array([[(np.nan, np.nan) if xy is None else xy for xy in points]], dtype=np.float64)
    return replace(
        table, gaze_xy=gaze, in_frame=np.array([1], np.int8), image_hw=np.array([image_hw], dtype=np.int64)
    )


def test_the_annotator_who_is_far_from_the_others_goes():
    # the mean of x is 30: 20, 20, 60, 20 of 200 pixels are 0.1, 0.1, 0.3, 0.1, and the 90th percentile 0.24
    table = looked_at((10, 5), (10, 5), (90, 5), (10, 5))
    left = drop_outliers(table, 90)
    assert left.gaze_xy[0, :3].tolist() == [[10, 5]] * 3
    assert np.isnan(left.gaze_xy[0, 3]).all()
    assert left.n_annotators.tolist() == [3]
    check(left)


def test_distances_are_shares_of_width_and_height():
    # 20 of 200 pixels to the side are as far as 10 of 100 down: nobody is farther than the others
    square = looked_at((80, 50), (120, 50), (100, 40), (100, 60))
    assert drop_outliers(square, 50).n_annotators.tolist() == [4]
    wide = looked_at((80, 50), (120, 50), (100, 40), (100, 60), image_hw=(100, 100))
    assert drop_outliers(wide, 50).gaze_xy[0, :2].tolist() == [[100, 40], [100, 60]]


def test_few_annotators_and_gaps_stay():
    assert drop_outliers(looked_at((0, 0), (90, 90)), 0).n_annotators.tolist() == [2]
    left = drop_outliers(looked_at(None, (10, 5), (10, 5), None, (90, 5)), 50)
    assert left.gaze_xy[0, :2].tolist() == [[10, 5]] * 2
    assert left.n_annotators.tolist() == [2]
    with pytest.raises(ValueError, match=r"percentile of distances from 0 to 100, got 101"):
        drop_outliers(looked_at((0, 0)), 101)


@given(tables(min_people=1), st.floats(0, 100))
def test_outliers_by_a_loop(table, percentile):
    left = drop_outliers(table, percentile)
    check(left)
    for row in range(len(table)):
        points = [xy for xy in table.gaze_xy[row] if np.isfinite(xy).all()]
        if len(points) >= 3:
            hw = table.image_hw[table.image[row]]
            centre = sum(points) / len(points)
            far = [np.hypot(*((xy - centre) / hw[::-1])) for xy in points]
            limit = np.percentile(far, percentile) + 1e-9
            points = [xy for xy, distance in zip(points, far, strict=True) if distance <= limit]
        got = left.gaze_xy[row][: len(points)]
        assert got.tolist() == [xy.tolist() for xy in points]
        assert left.n_annotators[row] == len(points)


def test_all_of_them_is_no_change():
    table = table_of([0, 0, 1, 2], annotators=4)
    assert_same(drop_outliers(table, 100), table)
    assert_same(subsample(table, share=1, seed=5), table)
