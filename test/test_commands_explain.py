"""`explain` as a user meets it."""

import json
from pathlib import Path

import pytest

from keypoint_detection.commands_explain import HEAD_FUSIONS, METHODS, run_explain
from keypoint_detection.explain import METHODS as EXPLAIN_METHODS
from keypoint_detection.explain_rollout import HEAD_FUSIONS as ROLLOUT_FUSIONS
from keypoint_detection.train.cli import UsageError


def test_the_choices_are_those_of_the_library() -> None:
    assert METHODS == EXPLAIN_METHODS
    assert HEAD_FUSIONS == ROLLOUT_FUSIONS


def test_shares_are_printed_and_written(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    source = str(boxes_json.parent / "images")
    flags = ["--checkpoint", str(tiny_checkpoint), "--source", source, "--output", str(tmp_path / "out")]
    assert run_explain([*flags, "--max_images", "2", "--smooth", "2", "--accelerator", "cpu"]) == 0
    out = capsys.readouterr().out
    assert out.count("flap_left") == 2
    assert "2 folders" in out
    written = json.loads((tmp_path / "out" / "explanations.json").read_text())
    assert len(written["images"]) == 2
    assert written["checkpoint"] == str(tiny_checkpoint)
    for image in written["images"]:
        folder = tmp_path / "out" / Path(image["source"]).stem
        assert {path.name for path in folder.iterdir()} == {
            "00_corner0_corner1_corner2_corner3_saliency.png",
            "01_flap_left_saliency.png",
            "02_flap_right_saliency.png",
            "grid.png",
        }
        assert all(0 <= point["shares"]["saliency"] <= 1 for point in image["keypoints"])


def test_an_unreadable_image_is_named_and_counted(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    good = next((boxes_json.parent / "images").glob("*.png"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    flags = ["--checkpoint", str(tiny_checkpoint), "--source", str(good), str(tmp_path / "bad.png")]
    assert run_explain([*flags, "--output", str(tmp_path / "out"), "--accelerator", "cpu"]) == 1
    assert "1 images could not be read" in capsys.readouterr().err
    (line,) = json.loads((tmp_path / "out" / "explanations.json").read_text())["unreadable"]
    assert "bad.png" in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--discard_ratio", "1"], "from 0 to below 1"),
        (["--discard_ratio", "0", "-0.5"], "from 0 to below 1"),
        (["--discard_ratio", "x"], "from 0 to below 1"),
        (["--discard_ratio", "nan"], "from 0 to below 1"),
        (["--method", "lime"], "invalid choice: 'lime'"),
        (["--head_fusion", "sum"], "invalid choice: 'sum'"),
        (["--smooth", "-1"], "whole number from 0"),
        (["--max_images", "0"], "whole number from 1"),
        (["--discard", "0"], "--discard"),
    ],
)
def test_wrong_flags(flags: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_explain(["--checkpoint", "x.ckpt", "--source", "images", *flags])


def test_rollout_of_a_convolutional_backbone_is_refused(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    source = str(boxes_json.parent / "images")
    flags = ["--checkpoint", str(tiny_checkpoint), "--source", source, "--output", str(tmp_path / "out")]
    with pytest.raises(ValueError, match="got Unet; use --method saliency") as caught:
        run_explain([*flags, "--method", "rollout", "--accelerator", "cpu"])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_missing_files(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        run_explain(["--checkpoint", str(tmp_path / "no.ckpt"), "--source", str(tmp_path)])
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        run_explain(["--checkpoint", str(tiny_checkpoint), "--source", str(tmp_path / "no.png")])
