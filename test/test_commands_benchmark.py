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
        (["--batch_sizes", "3"], "--batch_sizes: goes only with --checkpoint"),
        (["--checkpoint", "x.ckpt", "--backbones", "Unet"], "--backbones: goes not with --checkpoint"),
        (["--checkpoint", "x.ckpt", "--batch_size", "2"], "--batch_size: goes not with --checkpoint"),
        (["--checkpoint", "x.ckpt", "--metrics"], "--metrics: goes without --checkpoint"),
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
