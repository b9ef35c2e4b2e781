"""The file of people gives every number back, and tells a wrong entry by its place."""

import json

import numpy as np
import pytest
from gaze_tables import assert_same, table_of, tables
from hypothesis import given

from keypoint_detection.gaze.people import read_table, write_table


@given(tables())
def test_every_table_comes_back(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("people") / "people.json"
    write_table(path, table)
    assert_same(read_table(path), table)


def test_numbers_that_are_hard_to_write(tmp_path):
    table = table_of([0])
    table.head_box[:] = [[-0.0, 0.1 + 0.2, 1 / 3 + 1, 5e-324 + 49]]
    write_table(tmp_path / "p.json", table)
    again = read_table(tmp_path / "p.json")
    assert_same(again, table)
    assert np.signbit(again.head_box[0, 0])


def test_the_file_is_plain_json_with_a_line_for_each_person(tmp_path):
    table = table_of([0, 0, 1], annotators=2, seed=1)
    table.in_frame[:] = [1, 0, -1]
    table.gaze_xy[:] = np.nan
    table.gaze_xy[0, 1] = (3.25, 4)
    table.eye_xy[:] = np.nan
    write_table(tmp_path / "p.json", table)
    content = json.loads((tmp_path / "p.json").read_text())
    assert content["annotators"] == 2
    assert [entry["gaze"] for entry in content["people"]] == [[None, [3.25, 4.0]], [], []]
    assert [entry["eye"] for entry in content["people"]] == [None] * 3
    lines = (tmp_path / "p.json").read_text().splitlines()
    assert [line[:9] for line in lines].count('{"person"') == 3
    assert_same(read_table(tmp_path / "p.json"), table)


def test_a_broken_table_is_not_written(tmp_path):
    table = table_of([0])
    table.head_box[0, 2] = np.nan
    with pytest.raises(ValueError, match=r"person 0.png#0: expected a head box"):
        write_table(tmp_path / "p.json", table)
    assert not list(tmp_path.iterdir())


def wrong(change):
    """Return a file's text after a change of its content."""
    content = {
        "annotators": 1,
        "images": [{"file_name": "a.png", "height": 10, "width": 20}],
        "people": [
            {
                "person": name,
                "image": 0,
                "group": "a",
                "head_box": [0, 0, 5, 5],
                "eye": None,
                "gaze": [[1, 2]],
                "in_frame": 1,
            }
            for name in ("first", "second")
        ],
    }
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["people"][1].pop("eye"), r"people\[1\].eye: expected a value, got none"),
        (
            lambda c: c["people"][1].update(image=1),
            r"people\[1\].image: expected less than 1 \(images\), got 1",
        ),
        (lambda c: c["people"][1].update(image=-1), r"people\[1\].image: expected greater .* 0, got -1"),
        (lambda c: c["people"][0].update(in_frame=3), r"people\[0\].in_frame: expected .*got 3"),
        (lambda c: c["people"][0].update(gaze=[[1, 2]] * 2), r"people\[0\].gaze: expected at most 1 \(annot"),
        (
            lambda c: c["people"][0].update(gaze=[[1, "2"]]),
            r"people\[0\].gaze\[0\]\[1\]: expected a valid num",
        ),
        (lambda c: c["people"][0].update(head_box=[1, 2, 3]), r"people\[0\].head_box\[3\]: expected a value"),
        (lambda c: c["people"][0].update(colour=1), r"people\[0\].colour: Extra inputs are not permitted"),
        (
            lambda c: c["people"][1].update(person="first"),
            "expected a name of a person once, got first twice",
        ),
        (lambda c: c["people"][1].update(head_box=[3, 0, 3, 5]), "person second: expected a head box of"),
        (lambda c: c["images"][0].update(height=2**70), r"images\[0\].height: expected .*less than"),
        (lambda c: c.update(annotators=-1), "annotators: expected .*greater than"),
    ],
)
def test_a_wrong_entry_is_told_by_its_place(tmp_path, change, message):
    path = tmp_path / "p.json"
    path.write_text(wrong(change))
    with pytest.raises(ValueError, match=rf"p\.json: {message}") as caught:
        read_table(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path):
    (tmp_path / "p.json").write_text('{"annotators": 1')
    with pytest.raises(ValueError, match=r"p.json: expected JSON; EOF"):
        read_table(tmp_path / "p.json")
    (tmp_path / "p.json").write_text("[NaN]")
    with pytest.raises(ValueError, match=r"p.json: "):
        read_table(tmp_path / "p.json")
    with pytest.raises(FileNotFoundError, match=r"nothing at .*none.json"):
        read_table(tmp_path / "none.json")
    for path in (tmp_path / "p.csv", tmp_path / "p"):
        with pytest.raises(ValueError, match=r"ends in .json, got"):
            read_table(path)
        with pytest.raises(ValueError, match=r"ends in .json, got"):
            write_table(path, table_of([0]))
