"""The command `compare`, as a user meets it."""

import json
import shutil
from pathlib import Path

import pytest
from scored_folds import error_sheet, write_cross_validation, write_evaluation

from keypoint_detection.__main__ import main
from keypoint_detection.commands_compare import run_compare
from keypoint_detection.train.cli import UsageError


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """Return a run folder with a checkpoint."""
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    shutil.copy(tiny_checkpoint, folder / "checkpoints" / "last.ckpt")
    return folder


def score(run: Path, boxes_json: Path, *flags: str) -> int:
    checkpoint = str(run / "checkpoints" / "last.ckpt")
    rest = ["--json_dataset_path", str(boxes_json), "--accelerator", "cpu", "--n_resamples", "60"]
    return main(["eval", "--checkpoint", checkpoint, *rest, *flags])


def test_compare_prints_and_writes_the_differences(
    run: Path, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    a, b, output = run / "eval", tmp_path / "smaller", tmp_path / "comparison.json"
    assert score(run, boxes_json) == 0
    assert score(run, boxes_json, "--image_size", "32x32", "--output", str(b)) == 0
    capsys.readouterr()
    flags = ["--n_resamples", "100", "--output", str(output), "--per_channel"]
    assert main(["compare", str(run), str(b), *flags]) == 0
    out = capsys.readouterr().out
    assert "mean_error_px" in out
    assert "flap_left/map" in out
    written = json.loads(output.read_text())
    values = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in (a, b)]
    difference = written["differences"]["mean_error_px"]["difference"]
    assert difference == pytest.approx(
        values[1]["mean_error_px"]["value"] - values[0]["mean_error_px"]["value"]
    )


def test_compare_refuses_other_definitions_and_names_them(
    run: Path, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert score(run, boxes_json) == 0
    other = ["--maximal_gt_keypoint_pixel_distances", "3", "--output", str(tmp_path / "b")]
    assert score(run, boxes_json, *other, "--pck_alpha", "0.3") == 0
    capsys.readouterr()
    assert main(["compare", str(run / "eval"), str(tmp_path / "b")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "thresholds" in line
    assert "pck.alpha" in line
    assert main(["compare", str(run), str(tmp_path / "nothing")]) == 1


@pytest.fixture
def three_runs(tmp_path: Path) -> list[str]:
    """Return the folders of three evaluations of the same images."""
    errors = {"a": [1.0, 2.0, 4.0, 3.0], "b": [2.0, 3.0, 5.0, 4.5], "c": [1.0, 1.5, 4.0, 3.0]}
    return [str(write_evaluation(tmp_path / k, error_sheet([1, 2, 3, 4], v))) for k, v in errors.items()]


def test_more_runs_may_follow_the_flags(
    three_runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    a, b, c = three_runs
    output, figure = tmp_path / "all.json", tmp_path / "scores.png"
    flags = ["--n_resamples", "40", "--output", str(output), "--figure", str(figure)]
    assert run_compare([a, b, *flags, c]) == 0
    out = capsys.readouterr().out
    assert out.count("A: ") == 2
    assert out.splitlines()[-2:] == [f"drawn: {figure}", f"written: {output}"]
    comparisons = json.loads(output.read_text())["comparisons"]
    assert [one["b"] for one in comparisons] == [b, c]
    assert [one["differences"]["mean_error_px"]["difference"] for one in comparisons] == [1.125, -0.125]
    assert figure.stat().st_size > 1000


def test_cross_validations_are_compared_fold_by_fold(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = [
        write_cross_validation(
            tmp_path / name,
            {"fold1": error_sheet([1, 2], [1.0, k]), "fold2": error_sheet([3, 4], [2.0, 3.0])},
        )
        for name, k in (("a", 2.0), ("b", 4.0))
    ]
    assert run_compare([*map(str, paths), "--n_resamples", "40"]) == 0
    out = capsys.readouterr().out
    assert "means over 2 folds" in out
    (row,) = [line for line in out.splitlines() if line.startswith("mean_error_px")]
    assert row.split()[1:4] == ["2", "2.5", "+0.5"]


def test_one_run_is_not_enough_and_a_wrong_figure_is_one_line(
    three_runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(UsageError, match=r"required: b$"):
        run_compare(three_runs[:1])
    with pytest.raises(ValueError, match=r"\.png"):
        run_compare([*three_runs, "--n_resamples", "40", "--figure", str(tmp_path / "scores.txt")])
    assert not capsys.readouterr().out  # nothing is computed for a figure that cannot be drawn
    assert not (tmp_path / "scores.txt").exists()
