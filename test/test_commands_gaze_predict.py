"""The commands `gaze predict` and `gaze export`."""

import json
from pathlib import Path

import numpy as np
import pytest
from gaze_predicting import boxes_file, photos, read_entries, save_follower, video

from keypoint_detection.__main__ import main

FEW = ["--samples", "2", "--accelerator", "cpu"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_follower(tmp_path_factory.mktemp("model") / "gaze.ckpt")


def predict(checkpoint: Path, source: Path, boxes: Path, output: Path, *flags: str) -> int:
    given = ["--checkpoint", str(checkpoint), "--source", str(source), "--boxes", str(boxes)]
    return main(["gaze", "predict", *given, "--output", str(output), *FEW, *flags])


def test_predict_images(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos(tmp_path / "photos")
    boxes = boxes_file(tmp_path / "boxes.csv")
    assert predict(checkpoint, tmp_path / "photos", boxes, tmp_path / "out", "--seed", "4") == 0
    assert f"5 people in 5 images; written to {tmp_path / 'out'}" in capsys.readouterr().out
    found = read_entries(tmp_path / "out")
    assert np.shape(found[0]["people"][0]["samples"]) == (2, 2)
    assert (tmp_path / "out/overlays/0.png").is_file()
    assert (
        predict(checkpoint, tmp_path / "photos", boxes, tmp_path / "b", "--seed", "5", "--no-overlays") == 0
    )
    assert not (tmp_path / "b/overlays").exists()
    assert read_entries(tmp_path / "b") != found


def test_predict_a_video(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    source, boxes = video(tmp_path)
    assert predict(checkpoint, source, boxes, tmp_path / "out", "--max_frames", "1") == 0
    assert "1 person in 1 frame; written to" in capsys.readouterr().out
    assert (tmp_path / "out/overlay.mp4").is_file()


def test_what_is_left_out_is_status_1(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos(tmp_path / "photos")[2].write_bytes(b"no image")
    boxes = boxes_file(tmp_path / "boxes.csv")
    assert predict(checkpoint, tmp_path / "photos", boxes, tmp_path / "out") == 1
    captured = capsys.readouterr()
    assert "4 people in 4 images" in captured.out
    assert "1 could not be used and were left out, see above" in captured.err


def test_errors_are_one_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    photos(tmp_path / "photos")
    boxes = boxes_file(tmp_path / "boxes.csv")
    cases = [
        ((checkpoint, tmp_path / "photos", tmp_path / "gone.csv"), "expected a file of head boxes"),
        ((checkpoint, tmp_path / "gone", boxes), "gone"),
        ((tmp_path / "gone.ckpt", tmp_path / "photos", boxes), "gone.ckpt"),
    ]
    for given, message in cases:
        capsys.readouterr()
        assert predict(*given, tmp_path / "out") == 1
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert message in line
    assert not (tmp_path / "out").exists()
    assert predict(checkpoint, tmp_path / "photos", boxes, tmp_path / "out", "--samples", "0") == 2
    assert main(["gaze", "predict", "--checkpoint", "a"]) == 2


def test_export(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    path = tmp_path / "gaze.onnx"
    assert main(["gaze", "export", "--checkpoint", str(checkpoint), "--output", str(path)]) == 0
    assert f"written to {path}; differs from the model by at most " in capsys.readouterr().out
    about = {one.key: json.loads(one.value) for one in onnx.load(path).metadata_props}
    assert about["decoder"] == "diffusion"
    assert about["scene_hw"] == [48, 64]
    assert main(["gaze", "export", "--checkpoint", str(checkpoint), "--output", "gaze.pt"]) == 1
    assert "ends in .onnx or .pt2" in capsys.readouterr().err
