import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from full_disk import full_disk
from predicting import save_detector, without_overlays, write_video

from keypoint_detection.files import write_text
from keypoint_detection.overlay_video import write_overlay_video
from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_folder import claimed, is_overlay
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.records import Prediction


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("model") / "model.ckpt")


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "out"):
        with claimed(tmp_path / "other"):
            pass
        with (
            pytest.raises(ValueError, match=r"for this run alone, another one is writing to .*out; wait"),
            claimed(tmp_path / "out"),
        ):
            raise AssertionError
    with claimed(tmp_path / "out"):
        pass
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "other", tmp_path / "out"]


def test_a_killed_run_leaves_no_lock(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, keypoint_detection.predict_folder as p\n"
        f"with p.claimed(pathlib.Path({str(tmp_path)!r})): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    with claimed(tmp_path):
        pass


def test_what_a_killed_run_left_half_written_goes(tmp_path: Path) -> None:
    halves = [
        ".overlay-wyzn9mql.mp4",
        ".predictions-abc_1234.json",
        ".predictions.partial-abcd1234.jsonl",
        "overlays/.img 1-abcd1234.png",
        "deeplabcut/.mouseDLC_keypoint_detection-abcd1234.h5",
    ]
    kept = [".overlay-mine.mp4", ".notes-abcd1234.json", "predictions.json", "overlays/a-abcd1234.png"]
    for name in (*halves, *kept):
        write_text(tmp_path / name, "x")
    with claimed(tmp_path):
        pass
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.*")) == sorted(kept)


def test_a_folder_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "out"):
        with (
            pytest.raises(ValueError, match=r"^expected a folder to write into, cannot use .*--output$"),
            claimed(folder),
        ):
            raise AssertionError


def test_what_a_run_draws() -> None:
    output = Path("/data/out")
    assert is_overlay(Path("/data/out/overlays/a.png"), output)
    assert is_overlay(Path("/data/x/../out/overlay.mp4"), output)
    assert is_overlay(Path("/data/out/mouse/overlay.mp4"), output)
    assert not is_overlay(Path("/data/out/a.png"), output)
    assert not is_overlay(Path("/data/overlays/a.png"), output)
    assert not is_overlay(Path("/data/overlay.mp4"), output)


def test_a_full_disk_is_one_line_and_loses_nothing(checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 30)
    options = without_overlays(batch_size=2, deeplabcut=True)
    predict_to_files(checkpoint, video, tmp_path / "whole", options)
    message = r"^expected room for the files in .*out, got .*; make room, and run"
    with full_disk(3000), pytest.raises(OSError, match=message):
        predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.partial.jsonl"]
    predict_to_files(checkpoint, video, tmp_path / "out", options)
    for path in (tmp_path / "whole").rglob("*.*"):
        copy = tmp_path / "out" / path.relative_to(tmp_path / "whole")
        assert copy.read_bytes() == path.read_bytes(), path.name


def test_no_half_picture_is_left_on_a_full_disk(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "photos" / "a.png"), noise)
    with full_disk(3000), pytest.raises(OSError, match="make room"):
        predict_to_files(checkpoint, tmp_path / "photos", tmp_path, PredictOptions(confidence_threshold=1.0))
    assert list((tmp_path / "overlays").iterdir()) == []
    assert "libpng" not in capfd.readouterr().err


@pytest.mark.parametrize("hidden", [False, True])
def test_no_half_video_is_left_on_a_full_disk(
    tmp_path: Path, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "mouse.avi", 30)
    predictions = [Prediction(((),), ("nose",), (32, 48))] * 30
    if hidden:
        monkeypatch.setitem(sys.modules, "av", None)
    with full_disk(1000), pytest.raises(OSError):
        write_overlay_video(video, predictions, tmp_path / "overlay.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["mouse.avi"]
