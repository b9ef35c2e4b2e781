import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from predicting import frames, read_predictions, save_detector, without_overlays, write_images, write_video

from keypoint_detection import predict_run
from keypoint_detection.data.video import Frame
from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.predict_source import VideoSource

FILES = ("predictions.json", "predictions.csv", "predictions_coco.json")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("model") / "model.ckpt")


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, BaseException], list[int]]:
    """Let the network raise an error in its n-th batch; return the sizes of all batches that it gets."""
    run = predict_run.predict_batch
    sizes: list[int] = []

    def install(number: int, error: BaseException) -> list[int]:
        def predict_batch(detector: Any, batch: Any, options: Any) -> Any:
            if len(sizes) == number:
                sizes.append(0)
                raise error
            sizes.append(len(batch["image"]))
            return run(detector, batch, options)

        monkeypatch.setattr(predict_run, "predict_batch", predict_batch)
        return sizes

    return install


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_stopped_video_goes_on_and_gives_the_same_files(
    checkpoint: Path, tmp_path: Path, stop_at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    video = write_video(tmp_path / "mouse.avi", 14)
    options = without_overlays(batch_size=3, coco=True)
    predict_to_files(checkpoint, video, tmp_path / "whole", options)
    sizes = stop_at(2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match="6 of 14 frames are finished"):
        predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.partial.jsonl"]
    result = predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert result.n_images == 14
    assert sizes == [3, 3, 0, 3, 3, 2]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert "going on behind 6 finished images" in caplog.text


def test_an_error_of_the_network_keeps_what_is_finished(
    checkpoint: Path, tmp_path: Path, stop_at: Any
) -> None:
    photos = write_images(tmp_path / "photos", [(32, 32)] * 2 + [(40, 32)] * 3 + [(32, 32)] * 4)
    photos[3].write_bytes(b"no image")
    options = without_overlays(batch_size=2, coco=True)
    whole = predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "whole", options)
    sizes = stop_at(2, RuntimeError("out of memory"))
    with pytest.raises(RuntimeError, match="out of memory"):
        predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", options)
    result = predict_to_files(checkpoint, tmp_path / "photos", tmp_path / "out", options)
    assert sizes == [2, 2, 0, 2, 2]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert result.unreadable == whole.unreadable
    assert len(result.unreadable) == 1
    assert result.n_images == 8


