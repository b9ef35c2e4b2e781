import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.metrics.bootstrap import Interval
from keypoint_detection.visibility.load_classifier import load_classifier
from keypoint_detection.visibility.occlusion_comparison import ComparisonOptions, compare_occlusion
from keypoint_detection.visibility.occlusion_table import HEADINGS, Row, row_content, table_text

TINY = ComparisonOptions(
    images=6,
    unseen=4,
    epochs=1,
    steps=3,
    side_px=64,
    patch_px=8,
    size_hidden=4,
    n_channels=4,
    n_resamples=20,
)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Row]]:
    output = tmp_path_factory.mktemp("compared")
    return output, compare_occlusion(output, TINY)


def rank_share(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of pairs in the right order, counted pair by pair."""
    seen, hidden = scores[labels == 1][:, None], scores[labels == 0]
    return float((seen > hidden).mean() + 0.5 * (seen == hidden).mean())


def test_the_table_has_a_line_per_way_and_place(compared: tuple[Path, list[Row]]) -> None:
    output, rows = compared
    lines = (output / "comparison.md").read_text().splitlines()
    assert lines[0] == f"| {' | '.join(HEADINGS)} |"
    assert [line.count("|") for line in lines] == [len(HEADINGS) + 1] * 6
    assert [(row.way, row.scored_at) for row in rows] == [
        ("patches", "labelled keypoints"),
        ("signed heatmaps", "labelled keypoints"),
        ("signed heatmaps", "its own detections"),
        ("plain heatmaps + patches", "its own detections"),
    ]
    assert [row.way in line for row, line in zip(rows, lines[2:], strict=True)] == [True] * 4
    assert [np.isnan(row.ap) for row in rows] == [True, True, False, False]


def test_both_ways_are_scored_at_every_label_of_the_unseen_images(compared: tuple[Path, list[Row]]) -> None:
    output, rows = compared
    with (output / "points-0.csv").open() as file:
        table = list(csv.DictReader(file))
    coco = read_coco(output / "unseen" / "annotations.json")
    flags = np.concatenate([np.reshape(one.keypoints, (-1, 3))[:, 2] for one in coco.annotations])
    labels = np.array([int(entry["label"]) for entry in table])
    assert len(table) == (flags > 0).sum() == rows[0].n_points == rows[1].n_points
    assert labels.sum() == (flags == 2).sum()
    for row in rows[:2]:
        logits = np.array([float(entry[f"logit of {row.way}"]) for entry in table])
        assert row.auroc.value == pytest.approx(rank_share(logits, labels))
        recalls = (logits[labels == 1] > 0).mean(), (logits[labels == 0] <= 0).mean()
        assert row.balanced_accuracy.value == pytest.approx(np.mean(recalls))
        assert row.auroc.low <= row.auroc.value <= row.auroc.high


def test_detections_are_scored_as_eval_scores_them(compared: tuple[Path, list[Row]], tmp_path: Path) -> None:
    output, rows = compared
    checkpoint, unseen = output / "runs/signed-0/checkpoints/last.ckpt", output / "unseen/annotations.json"
    values = evaluate(checkpoint, unseen, tmp_path, EvalOptions(n_resamples=0, report=False))
    assert rows[2].auroc.value == pytest.approx(values["visibility_auroc"])
    assert rows[2].balanced_accuracy.value == pytest.approx(values["visibility_accuracy"])
    assert rows[2].ap == pytest.approx(values["map"])
    assert 0 < rows[2].n_points <= rows[0].n_points


def test_the_patches_are_trained_by_the_public_training(compared: tuple[Path, list[Row]]) -> None:
    output, _ = compared
    run = output / "runs" / "patches-0"
    assert (run / "config.yaml").is_file()
    assert load_classifier(run / "checkpoints" / "last.ckpt").hparams["factors"] == [1, 2, 4]
    trained_on = {image.file_name for image in read_coco(output / "train" / "annotations.json").images}
    assert len(trained_on) == TINY.images
    found = json.loads((output / "runs/ignore-0/predict-unseen/predictions.json").read_text())["predictions"]
    assert all(
        "p_visible" in point for one in found for channel in one["keypoints"].values() for point in channel
    )


def test_the_numbers_are_written(compared: tuple[Path, list[Row]]) -> None:
    output, rows = compared
    content = json.loads((output / "metrics.json").read_text())
    assert content["options"]["steps"] == 3
    assert [one["auroc"]["value"] for one in content["rows"]] == [row.auroc.value for row in rows]
    assert [one["ap"] is None for one in content["rows"]] == [True, True, False, False]


def test_the_runs_of_an_earlier_comparison_stay(compared: tuple[Path, list[Row]]) -> None:
    with pytest.raises(FileExistsError, match="earlier comparison; give another --output"):
        compare_occlusion(compared[0], TINY)
    with pytest.raises(ValueError, match=r"--steps: expected 1 or more, got 0"):
        ComparisonOptions(steps=0)


def test_a_line_by_hand() -> None:
    row = Row("patches", "labelled keypoints", 12, Interval(0.98, 0.9, 1.0), Interval(0.75, 0.5, 0.875))
    cells = "patches | labelled keypoints | 0 | 12 | 0.980 (0.900 to 1.000) | 0.750 (0.500 to 0.875) |  | 0"
    assert table_text([row]).splitlines()[2] == f"| {cells} |"
    nothing = row._replace(auroc=Interval(*[float("nan")] * 3))
    assert row_content(nothing)["auroc"] == {"value": None, "interval": [None, None]}


def test_the_script_has_documented_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "compare_visibility.py"))
    with pytest.raises(SystemExit, match="0"):
        script["main"](["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name in ("images", "unseen", "epochs", "steps", "seeds"):
        assert f"--{name}" in shown
        assert f"(default: {getattr(ComparisonOptions, name)})" in shown


def test_the_script_passes_its_flags_on_and_prints_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "compare_visibility.py"))
    row = Row("patches", "labelled keypoints", 12, Interval(0.98, 0.9, 1.0), Interval(0.75, 0.5, 0.875))
    called = []
    monkeypatch.setitem(
        script["main"].__globals__, "compare_occlusion", lambda *given: [called.append(given), row][1:]
    )
    script["main"](["--steps", "7", "--seeds", "2", "--output", str(tmp_path)])
    assert called == [(str(tmp_path), ComparisonOptions(steps=7, seeds=2))]
    assert capsys.readouterr().out == table_text([row])


def test_the_script_tells_in_one_line_that_a_folder_is_taken(
    compared: tuple[Path, list[Row]], capsys: pytest.CaptureFixture[str]
) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "compare_visibility.py"))
    with pytest.raises(SystemExit, match="2"):
        script["main"](["--output", str(compared[0])])
    assert capsys.readouterr().err.splitlines()[-1].endswith("give another --output")
