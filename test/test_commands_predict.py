import json
import logging
import re
import sys
from pathlib import Path

import pytest
from predicting import read_predictions, save_detector, write_images, write_video
from video_files import packets_of

from keypoint_detection.commands_predict import run_predict
from keypoint_detection.train.cli import UsageError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("model") / "model.ckpt")


def flags(checkpoint: Path, *source: Path, output: Path) -> list[str]:
    base = ["--checkpoint", str(checkpoint), "--source", *map(str, source), "--output", str(output)]
    return [*base, "--accelerator", "cpu"]


def test_images_to_all_files(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = write_images(tmp_path / "photos", [(32, 32)] * 3)
    argv = flags(checkpoint, *paths, output=tmp_path / "out")
    argv += ["--confidence_threshold", "0", "--coco", "--deeplabcut", "--max_keypoints", "1"]
    argv += ["--flip_test", "--symmetric_keypoints", "left_ear=right_ear", "--batch_size", "2", "--no-names"]
    assert run_predict(argv) == 0
    assert f"9 keypoints in 3 images; written to {tmp_path / 'out'}" in capsys.readouterr().out
    assert len(read_predictions(tmp_path / "out")) == 3
    assert len(json.loads((tmp_path / "out" / "predictions_coco.json").read_text())) == 3
    assert len(list((tmp_path / "out" / "overlays").iterdir())) == 3


def test_the_exit_code_is_one_when_something_was_skipped(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_images(tmp_path / "photos", [(32, 32)] * 2)
    (tmp_path / "photos" / "bad.png").write_text("no image")
    argv = flags(checkpoint, tmp_path / "photos", output=tmp_path / "out")
    assert run_predict([*argv, "--no-overlays"]) == 1
    captured = capsys.readouterr()
    assert "1 image could not be read" in captured.err
    assert "in 2 images" in captured.out


def test_an_interrupt_says_how_to_go_on(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "mouse.avi", 5)
    argv = [*flags(checkpoint, video, output=tmp_path / "out"), "--trail", "3"]

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("keypoint_detection.predict_run.predict_batch", stop)
        assert run_predict(argv) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "0 of 5 frames are finished" in lines[0]
    assert "the same command goes on" in lines[0]
    assert run_predict(argv) == 0
    assert (tmp_path / "out" / "overlay.mp4").is_file()


@pytest.mark.parametrize(
    ("extra", "text"),
    [
        (["--tile", "0"], "expected a whole number from 1"),
        (["--tile", "64"], "overlap by less than their side of 64 px, got 128 px"),
        (["--max_frames", "x"], "expected a whole number from 1"),
        (["--cocos"], "--coco"),
        (["--symmetric_keypoints", "a=b"], "changes nothing without --flip_test"),
        (["--flip_test", "--symmetric_keypoints", "a"], "--symmetric_keypoints"),
        (["--json_dataset_path", "x.json"], "give it with --coco or --flip_test"),
        (["--flip_test", "--symmetric_keypoints", "a=b=c"], "expected pairs such as 'left_ear=right_ear;"),
        (["--trail", "3", "--no-overlays"], "--trail changes nothing with --no-overlays"),
        (["--overlay"], "Did you mean"),
    ],
)
def test_wrong_flags_are_one_line(extra: list[str], text: str, tmp_path: Path) -> None:
    argv = flags(tmp_path / "x.ckpt", tmp_path, output=tmp_path / "out")
    with pytest.raises(UsageError) as caught:
        run_predict([*argv, *extra])
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_frames_are_counted_as_frames(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("av")
    video = write_video(tmp_path / "mouse.avi", 3)
    argv = [*flags(checkpoint, video, output=tmp_path / "out"), "--no-overlays"]
    assert run_predict([*argv, "--max_frames", "1", "--confidence_threshold", "1"]) == 0
    assert "0 keypoints in 1 frame; written" in capsys.readouterr().out
    last = packets_of(video)[2]
    video.write_bytes(video.read_bytes().replace(last, bytes([255]) * len(last)))
    assert run_predict(argv) == 1
    captured = capsys.readouterr()
    assert " in 2 frames; written" in captured.out
    assert "frames could not be read and were left out, see above" in captured.err
    assert "not read: frame 2 of " in caplog.text


def test_a_warning_while_the_bar_moves_has_its_own_line(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = write_video(tmp_path / "mouse.avi", 40)
    video.write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    console = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [console])
    assert run_predict([*flags(checkpoint, video, output=tmp_path / "out"), "--no-overlays"]) == 0
    assert re.search(
        r"[\r\n]\S+mouse\.avi ends after \S+ s though it announces 2\.0 s", capsys.readouterr().err
    )


def test_an_interrupt_of_a_new_start_says_to_leave_that_out(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    video = write_video(tmp_path / "mouse.avi", 5)
    monkeypatch.setattr("keypoint_detection.predict_run.predict_batch", stop)
    assert run_predict([*flags(checkpoint, video, output=tmp_path / "out"), "--restart"]) == 1
    assert "the same command without --restart goes on" in capsys.readouterr().err


def test_trails_need_a_video(checkpoint: Path, tmp_path: Path) -> None:
    paths = write_images(tmp_path / "photos", [(32, 32)])
    with pytest.raises(ValueError, match="--trail expects a video, got images"):
        run_predict([*flags(checkpoint, *paths, output=tmp_path / "out"), "--trail", "3"])
    assert not (tmp_path / "out").exists()
