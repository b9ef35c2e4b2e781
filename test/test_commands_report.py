"""The command `report`: which evaluation a path leads to, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest
from scored_folds import error_sheet, write_cross_validation

from keypoint_detection.__main__ import main
from keypoint_detection.evaluate import EvalOptions, evaluate


@pytest.fixture(scope="module")
def scored(tiny_checkpoint: Path, boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with `eval/` in it, and `other/`, scored with other numbers."""
    run = tmp_path_factory.mktemp("scored") / "run"
    shutil.copytree(tiny_checkpoint.parents[1], run)
    checkpoint = run / "checkpoints" / "last.ckpt"
    evaluate(checkpoint, boxes_json, run / "eval", EvalOptions(n_resamples=0, report=False))
    options = EvalOptions(n_resamples=0, image_size=(48, 48), report=False)
    evaluate(checkpoint, boxes_json, run / "other", options)
    return run


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    """Return a copy of it that a test may break."""
    return Path(shutil.copytree(scored, tmp_path / "run"))


def report(folder: Path, labels: Path, *flags: str) -> int:
    return main(["report", str(folder), "--json_dataset_path", str(labels), "--accelerator", "cpu", *flags])


@pytest.mark.parametrize("part", ["", "eval", "eval/metrics.json"])
def test_an_evaluation_is_found_by_its_run_its_folder_or_its_numbers(
    part: str, run: Path, boxes_json: Path
) -> None:
    assert report(run / part, boxes_json) == 0
    assert (run / "eval" / "report.html").is_file()


def test_a_cross_validation_leads_to_its_folds(
    tmp_path: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = write_cross_validation(tmp_path / "cv", {"first": error_sheet([1, 2], [1.0, 2.0])})
    assert report(folder, boxes_json) == 1
    (line,) = capsys.readouterr().err.splitlines()
    fold = folder / "first"
    assert f"keypoint-detection report {fold} --json_dataset_path {fold / 'validation.json'}" in line


def test_numbers_of_another_evaluation_are_refused(
    run: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    """An evaluation that was killed may leave the old `metrics.json` beside new predictions."""
    shutil.copy(run / "other" / "metrics.json", run / "eval" / "metrics.json")
    assert report(run, boxes_json) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "metrics.json and matches.npz are of two evaluations" in line
    assert not (run / "eval" / "report.html").exists()


@pytest.mark.parametrize("field", ["inference", "intervals"])
def test_metrics_without_a_part_name_it(
    field: str, run: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    path = run / "eval" / "metrics.json"
    content = json.loads(path.read_text())
    del content[field]
    path.write_text(json.dumps(content))
    assert report(run, boxes_json) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"metrics.json: expected the metrics of an evaluation, got a problem in field '{field}'" in line


def test_another_checkpoint_than_the_one_that_was_scored_is_refused(
    run: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    scored = run / "checkpoints" / "last.ckpt"
    moved = Path(shutil.copy(scored, run / "renamed.ckpt"))
    assert report(run, boxes_json, "--checkpoint", str(moved)) == 0  # the same weights elsewhere
    other = run / "other.ckpt"
    other.write_bytes(scored.read_bytes() + b"\0")
    before = (run / "eval" / "report.html").read_bytes()
    capsys.readouterr()
    assert report(run, boxes_json, "--checkpoint", str(other)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    mark = json.loads((run / "eval" / "metrics.json").read_text())["inference"]["checkpoint"]
    assert mark.startswith("last.ckpt (")
    assert f"expected the one scored in {run / 'eval'}, {mark}, got other.ckpt (" in line
    assert (run / "eval" / "report.html").read_bytes() == before
