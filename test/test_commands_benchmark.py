from pathlib import Path

import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.checkpoint_benchmark import HEADINGS


def test_a_checkpoint_is_timed_by_batch_size(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "speed.md"
    flags = ["--checkpoint", str(tiny_checkpoint), "--image_size", "48x64", "--batch_sizes", "1", "2"]
    assert main(["benchmark", *flags, "--seconds", "1", "--threads", "1", "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    rows = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    assert rows[0] == HEADINGS[0]
    assert rows[2:] == ["1", "2"]
    assert "48x64" in printed
    assert output.read_text(encoding="utf-8").strip() in printed


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (["--batch_sizes", "3"], "--batch_sizes: changes nothing here; it goes with --checkpoint"),
        (["--checkpoint", "x.ckpt", "--backbones", "Unet"], "--backbones: changes nothing here"),
        (["--checkpoint", "x.ckpt", "--batch_size", "2"], "--batch_size: changes nothing here"),
        (["--loader", "--image_size", "64x64"], "it goes with --backbones or --checkpoint"),
        (["--checkpoint", "x.ckpt", "--metrics"], "--checkpoint: goes without --metrics"),
        (["--train", "--loader"], "--loader: goes without --train"),
        (["--checkpoint", "x.ckpt", "--batch_sizes", "0"], "expected a whole number from 1"),
    ],
)
def test_flags_that_contradict_are_refused(
    flags: list[str], fault: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(["benchmark", *flags]) == 2
    error = capsys.readouterr().err
    assert fault in error
    assert error.count("\n") == 1


def test_a_missing_checkpoint_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main(["benchmark", "--checkpoint", "x.ckpt"]) == 1
    assert capsys.readouterr().err.startswith("error: no checkpoint at x.ckpt")


@pytest.mark.parametrize(
    ("flag", "rows"),
    [
        ("--metrics", "score_benchmark.metric_rows"),
        ("--loader", "loader_benchmark.loader_rows"),
        ("--patches", "visibility.patch_benchmark.patch_rows"),
        ("--train", "train_benchmark.train_rows"),
    ],
)
def test_rows_are_printed_as_they_come(
    flag: str, rows: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(f"keypoint_detection.{rows}", lambda: iter(["first row", "second row"]))
    assert main(["benchmark", flag]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["first row", "second row"]
