"""The files of gaze predictions."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from gaze_predicting import (
    HEADER,
    boxes_file,
    files_in,
    numbers,
    photos,
    read_entries,
    read_rows,
    save_follower,
    video,
)

from keypoint_detection.data.imageloader import load_image
from keypoint_detection.data.video import VideoFrames
from keypoint_detection.gaze import predict_run
from keypoint_detection.gaze.inference import predict_gaze
from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.predict import predict_to_files
from keypoint_detection.gaze.predict_options import GazePredictOptions
from keypoint_detection.gaze.predict_outputs import draw_people
from keypoint_detection.gaze.predict_run import packed, unpacked

FEW = {"samples": 3, "batch_size": 2}


def check_same_files(one: Path, other: Path) -> None:
    """Check that all files are the same to the bit, videos as far as their encoder repeats itself."""
    files = files_in(one), files_in(other)
    assert files[0].keys() == files[1].keys()
    differing = [name for name in files[0] if files[0][name] != files[1][name]]
    assert [name for name in differing if not name.endswith(".mp4")] == []
    for name in differing:
        with VideoFrames(one / name) as before, VideoFrames(other / name) as after:
            pairs = list(zip(before, after, strict=True))
        assert len(pairs) == 9
        assert all(np.abs(a.image.astype(float) - b.image).mean() < 10 for a, b in pairs)


def options(**values: Any) -> GazePredictOptions:
    return GazePredictOptions(**{**FEW, **values})


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_follower(tmp_path_factory.mktemp("model") / "gaze.ckpt")


def test_the_files_of_images(checkpoint: Path, tmp_path: Path) -> None:
    paths, output = photos(tmp_path / "photos"), tmp_path / "out"
    boxes = boxes_file(tmp_path / "boxes.csv")
    result = predict_to_files(checkpoint, tmp_path / "photos", boxes, output, options())
    assert (result.n_images, result.n_people, result.left_out) == (5, 5, [])
    names = ["overlays/0.png", "overlays/1.png", "overlays/2.png", "overlays/3.png"]
    assert list(files_in(output)) == [*names, "predictions.csv", "predictions.json"]
    entries = read_entries(output)
    assert [entry["source"] for entry in entries] == [str(path) for path in paths]
    assert [[person["person"] for person in entry["people"]] for entry in entries] == [
        ["ann", "bob"],
        ["0"],
        ["0"],
        ["0"],
        [],
    ]
    assert entries[0]["people"][0]["eye"] == [10, 9]
    assert entries[0]["people"][1]["eye"] == [31, 15]  # the centre of 22 ... 40 and 5 ... 25
    rows = read_rows(output)
    assert len(rows) == sum(len(person["modes"]) for entry in entries for person in entry["people"])
    by_person: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        by_person.setdefault((row["image"], row["person"]), []).append(row)
    for entry in entries:
        for person in entry["people"]:
            given = by_person[entry["source"], person["person"]]
            assert [int(row["rank"]) for row in given] == list(range(len(given)))
            assert sum(float(row["weight"]) for row in given) == pytest.approx(1, abs=1e-3)
            for row, mode in zip(given, person["modes"], strict=True):
                np.testing.assert_allclose(
                    numbers(row, "x0", "y0", "x1", "y1"), person["head_box"], atol=1e-3
                )
                np.testing.assert_allclose(numbers(row, "gaze_x", "gaze_y"), person["gaze"], atol=1e-3)
                found = numbers(row, "x", "y", "weight", "std_px")
                np.testing.assert_allclose(found, list(mode.values()), atol=1e-3)
                assert 0 <= float(row["p_in_frame"]) <= 1


def test_the_numbers_are_those_of_the_network(tmp_path: Path) -> None:
    checkpoint = save_follower(tmp_path / "direct.ckpt", "direct")
    paths = photos(tmp_path / "photos")
    predict_to_files(checkpoint, paths, boxes_file(tmp_path / "boxes.csv"), tmp_path / "out", options())
    people = [person for entry in read_entries(tmp_path / "out") for person in entry["people"]]
    boxes = [[[2, 3, 20, 18], [22, 5, 40, 25]], *([[[-2, 3, 14, 18]]] * 3), []]
    eyes = [[[10, 9], [np.nan, np.nan]], *([None] * 4)]
    expected = predict_gaze(load_follower(checkpoint), paths, boxes, eyes=eyes, batch_size=1)
    assert len(people) == len(expected) == 5
    for found, one in zip(people, expected, strict=True):
        np.testing.assert_allclose(found["gaze"], one.gaze.point_xy, atol=1e-2)
        assert found["p_in_frame"] == pytest.approx(one.gaze.p_in, abs=1e-5)
        assert found["head_box"] == list(one.head_box)


def test_the_overlays_are_larger_and_show_the_head(checkpoint: Path, tmp_path: Path) -> None:
    paths = photos(tmp_path / "photos")
    predict_to_files(checkpoint, paths, boxes_file(tmp_path / "boxes.csv"), tmp_path / "out", options())
    drawn, plain = load_image(tmp_path / "out/overlays/0.png"), load_image(paths[0])
    assert drawn.shape == (320, 480, 3)
    enlarged = np.repeat(np.repeat(plain, 10, 0), 10, 1)
    changed = (drawn != enlarged).any(-1)
    edge = round((2 + 0.5) * 10 - 0.5)  # the left edge of the head of ann
    assert changed[50:170, edge - 1 : edge + 2].all()
    assert (drawn[100, edge - 1 : edge + 2].max(-1) > 200).any()
    small = draw_people(plain, read_entries(tmp_path / "out")[0]["people"])
    assert small.shape == plain.shape
    assert np.array_equal(draw_people(plain, []), plain)


def test_the_files_of_a_video(checkpoint: Path, tmp_path: Path) -> None:
    source, boxes = video(tmp_path)
    result = predict_to_files(checkpoint, source, boxes, tmp_path / "out", options())
    assert (result.n_images, result.n_people, result.is_video, result.left_out) == (9, 9, True, [])
    assert list(files_in(tmp_path / "out")) == ["overlay.mp4", "predictions.csv", "predictions.json"]
    entries = read_entries(tmp_path / "out")
    assert [entry["frame"] for entry in entries] == list(range(9))
    assert [len(entry["people"]) for entry in entries] == [1, 2, 1, 0, 1, 2, 1, 0, 1]
    assert entries[4]["time_s"] == pytest.approx(0.2)
    assert {int(row["frame"]) for row in read_rows(tmp_path / "out")} == {0, 1, 2, 4, 5, 6, 8}
    with VideoFrames(source) as before, VideoFrames(tmp_path / "out/overlay.mp4") as after:
        changes = [
            np.abs(one.image.astype(float) - other.image).max()
            for one, other in zip(before, after, strict=True)
        ]
    for frame, change in enumerate(changes):  # those without anybody are as they were, but for the codec
        assert (change < 60) == (frame % 4 == 3), (frame, changes)


def test_without_overlays_and_a_part_of_a_video(checkpoint: Path, tmp_path: Path) -> None:
    source, boxes = video(tmp_path)
    part = options(overlays=False, max_frames=4)
    result = predict_to_files(checkpoint, source, boxes, tmp_path / "out", part)
    assert (result.n_images, result.n_people, result.left_out) == (4, 4, [])
    assert list(files_in(tmp_path / "out")) == ["predictions.csv", "predictions.json"]


def test_the_same_run_again_gives_the_same_bytes(checkpoint: Path, tmp_path: Path) -> None:
    paths, boxes = photos(tmp_path / "photos"), boxes_file(tmp_path / "boxes.csv")
    for name in ("a", "b", "b"):
        predict_to_files(checkpoint, paths, boxes, tmp_path / name, options())
    assert files_in(tmp_path / "a") == files_in(tmp_path / "b")
    predict_to_files(checkpoint, paths, boxes, tmp_path / "b", options(seed=1))
    assert files_in(tmp_path / "a") != files_in(tmp_path / "b")


def test_what_cannot_be_used_is_named_and_left_out(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = photos(tmp_path / "photos")
    paths[1].write_bytes(b"no image")
    boxes = boxes_file(tmp_path / "boxes.csv")
    boxes.write_text(
        boxes.read_text() + "2.png,48,3,70,18,far,,\nother.png,1,2,3,4,,,\n2.png,1,1,9,9,a,1e9,1\n"
    )
    caplog.set_level("INFO", "keypoint_detection")
    result = predict_to_files(checkpoint, paths, boxes, tmp_path / "out", options())
    assert (result.n_images, result.n_people) == (4, 4)
    assert len(result.left_out) == 2
    assert f"{boxes}:9: expected an eye within 1e+06 pixels, got 1e+09, 1" in result.left_out[1]
    assert "corrupt, cut or unknown file" in result.left_out[0]
    assert "1.png" in result.left_out[0]
    assert (
        f"{boxes}:7: expected a head box on the image of 48x32 pixels, got 48, 3, 70, 18"
        in (result.left_out[1])
    )
    assert all(f"left out: {line}" in caplog.messages for line in result.left_out)
    assert f"{boxes}: 1 of its 5 images are not in the source" in caplog.messages
    entries = read_entries(tmp_path / "out")
    assert [Path(entry["source"]).name for entry in entries] == ["0.png", "2.png", "3.png", "4.png"]
    assert [person["person"] for person in entries[1]["people"]] == ["0"]


def test_boxes_behind_the_end_of_a_video(checkpoint: Path, tmp_path: Path) -> None:
    source, boxes = video(tmp_path)
    boxes.write_text(boxes.read_text() + "12,1,2,30,30\n9,1,2,30,30\n")
    result = predict_to_files(checkpoint, source, boxes, tmp_path / "out", options())
    assert result.n_people == 9
    assert result.left_out == [f"{boxes}: 2 frames with boxes, such as 9, are beyond the 9 of the video"]


def test_depth_maps(tmp_path: Path) -> None:
    checkpoint = save_follower(tmp_path / "deep.ckpt", depth=True)
    paths, boxes = photos(tmp_path / "photos"), boxes_file(tmp_path / "boxes.csv")
    folder = tmp_path / "depth"
    (folder / "photos").mkdir(parents=True)
    depths = [folder / "photos" / path.name for path in paths]
    for number, path in enumerate(depths):
        cv2.imwrite(str(path), np.full((20, 30), 40 * number, np.uint8))
    deep = options(depth=str(folder), overlays=False)
    with pytest.raises(ValueError, match="was trained with depth maps, got none"):
        predict_to_files(checkpoint, paths, boxes, tmp_path / "out", options())
    result = predict_to_files(checkpoint, paths, boxes, tmp_path / "out", deep)
    assert result.n_people == 5
    before = read_entries(tmp_path / "out")
    cv2.imwrite(str(depths[2]), np.random.default_rng(1).integers(0, 256, (20, 30), np.uint8))
    depths[3].unlink()
    result = predict_to_files(checkpoint, paths, boxes, tmp_path / "out", deep)
    assert len(result.left_out) == 1
    assert "3.png" in result.left_out[0]
    after = read_entries(tmp_path / "out")
    assert [one == other for one, other in zip(before, after, strict=True)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert after[3]["people"] == []
    with pytest.raises(FileNotFoundError, match="expected a folder of depth maps"):
        predict_to_files(checkpoint, paths, boxes, tmp_path / "out", options(depth=str(tmp_path / "gone")))


def test_depth_maps_of_a_video(tmp_path: Path) -> None:
    checkpoint = save_follower(tmp_path / "deep.ckpt", depth=True)
    source, boxes = video(tmp_path, 5)
    (tmp_path / "depth").mkdir()
    for frame in range(4):
        cv2.imwrite(str(tmp_path / f"depth/{frame}.png"), np.full((20, 30), 40 * frame, np.uint8))
    deep = options(depth=str(tmp_path / "depth"), overlays=False)
    result = predict_to_files(checkpoint, source, boxes, tmp_path / "out", deep)
    assert result.left_out == ["expected a depth map for frame 4, got 4 in all; give one per frame"]
    assert [len(entry["people"]) for entry in read_entries(tmp_path / "out")] == [1, 2, 1, 0, 0]


def test_what_does_not_fit_together(checkpoint: Path, tmp_path: Path) -> None:
    paths, boxes = photos(tmp_path / "photos"), boxes_file(tmp_path / "boxes.csv")
    (tmp_path / "clip").mkdir()
    source, frames = video(tmp_path / "clip")
    output = tmp_path / "out"
    with pytest.raises(ValueError, match=r"expected boxes with the numbers of frames .* got names of images"):
        predict_to_files(checkpoint, source, boxes, output)
    with pytest.raises(ValueError, match="got numbers of frames"):
        predict_to_files(checkpoint, paths, frames, output)
    shutil.copy(source, tmp_path / "second.avi")
    with pytest.raises(ValueError, match=r"expected images or one video, .* got 2 videos"):
        predict_to_files(checkpoint, [source, tmp_path / "second.avi"], frames, output)
    with pytest.raises(ValueError, match="got a camera"):
        predict_to_files(checkpoint, "camera:0", frames, output)
    with pytest.raises(ValueError, match="was trained without depth maps"):
        predict_to_files(checkpoint, paths, boxes, output, options(depth=str(tmp_path / "photos")))
    with pytest.raises(FileNotFoundError, match="expected a file of head boxes"):
        predict_to_files(checkpoint, paths, tmp_path / "gone.csv", output)
    for values in ({"samples": 0}, {"batch_size": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"expected {next(iter(values))} >= "):
            options(**values)
    assert not output.exists()


def test_the_heat_is_kept_to_the_bit() -> None:
    heat = np.random.default_rng(0).integers(0, 256, (13, 17), np.uint8)
    assert np.array_equal(unpacked(packed(heat)), heat)


@pytest.mark.parametrize("kind", ["images", "video"])
def test_a_stopped_run_goes_on_and_gives_the_same_files(
    kind: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "video":
        source, boxes = video(tmp_path)
    else:
        photos(tmp_path / "photos")
        source, boxes = tmp_path / "photos", boxes_file(tmp_path / "boxes.csv")
    predict_to_files(checkpoint, source, boxes, tmp_path / "whole", options())
    run, calls = predict_run.predict_gaze, []

    def stopping(follower: Any, images: Any, *args: Any, **values: Any) -> Any:
        calls.append(len(images))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return run(follower, images, *args, **values)

    monkeypatch.setattr(predict_run, "predict_gaze", stopping)
    with pytest.raises(KeyboardInterrupt, match=r"interrupted; [12] of [59] .* are finished and kept"):
        predict_to_files(checkpoint, source, boxes, tmp_path / "out", options())
    assert list(files_in(tmp_path / "out")) == ["predictions.partial.jsonl"]
    predict_to_files(checkpoint, source, boxes, tmp_path / "out", options())
    check_same_files(tmp_path / "whole", tmp_path / "out")


def test_other_boxes_or_options_start_anew(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    photos(tmp_path / "photos")
    run = predict_run.predict_gaze

    def failing(follower: Any, images: Any, *args: Any, **values: Any) -> Any:
        if images[0].shape[0] == 60:
            raise RuntimeError("out of memory")
        return run(follower, images, *args, **values)

    for change in ("file of boxes", "option"):
        boxes = boxes_file(tmp_path / "boxes.csv")
        given = (checkpoint, tmp_path / "photos", boxes, tmp_path / "out")
        monkeypatch.setattr(predict_run, "predict_gaze", failing)
        with pytest.raises(RuntimeError, match="out of memory"):
            predict_to_files(*given, options(batch_size=1))
        monkeypatch.setattr(predict_run, "predict_gaze", run)
        if change == "file of boxes":
            boxes.write_text(HEADER + "3.png,1,2,20,20,,,\n")
        result = predict_to_files(*given, options(batch_size=1, seed=3 if change == "option" else 0))
        assert result.n_people == (1 if change == "file of boxes" else 5)
        assert any(f"it is of another {change}; starting anew" in message for message in caplog.messages)


KILLED = """
import sys, time
from keypoint_detection.gaze import predict_run
from keypoint_detection.gaze.predict import predict_to_files
from keypoint_detection.gaze.predict_options import GazePredictOptions
run, calls = predict_run.predict_gaze, []
def slow(*args, **values):
    calls.append(1)
    time.sleep(600 if len(calls) == 3 else 0)  # until it is killed
    return run(*args, **values)
predict_run.predict_gaze = slow
predict_to_files(*sys.argv[1:5], GazePredictOptions(samples=3, batch_size=2))
"""


def test_a_killed_run_leaves_no_half_file(checkpoint: Path, tmp_path: Path) -> None:
    source, boxes = video(tmp_path)
    predict_to_files(checkpoint, source, boxes, tmp_path / "whole", options())
    command = [sys.executable, "-c", KILLED, str(checkpoint), str(source), str(boxes), str(tmp_path / "out")]
    partial = tmp_path / "out/predictions.partial.jsonl"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        for _ in range(1200):
            if partial.is_file() and partial.read_bytes().count(b"\n") >= 4:
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    assert list(files_in(tmp_path / "out")) == ["predictions.partial.jsonl"]
    predict_to_files(checkpoint, source, boxes, tmp_path / "out", options())
    check_same_files(tmp_path / "whole", tmp_path / "out")
