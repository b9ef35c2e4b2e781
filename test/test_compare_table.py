import dataclasses
import json
import math

import pytest

from keypoint_detection.compare import Comparison
from keypoint_detection.compare_table import (
    comparison_table,
    comparison_tables,
    verdict,
    write_comparison,
    write_comparisons,
)
from keypoint_detection.metrics.paired_bootstrap import Difference

UP, DOWN, NONE = (0.1, 0.3), (-0.3, -0.1), (-0.1, 0.3)


@pytest.mark.parametrize(
    ("metric", "ends", "expected"),
    [
        ("map", UP, "better"),
        ("map", DOWN, "worse"),
        ("oks_ap", NONE, "no difference shown"),
        ("pck@0.1", (0.0, 0.3), "no difference shown"),
        ("pck_auc@0.2", UP, "better"),
        ("error of eye/ap@2px", UP, "better"),
        ("a/b/mean_error_px", UP, "worse"),
        ("image_rmse_px", DOWN, "better"),
        ("nme", UP, "worse"),
        ("missed", DOWN, "better"),
        ("map", (math.nan, math.nan), "no difference shown"),
    ],
)
def test_the_direction_of_a_metric_makes_the_verdict(metric, ends, expected):
    assert verdict(metric, Difference(0.5, 0.6, 0.1, *ends, 0.01, 0.1)) == expected


def test_an_undefined_number_has_no_verdict():
    assert verdict("map", Difference(*(math.nan,) * 7)) == "undefined"


COMPARISON = Comparison(
    names=("runs/a", "runs/b"),
    contract_hash="0123456789ab",
    n_images=12,
    n_groups=3,
    n_resamples=500,
    level=0.9,
    seed=4,
    differences={
        "map": Difference(0.5, 0.625, 0.125, 0.01, 0.25, 0.034, 0.15),
        "stem/map": Difference(0.5, 0.625, 0.125, 0.01, 0.25, 0.034, 0.15),
        "rmse_px": Difference(4.0, 5.5, 1.5, -0.5, 3.0, 0.21, 2.2),
        "missed": Difference(2.0, 2.0, 0.0, -0.0, 0.0, 1.0, 0.0),
        "nme": Difference(math.nan, 0.5, *(math.nan,) * 5),
    },
)


def test_the_table_shows_every_number_and_what_it_means():
    lines = comparison_table(COMPARISON).splitlines()
    assert lines[:2] == ["A: runs/a", "B: runs/b"]
    rows = [line.split() for line in lines[3:8]]
    assert rows[0] == ["metric", "A", "B", "B", "-", "A", "interval", "p", "resolvable", "B", "is"]
    assert rows[1] == ["map", "0.5", "0.625", "+0.125", "+0.01", "to", "+0.25", "0.034", "0.15", "better"]
    assert rows[2][3:] == ["+1.5", "-0.5", "to", "+3", "0.21", "2.2", "no", "difference", "shown"]
    assert rows[3] == ["missed", "2", "2", "0", "0", "to", "0", "1", "0", "no", "difference", "shown"]
    assert rows[4] == ["nme", "-", "0.5", "-", "-", "-", "-", "undefined"]
    notes = "\n".join(lines[8:])
    for part in (
        "12 images",
        "3 groups",
        "500 resamples",
        "90 %",
        "not corrected",
        "0123456789ab",
        "Lower is",
    ):
        assert part in notes
    assert all(len(line) <= 110 and line == line.rstrip() for line in lines)


def test_channels_are_shown_when_asked_for():
    assert "stem/map" not in comparison_table(COMPARISON)
    assert "\nstem/map " in comparison_table(COMPARISON, per_channel=True)


def test_the_file_is_strict_json_with_null_for_what_is_undefined(tmp_path):
    write_comparison(COMPARISON, tmp_path / "new" / "comparison.json")
    content = json.loads((tmp_path / "new" / "comparison.json").read_text(), parse_constant=pytest.fail)
    differences = content.pop("differences")
    assert content == {
        "a": "runs/a",
        "b": "runs/b",
        "contract_hash": "0123456789ab",
        "images": 12,
        "groups": 3,
        "resamples": 500,
        "level": 0.9,
        "seed": 4,
    }
    assert differences["rmse_px"] == {
        "value_a": 4.0,
        "value_b": 5.5,
        "difference": 1.5,
        "low": -0.5,
        "high": 3.0,
        "p_value": 0.21,
        "resolvable": 2.2,
        "verdict": "no difference shown",
    }
    assert differences["nme"]["value_a"] is None
    assert differences["nme"]["verdict"] == "undefined"
    assert differences["stem/map"]["verdict"] == "better"


def test_several_runs_have_a_table_each_and_the_notes_once():
    other = dataclasses.replace(COMPARISON, names=("runs/a", "runs/c"))
    text = comparison_tables([COMPARISON, other])
    assert [line for line in text.splitlines() if line[:3] in ("A: ", "B: ")] == [
        "A: runs/a",
        "B: runs/b",
        "A: runs/a",
        "B: runs/c",
    ]
    assert text.count("500 resamples") == 1
    assert text.splitlines()[-1].startswith("2 runs against the first")
    assert comparison_tables([COMPARISON]) == comparison_table(COMPARISON)


@pytest.mark.parametrize(
    ("unit", "groups", "drawn", "few"),
    [
        ("fold", None, "of the folds,", True),
        ("image", None, "of the images within each fold,", False),
        ("group", 25, "of the 25 groups within each fold,", False),
    ],
)
def test_the_notes_say_what_of_a_cross_validation_was_drawn(unit, groups, drawn, few):
    folds = dataclasses.replace(COMPARISON, n_images=40, n_groups=groups, n_folds=5, unit=unit)
    text = comparison_table(folds)
    assert "40 images; means over 5 folds" in text
    assert drawn in text
    assert ("too small" in text) == few
    assert all(len(line) <= 110 for line in text.splitlines())


def test_one_comparison_is_written_as_before_and_several_as_a_list(tmp_path):
    write_comparison(COMPARISON, tmp_path / "a.json")
    write_comparisons([COMPARISON], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    write_comparisons(
        [COMPARISON, dataclasses.replace(COMPARISON, n_folds=2, unit="fold")], tmp_path / "c.json"
    )
    one, other = json.loads((tmp_path / "c.json").read_text())["comparisons"]
    assert one == json.loads((tmp_path / "a.json").read_text())
    assert (other["folds"], other["unit"]) == (2, "fold")
