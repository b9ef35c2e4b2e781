import csv
import math
from pathlib import Path

import numpy as np

from keypoint_detection.fold_scores import Resampling
from keypoint_detection.metrics.binary_classification import SCORES
from keypoint_detection.metrics.bootstrap import Interval
from keypoint_detection.metrics.paired_bootstrap import Difference
from keypoint_detection.visibility.compare import GroupComparison, GroupScores
from keypoint_detection.visibility.compare_difference import GroupDifference
from keypoint_detection.visibility.compare_table import (
    comparison_csv,
    comparison_markdown,
    comparison_words,
    verdict,
    write_comparison,
)

VALUES = {"a|b": 0.9, "near": 0.88, "far": 0.6, "odd": 0.5}
NAN = math.nan
FOUND = {
    "near": Difference(0.9, 0.88, -0.02, -0.05, 0.01, 0.3, 0.04),
    "far": Difference(0.9, 0.6, -0.3, -0.4, -0.2, 0.001, 0.15),
    "odd": Difference(0.9, 0.5, -0.4, NAN, NAN, NAN, NAN),
}


def made_up(n_folds: int = 2) -> GroupComparison:
    """Return a comparison of four groups in which all numbers but the accuracy are undefined."""
    folds = [f"f{k}" for k in range(n_folds)]
    nothing = Interval(NAN, NAN, NAN)

    def row(group: str, metric: str) -> GroupScores:
        if metric != "accuracy":
            return GroupScores(group, metric, nothing, dict.fromkeys(folds, nothing))
        value = VALUES[group]
        known = {fold: Interval(value + k / 100, 0.25, 1.0) for k, fold in enumerate(folds)}
        return GroupScores(group, metric, Interval(value, value - 0.1, value + 0.05), known)

    return GroupComparison(
        groups=tuple(VALUES),
        folds=tuple(folds),
        scores=tuple(row(group, metric) for metric in SCORES for group in VALUES),
        differences=tuple(GroupDifference(group, "accuracy", "a|b", one) for group, one in FOUND.items()),
        confusions=dict.fromkeys(VALUES, np.zeros((2, 2), np.int64)),
        n_points=1234,
        n_images=20,
        unit="fold",
        n_units=n_folds,
        resampling=Resampling(),
    )


def test_words_say_what_differs() -> None:
    assert comparison_words(made_up()) == [
        "accuracy: a|b is highest (0.9); beyond the interval differ: far (-0.3, -0.4 to -0.2); not shown to"
        " differ: near (-0.02, -0.05 to +0.01); not comparable: odd."
    ]


def test_verdicts() -> None:
    assert [verdict(found) for found in made_up().differences] == [
        "no difference shown",
        "differs",
        "undefined",
    ]


def test_csv_has_a_row_per_metric_group_and_fold() -> None:
    rows = list(csv.DictReader(comparison_csv(made_up()).splitlines()))
    assert len(rows) == len(SCORES) * 4 * 3
    known = [row for row in rows if row["metric"] == "accuracy" and row["group"] == "far"]
    assert [(row["fold"], float(row["value"])) for row in known] == [
        ("mean over folds", 0.6),
        ("f0", 0.6),
        ("f1", 0.61),
    ]
    assert (known[0]["best"], float(known[0]["minus_best_low"]), known[0]["verdict"]) == (
        "a|b",
        -0.4,
        "differs",
    )
    assert known[1]["best"] == known[1]["verdict"] == ""
    best = next(row for row in rows if row["metric"] == "accuracy" and row["group"] == "a|b")
    assert (best["verdict"], best["minus_best"]) == ("best", "")
    undefined = next(row for row in rows if row["metric"] == "auroc")
    assert (undefined["value"], undefined["verdict"]) == ("", "")


def test_markdown_shows_means_words_and_folds() -> None:
    text = comparison_markdown(made_up())
    assert "1234 points of 20 images, the same for every group; means over 2 folds." in text
    assert "95 % from 1000 resamples of the 2 folds themselves" in text
    assert "So few make intervals too narrow; trust them from 20 on." in text
    assert "- accuracy: a|b is highest (0.9)" in text
    assert "| accuracy | far | a\\|b | -0.3 | -0.4 to -0.2 | 0.001 | 0.15 | differs |" in text
    assert "| far | 0.6 (0.25 to 1) | 0.61 (0.25 to 1) |" in text
    assert "nan" not in text


def test_every_row_of_a_table_has_as_many_cells() -> None:
    tables = [block for block in comparison_markdown(made_up()).split("\n\n") if block.startswith("|")]
    assert len(tables) == 2 + len(SCORES)
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_one_fold_has_no_table_of_folds() -> None:
    text = comparison_markdown(made_up(1))
    assert "of each fold" not in text
    assert "; one fold." in text


def test_files(tmp_path: Path) -> None:
    write_comparison(made_up(), tmp_path / "new")
    assert (tmp_path / "new" / "comparison.csv").read_text() == comparison_csv(made_up())
    assert (tmp_path / "new" / "comparison.md").read_text() == comparison_markdown(made_up())
    assert len(list((tmp_path / "new").iterdir())) == 2
