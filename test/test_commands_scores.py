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