@pytest.mark.parametrize("changed", ["checkpoint", "source", "option", "restart"])
def test_another_run_starts_anew_and_says_so(
    changed: str, checkpoint: Path, tmp_path: Path, stop_at: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    video = write_video(tmp_path / "mouse.avi", 6)
    sizes = stop_at(2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        predict_to_files(checkpoint, video, tmp_path / "out", without_overlays(batch_size=2))
    options = without_overlays(
        batch_size=2, max_keypoints=1 if changed == "option" else None, restart=changed == "restart"
    )
    if changed == "source":
        os.utime(video, (1, 1))
    if changed == "checkpoint":
        checkpoint = save_detector(tmp_path / "other.ckpt", heatmap_sigma=3.0)
    predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert sizes == [2, 2, 0, 2, 2, 2]
    assert ("--restart" if changed == "restart" else f"it is of another {changed}; starting") in caplog.text


def test_other_files_than_the_stopped_run_wanted_cost_no_prediction(
    checkpoint: Path, tmp_path: Path, stop_at: Any
) -> None:
    video = write_video(tmp_path / "mouse.avi", 6)
    sizes = stop_at(2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        predict_to_files(checkpoint, video, tmp_path / "out", without_overlays(batch_size=2))
    predict_to_files(checkpoint, video, tmp_path / "out", without_overlays(batch_size=2, coco=True))
    assert sizes == [2, 2, 0, 2]


def test_a_stop_while_drawing_costs_only_the_drawing(
    checkpoint: Path, tmp_path: Path, stop_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "mouse.avi", 4)
    options = PredictOptions(batch_size=4)
    sizes = stop_at(9, KeyboardInterrupt())
    with monkeypatch.context() as patch:

        def full(*_: object, **__: object) -> None:
            raise OSError("the disk is full")

        patch.setattr("keypoint_detection.predict.write_overlay_video", full)
        with pytest.raises(OSError, match="full"):
            predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert len(read_predictions(tmp_path / "out")) == 4
    predict_to_files(checkpoint, video, tmp_path / "out", options)
    assert sizes == [4]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "predictions.json",
        "predictions.csv",
        "overlay.mp4",
    }


def test_finished_videos_are_not_predicted_again(checkpoint: Path, tmp_path: Path, stop_at: Any) -> None:
    for name in "abc":
        write_video(tmp_path / "videos" / f"{name}.avi", 4)
    sizes = stop_at(3, KeyboardInterrupt())
    options = without_overlays(batch_size=2)
    with pytest.raises(KeyboardInterrupt, match="2 of 4"):
        predict_to_files(checkpoint, str(tmp_path / "videos" / "*.avi"), tmp_path / "out", options)
    written = (tmp_path / "out" / "a" / "predictions.json").stat().st_mtime_ns
    result = predict_to_files(checkpoint, str(tmp_path / "videos" / "*.avi"), tmp_path / "out", options)
    assert sizes == [2, 2, 2, 0, 2, 2, 2]
    assert result.n_images == 12
    assert (tmp_path / "out" / "a" / "predictions.json").stat().st_mtime_ns == written
    assert not list(tmp_path.rglob("*.partial.jsonl"))


class FakeCamera:
    """Give frames without end."""

    def __init__(self, source: str, *, start: int = 0, n_channels: int = 3) -> None:
        assert (source, start, n_channels) == ("camera:0", 0, 3)

    def __enter__(self) -> "FakeCamera":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __iter__(self) -> Any:
        picture = frames(1)[0]
        return (Frame(index, index / 30, picture) for index in range(10**9))


def test_ctrl_c_ends_a_camera_with_all_files(
    checkpoint: Path, tmp_path: Path, stop_at: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keypoint_detection.predict_source.VideoFrames", FakeCamera)
    stop_at(3, KeyboardInterrupt())
    result = predict_to_files(checkpoint, "camera:0", tmp_path / "out", PredictOptions(batch_size=2))
    assert result.n_images == 6
    entries = read_predictions(tmp_path / "out")
    assert [entry["frame"] for entry in entries] == list(range(6))
    assert {entry["source"] for entry in entries} == {"camera:0"}
    assert not (tmp_path / "out" / "overlay.mp4").exists()


def test_a_camera_ends_after_max_frames_and_is_never_gone_on_with(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keypoint_detection.predict_source.VideoFrames", FakeCamera)
    options = without_overlays(max_frames=5, batch_size=2, deeplabcut=True)
    assert predict_to_files(checkpoint, "camera:0", tmp_path / "out", options).n_images == 5
    assert (tmp_path / "out" / "deeplabcut" / "camera_0DLC_keypoint_detection.csv").is_file()
    camera = VideoSource("camera:0")
    assert camera.identity() != camera.identity()


PROGRAM = """
import sys, time, torch
torch.set_num_threads(1)
from keypoint_detection import predict_run
from keypoint_detection.commands_predict import run_predict
run = predict_run.predict_batch
def slowly(*arguments):
    time.sleep(0.05)
    return run(*arguments)
predict_run.predict_batch = slowly
sys.exit(run_predict(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_run_leaves_whole_files_and_goes_on(checkpoint: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 120)
    flags = [
        "--checkpoint",
        str(checkpoint),
        "--source",
        str(video),
        "--batch_size",
        "4",
        "--coco",
    ]
    flags += ["--accelerator", "cpu", "--no-overlays", "--confidence_threshold", "0"]
    command = [sys.executable, "-c", PROGRAM, *flags, "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, str(tmp_path / "whole")], check=True, env=environment, capture_output=True)
    out = tmp_path / "out"
    partial = out / "predictions.partial.jsonl"
    for n_lines in (10, 60):
        process = subprocess.Popen(
            [*command, str(out)], env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and (
            not partial.is_file() or len(partial.read_bytes().splitlines()) < n_lines
        ):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (out / "predictions.json").exists()
        with partial.open("ab") as file:
            file.write(b'{"index": 99, "le')  # what a kill in the middle of a write leaves
    last = subprocess.run([*command, str(out)], check=True, env=environment, capture_output=True, text=True)
    assert "120 frames" in last.stdout
    assert contents(out) == contents(tmp_path / "whole")
