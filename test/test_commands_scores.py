"""The commands about scores, as a user meets them."""

import json
import shutil
from pathlib import Path

import pytest

from keypoint_detection.__main__ import main


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


def test_every_definition_can_be_given(run: Path, boxes_json: Path, capsys: pytest.CaptureFixture) -> None:
    flags = ["--pck_reference", "flap_left", "flap_right", "--pck_alpha", "0.1 0.5", "--level", "0.9"]
    assert score(run, boxes_json, *flags, "--ap_interpolation", "101", "--oks_sigmas", "0.05") == 0
    report = json.loads((run / "eval" / "metrics.json").read_text())
    assert report["contract"]["pck"]["length"] == 'distance "flap_left" - "flap_right"'
    assert report["contract"]["interpolation"] == "101 recalls"
    assert (report["intervals"]["level"], report["intervals"]["resamples"]) == (0.9, 60)
    out = capsys.readouterr().out
    assert "pck@0.5" in out
    assert f"metric contract {report['contract']['hash']}" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pck_reference", "a", "b", "c"], "--pck_reference: expected two keypoint names"),
        (["--pck_normalizer", "reference"], "belong together"),
        (["--pck_alpha", "-1"], "--pck_alpha: expected numbers above 0"),
        (["--pck_alpha", "nan"], "--pck_alpha: expected numbers above 0"),
        (["--pck_alpha", "0.1 inf"], "--pck_alpha: expected numbers above 0"),
        (["--ap_interpolation", "11"], "--ap_interpolation: "),
        (["--level", "1.5"], "--level"),
        (["--flip"], "unrecognized arguments: --flip. Did you mean '--flip_test'?"),
        (["--interval", "bcca"], "Did you mean 'bca'?"),
        (["--n_resamples", "-3"], "--n_resamples"),
        (["--n_resamples", "19"], "--n_resamples: expected at least 20 for level 0.95, got 19"),
        (["--n_resamples", "99", "--level", "0.99"], "expected at least 100 for level 0.99, got 99"),
        (["--num_workers", "-1"], "--num_workers: expected a whole number from 0; got '-1'"),
    ],
)
def test_wrong_definitions_are_one_line_before_anything_runs(
    flags: list[str], message: str, run: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    assert score(run, boxes_json, *flags) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]
    assert not (run / "eval").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pck_reference", "flap_left", "flap_wrong"], "flap_wrong"),
        (["--oks_sigmas", "coco"], "corner0"),
        (["--group_by", "video"], "video"),
        (["--flip_test", "--symmetric_keypoints", "flap_left=other"], "flap_left"),
    ],
)
def test_definitions_that_do_not_fit_the_file_are_one_line(
    flags: list[str], message: str, run: Path, boxes_json: Path, capsys: pytest.CaptureFixture
) -> None:
    assert score(run, boxes_json, *flags) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert message in errors[0]


def test_the_command_says_what_is_where(run: Path, boxes_json: Path, capsys: pytest.CaptureFixture) -> None:
    assert score(run, boxes_json, "--n_resamples", "0") == 0
    out = capsys.readouterr().out
    folder = run / "eval"
    listed = out.partition(f"written to {folder}:\n")[2].splitlines()
    page = f"the page to look at: {folder / 'report.html'}"
    assert listed[-1] == page
    assert {line.split()[0] for line in listed[:-1]} | {"report.html"} == {p.name for p in folder.iterdir()}
    assert score(run, boxes_json, "--n_resamples", "0", "--no-report") == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{folder / 'report.html'} is of an earlier evaluation")
