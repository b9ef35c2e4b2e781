"""Tables of people: columns that fit, values that can be, parts and unions."""

from dataclasses import replace

import numpy as np
import pytest
from gaze_tables import assert_same, rows_by_person, table_of, tables
from hypothesis import given
from hypothesis import strategies as st

from keypoint_detection.gaze.people import GazeTable, check, concat


def two_people() -> GazeTable:
    return GazeTable(
        image_names=("a.png", "b.png"),
        image_hw=np.array([[100, 200], [50, 60]]),
        image=np.array([1, 0]),
        person=("b", "a"),
        head_box=np.array([[1.0, 2, 11, 12], [150, 80, 220, 120]]),
        eye_xy=np.array([[5.0, 6], [np.nan, np.nan]]),
        gaze_xy=np.array([[[59.5, 49.5], [-0.5, -0.5]], [[np.nan, np.nan]] * 2]),
        in_frame=np.array([1, 0], dtype=np.int8),
        group=("b", "a"),
    )


def changed(column: str, index: tuple, value: object) -> GazeTable:
    table = two_people()
    array = getattr(table, column).copy()
    array[index] = value
    return replace(table, **{column: array})


def test_a_table_in_order_passes():
    table = two_people()
    check(table)
    assert len(table) == 2
    assert table.n_annotators.tolist() == [2, 0]
    assert table.person_hw.tolist() == [[50, 60], [100, 200]]


@pytest.mark.parametrize(
    ("column", "index", "value", "message"),
    [
        ("in_frame", (0,), 2, "person b: expected in_frame of 1, 0 or -1, got 2"),
        ("head_box", (0, 2), 1.0, r"person b: expected a head box of finite x0 < x1 and y0 < y1, got \[1.0,"),
        ("head_box", (1, 3), np.nan, "person a: expected a head box of finite"),
        (
            "head_box",
            (1, slice(None)),
            (199.5, 0, 210, 10),
            r"person a: .*not outside the image.* on 100x200",
        ),
        ("eye_xy", (0, 1), np.nan, "person b: expected finite x and y of the eye, or NaN for both"),
        ("eye_xy", (0, 1), np.inf, "person b: expected finite x and y of the eye"),
        ("gaze_xy", (0, 0, 1), np.nan, "person b: expected gaze points of finite x and y, or NaN for both"),
        ("gaze_xy", (1, 0), 5.0, "person a: expected no gaze point unless in_frame is 1"),
        ("gaze_xy", (0,), np.nan, "person b: expected a gaze point where in_frame is 1, got none"),
        ("gaze_xy", (0, 0, 0), 59.6, "person b: expected gaze points on the image"),
        ("gaze_xy", (0, 1, 1), -0.6, "person b: expected gaze points on the image"),
        ("image_hw", (0, 0), 0, "image a.png: expected a height and width of 1 or more, got 0x200"),
    ],
)
def test_a_value_that_cannot_be_is_told_in_one_line(column, index, value, message):
    with pytest.raises(ValueError, match=rf"^x.json: {message}") as caught:
        check(changed(column, index, value), "x.json")
    assert "\n" not in str(caught.value)


def test_names_occur_once():
    with pytest.raises(ValueError, match=r"^expected a name of a person once, got a twice"):
        check(replace(two_people(), person=("a", "a")))
    with pytest.raises(ValueError, match=r"^expected a name of an image once, got b twice"):
        check(replace(two_people(), image_names=("b", "b")))


def test_an_image_of_two_groups_would_straddle_a_split():
    table = replace(two_people(), image=np.array([0, 0]), head_box=np.array([[1.0, 2, 11, 12]] * 2))
    with pytest.raises(ValueError, match=r"image a.png: expected one group, got 'b' and 'a'"):
        check(table)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("head_box", np.zeros((2, 3)), r"expected head_box of shape \(2, 4\) for 2 images and 2 people"),
        ("gaze_xy", np.zeros((2, 2)), r"expected gaze_xy of shape \(2, 1, 2\)"),
        ("person", ("a",), r"expected person of shape \(2,\)"),
        ("in_frame", np.zeros(2), "expected in_frame as int8, got in_frame float64"),
        ("image", np.array([0, 2]), "expected indices of images from 0 to 1, got 0 to 2"),
    ],
)
def test_columns_that_do_not_fit(column, value, message):
    with pytest.raises(ValueError, match=message):
        replace(two_people(), **{column: value})


def test_select_keeps_the_images_of_the_people_alone():
    part = two_people().select([0])
    assert part.image_names == ("b.png",)
    assert part.image_hw.tolist() == [[50, 60]]
    assert part.image.tolist() == [0]
    assert part.head_box.tolist() == [[1, 2, 11, 12]]
    assert_same(part, two_people().select(np.array([True, False])))
    nobody = two_people().select([])
    assert (len(nobody), nobody.image_names, nobody.gaze_xy.shape) == (0, (), (0, 2, 2))


@given(tables(), st.randoms())
def test_select_says_the_same_of_everyone_in_the_order_asked(table, random):
    rows = random.sample(range(len(table)), random.randint(0, len(table)))
    part = table.select(rows)
    check(part)
    whole = rows_by_person(table)
    assert list(part.person) == [table.person[row] for row in rows]
    assert rows_by_person(part) == {name: whole[name] for name in part.person}


@given(tables(), st.randoms())
def test_parts_put_together_are_the_whole(table, random):
    rows = list(range(len(table)))
    random.shuffle(rows)
    cut = random.randint(0, len(rows))
    joined = concat([table.select(rows[:cut]), table.select(rows[cut:])])
    assert rows_by_person(joined) == rows_by_person(table)


def test_concat_widens_to_the_most_annotators():
    narrow = replace(table_of([0], seed=3), person=("only",), image_names=("new.png",))
    joined = concat([table_of([0, 1], annotators=3), narrow])
    assert joined.gaze_xy.shape == (3, 3, 2)
    assert np.isnan(joined.gaze_xy[2, 1:]).all()
    assert joined.image.tolist() == [0, 1, 2]


def test_concat_of_what_contradicts_itself():
    table = two_people()
    with pytest.raises(ValueError, match=r"expected a name of a person once, got b twice"):
        concat([table, table])
    other = replace(table, image_hw=table.image_hw + 1, person=("c", "d"))
    with pytest.raises(
        ValueError, match=r"image a.png: expected one size, got \(100, 200\) and \(101, 201\)"
    ):
        concat([table, other])
    with pytest.raises(ValueError, match=r"at least one table"):
        concat([])
