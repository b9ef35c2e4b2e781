import csv
import json
import math

from scored_folds import error_sheet

from keypoint_detection.fold_scores import FoldScores, FoldSummary, Resampling, summarise_folds
from keypoint_detection.fold_scores_table import fold_scores_content, fold_table, write_fold_csv

NAN = math.nan
SCORES = FoldScores(
    "group",
    12,
    Resampling(500, 0.9, "percentile", 7),
    {
        "map": FoldSummary(0.5, 0.125, 0.4, 0.6, "fold2", "fold1", {"fold1": 0.625, "fold2": 0.375}),
        "stem/map": FoldSummary(0.5, 0.125, 0.4, 0.6, "fold2", "fold1", {"fold1": 0.625, "fold2": 0.375}),
        "oks_ap": FoldSummary(0.75, NAN, NAN, NAN, "fold1", "fold1", {"fold1": 0.75, "fold2": NAN}),
        "nme": FoldSummary(NAN, NAN, NAN, NAN, None, None, {"fold1": NAN, "fold2": NAN}),
    },
)


def test_the_table_shows_every_number_and_what_was_drawn() -> None:
    lines = fold_table(SCORES).splitlines()
    rows = [line.split() for line in lines[:4]]
    assert rows[0] == ["metric", "mean", "sd", "interval", "lowest", "highest"]
    assert rows[1] == ["map", "0.5", "0.125", "0.4", "to", "0.6", "0.375", "(fold2)", "0.625", "(fold1)"]
    assert rows[2] == ["oks_ap", "0.75", "-", "-", "0.75", "(fold1)", "0.75", "(fold1)"]
    assert rows[3] == ["nme", "-", "-", "-", "-", "-"]
    notes = "\n".join(lines[4:])
    for part in (
        "90 % of the mean",
        "500 resamples",
        "12 groups of images, drawn within each fold",
        "from 20",
    ):
        assert part in notes
    assert notes.endswith("averaged over the others: oks_ap")
    assert all(len(line) <= 110 and line == line.rstrip() for line in lines)


def test_many_images_need_no_warning_and_whole_folds_are_named() -> None:
    many = FoldScores("image", 40, Resampling(), SCORES.metrics)
    assert "So few" not in fold_table(many)
    assert "40 images, drawn within each fold" in fold_table(many)
    whole = fold_table(FoldScores("fold", 3, Resampling(), SCORES.metrics))
    assert "the 3 folds themselves, as a fold holds one group" in whole
    assert "So few" in whole


def test_the_csv_has_every_digit_and_no_cell_for_what_is_undefined(tmp_path) -> None:
    scores = summarise_folds(
        {"fold1": error_sheet([1, 2], [0.1, 0.3]), "fold2": error_sheet([3, 4], [1 / 3, 0.7])}
    )
    write_fold_csv(scores, tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["metric"] for row in rows] == ["mean_error_px", "stem/mean_error_px"]
    found = scores.metrics["mean_error_px"]
    assert (float(rows[0]["mean"]), float(rows[0]["low"])) == (found.mean, found.low)
    assert float(rows[0]["fold2"]) == found.values["fold2"]
    assert (rows[0]["lowest_fold"], float(rows[0]["lowest"])) == ("fold1", found.values["fold1"])
    write_fold_csv(SCORES, tmp_path / "b.csv")
    last = list(csv.DictReader((tmp_path / "b.csv").read_text().splitlines()))[-1]
    assert last.pop("metric") == "nme"
    assert set(last.values()) == {""}


def test_the_content_is_strict_json() -> None:
    content = json.loads(json.dumps(fold_scores_content(SCORES), allow_nan=False))
    metrics = content.pop("metrics")
    assert content == {
        "unit": "group",
        "units": 12,
        "resamples": 500,
        "level": 0.9,
        "method": "percentile",
        "seed": 7,
    }
    assert metrics["stem/map"]["interval"] == [0.4, 0.6]
    assert metrics["oks_ap"] == {
        "mean": 0.75,
        "sd": None,
        "interval": None,
        "lowest_fold": "fold1",
        "highest_fold": "fold1",
        "folds": {"fold1": 0.75, "fold2": None},
    }
