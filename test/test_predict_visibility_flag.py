"""`predict --visibility`: what a visibility classifier adds to the files of a run."""

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from predicting import (
    CHANNELS,
    frames,
    read_predictions,
    save_detector,
    without_overlays,
    write_images,
    write_video,
)

from keypoint_detection import predict_run, visibility
from keypoint_detection.commands_predict import run_predict
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.predict import predict_to_files
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.visibility.classifier import VisibilityClassifier
from keypoint_detection.visibility.predict_visibility import DecodedImage, load_point_visibility


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("model") / "model.ckpt")


def save_classifier(path: Path, seed: int = 6, n_channels: int = 3) -> Path:
    """Write a classifier of random weights that finds about half of the places of a drawn frame visible."""
    torch.manual_seed(seed)
    made = VisibilityClassifier((1, 2), n_channels, patch_px=16, size_hidden=8).eval()
    if n_channels == 3:
        xy = np.random.default_rng(0).uniform(0, 40, (200, 2))
        patches = DecodedImage(frames(1, (40, 50))[0], (1, 2)).patches(xy, 16)
        with torch.no_grad():
            list(made.network.parameters())[-1].sub_(made(torch.from_numpy(patches)).median())
    torch.save({"hyper_parameters": dict(made.hparams), "state_dict": made.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("visibility") / "visibility.ckpt")


def stripped(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries without what a classifier adds."""
    return [
        {
            **entry,
            "keypoints": {
                name: [{key: point[key] for key in ("x", "y", "score")} for point in channel]
                for name, channel in entry["keypoints"].items()
            },
        }
        for entry in entries
    ]


def test_every_point_of_every_file_says_whether_it_is_seen(
    checkpoint: Path, model: Path, tmp_path: Path
) -> None:
    paths = write_images(tmp_path / "photos", [(40, 50), (40, 50), (33, 47)])
    files = {"coco": True, "deeplabcut": True}
    predict_to_files(checkpoint, paths, tmp_path / "plain", without_overlays(**files))
    predict_to_files(checkpoint, paths, tmp_path / "out", without_overlays(visibility=model, **files))
    plain, entries = read_predictions(tmp_path / "plain"), read_predictions(tmp_path / "out")
    assert stripped(entries) == plain
    tell = load_point_visibility(model)
    flags = []
    for path, entry in zip(paths, entries, strict=True):
        points = [point for channel in entry["keypoints"].values() for point in channel]
        expected = tell.p_visible(load_image(path), np.array([(p["x"], p["y"]) for p in points]))
        assert [point["p_visible"] for point in points] == pytest.approx(expected.tolist(), abs=1e-6)
        assert [point.get("visibility", 2) for point in points] == [1 if p < 0.5 else 2 for p in expected]
        flags += [point.get("visibility", 2) for point in points]
    assert set(flags) == {1, 2}

    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "channel", "rank", "x", "y", "score", "visibility", "p_visible"]
    points = [point for entry in entries for channel in entry["keypoints"].values() for point in channel]
    assert [row["p_visible"] for row in rows] == [f"{point['p_visible']:.4f}" for point in points]
    assert [int(row["visibility"]) for row in rows] == flags

    old, new = (json.loads((tmp_path / n / "predictions_coco.json").read_text()) for n in ("plain", "out"))
    for entry, before, after in zip(entries, old, new, strict=True):
        best = [entry["keypoints"][name][0] for (name,) in CHANNELS]
        assert after["keypoints"][2::3] == [point.get("visibility", 2) for point in best]
        assert after["keypoint_scores"] == before["keypoints"][2::3]
        assert after["p_visible"] == [point["p_visible"] for point in best]
        for part in (0, 1):
            assert after["keypoints"][part::3] == before["keypoints"][part::3]
        assert {key: after[key] for key in ("image_id", "score")} == {
            key: before[key] for key in ("image_id", "score")
        }
    tables = sorted((tmp_path / "plain" / "deeplabcut").glob("*.csv"))
    assert len(tables) == 1
    for table in tables:
        assert table.read_bytes() == (tmp_path / "out" / "deeplabcut" / table.name).read_bytes()


def test_frames_of_a_video_are_told_apart_too(checkpoint: Path, model: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "mouse.avi", 5, (64, 96))
    few = {"max_keypoints": 1, "confidence_threshold": 0.0, "batch_size": 2, "names": False}
    predict_to_files(checkpoint, video, tmp_path / "plain", PredictOptions(**few))
    predict_to_files(checkpoint, video, tmp_path / "out", PredictOptions(**few, visibility=model))
    entries = read_predictions(tmp_path / "out")
    assert stripped(entries) == read_predictions(tmp_path / "plain")
    assert all("p_visible" in p for e in entries for c in e["keypoints"].values() for p in c)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert next(csv.reader(file))[-3:] == ["score", "visibility", "p_visible"]
    captures = [cv2.VideoCapture(str(tmp_path / name / "overlay.mp4")) for name in ("plain", "out")]
    occluded = 0
    for entry in entries:
        before, after = (capture.read()[1].astype(int) for capture in captures)
        hidden = sum(p.get("visibility") == 1 for channel in entry["keypoints"].values() for p in channel)
        assert (np.abs(before - after).max() > 60) == (hidden > 0)
        occluded += hidden
    assert occluded > 0


def test_overlays_of_images_mark_what_is_occluded(checkpoint: Path, model: Path, tmp_path: Path) -> None:
    (path,) = write_images(tmp_path / "photos", [(64, 96)])
    few = {"max_keypoints": 1, "confidence_threshold": 0.0, "names": False}
    predict_to_files(checkpoint, path, tmp_path / "plain", PredictOptions(**few))
    predict_to_files(checkpoint, path, tmp_path / "out", PredictOptions(**few, visibility=model))
    (entry,) = read_predictions(tmp_path / "out")
    before, after = (
        load_image(tmp_path / name / "overlays" / "0.png").astype(int) for name in ("plain", "out")
    )
    enlarged = before.shape[1] // 96
    rows, columns = np.nonzero(np.abs(before - after).max(-1) > 30)
    points = [
        (point, (point["x"] + 0.5) * enlarged - 0.5, (point["y"] + 0.5) * enlarged - 0.5)
        for (point,) in entry["keypoints"].values()
    ]
    reach = [np.hypot(columns - x, rows - y) for point, x, y in points if point.get("visibility") == 1]
    assert 0 < len(reach) < 3
    assert all(distance.min() < 8 for distance in reach)
    assert np.min(reach, axis=0).max() < 12  # nothing else has changed


@pytest.mark.parametrize("change", ["other model", "no model", "same"])
def test_a_stopped_run_goes_on_with_the_same_classifier_alone(
    change: str, checkpoint: Path, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    monkeypatch, caplog = (request.getfixturevalue(name) for name in ("monkeypatch", "caplog"))
    caplog.set_level("INFO", "keypoint_detection")
    video = write_video(tmp_path / "mouse.avi", 6)
    run, calls = predict_run.predict_batch, []

    def stop_at_third(*args: Any) -> Any:
        calls.append(None)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run(*args)

    options = without_overlays(batch_size=2, visibility=model)
    with monkeypatch.context() as patch:
        patch.setattr(predict_run, "predict_batch", stop_at_third)
        with pytest.raises(KeyboardInterrupt):
            predict_to_files(checkpoint, video, tmp_path / "out", options)
    other = save_classifier(tmp_path / "other.ckpt", seed=7)
    chosen = {"other model": other, "no model": None, "same": model}[change]
    options = without_overlays(batch_size=2, visibility=chosen)
    predict_to_files(checkpoint, video, tmp_path / "out", options)
    text = "going on behind 4" if change == "same" else "it is of another visibility model; starting anew"
    assert text in caplog.text
    predict_to_files(checkpoint, video, tmp_path / "whole", options)
    for name in ("predictions.json", "predictions.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_flag_is_passed_on(
    checkpoint: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_images(tmp_path / "photos", [(32, 32)] * 2)
    argv = ["--checkpoint", str(checkpoint), "--source", str(tmp_path / "photos"), "--accelerator", "cpu"]
    argv += ["--confidence_threshold", "0", "--output", str(tmp_path / "out"), "--no-overlays"]
    assert run_predict([*argv, "--visibility", str(model)]) == 0
    assert "in 2 images" in capsys.readouterr().out
    points = [p for e in read_predictions(tmp_path / "out") for c in e["keypoints"].values() for p in c]
    assert points
    assert all(0 <= point["p_visible"] <= 1 for point in points)


def test_what_does_not_fit_is_one_line_with_nothing_written(checkpoint: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "photos", [(32, 32)])

    def message(classifier: Path, detector: Path = checkpoint) -> str:
        options = without_overlays(visibility=classifier)
        with pytest.raises((ValueError, FileNotFoundError)) as caught:
            predict_to_files(detector, tmp_path / "photos", tmp_path / "out", options)
        assert not (tmp_path / "out").exists()
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert f"--visibility: no checkpoint at {tmp_path / 'none.ckpt'}" in message(tmp_path / "none.ckpt")
    assert f"--visibility: {checkpoint} is a checkpoint of a keypoint detector" in message(checkpoint)
    depth = save_classifier(tmp_path / "depth.ckpt", n_channels=4)
    assert "expected a classifier of 3 channels (RGB), got 4" in message(depth)
    colour = save_classifier(tmp_path / "colour.ckpt")
    detector = KeypointDetector(CHANNELS, backbone_options={"n_channels": 4, "n_channels_in": 1})
    grey = tmp_path / "grey.ckpt"
    torch.save({"hyper_parameters": dict(detector.hparams), "state_dict": detector.state_dict()}, grey)
    assert "--visibility needs a keypoint detector of RGB images, got one of 1 channels" in message(
        colour, grey
    )


def test_flags_that_a_file_or_the_detector_gives_up_are_spoken_of(
    checkpoint: Path, model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "keypoint_detection")
    (path,) = write_images(tmp_path / "photos", [(32, 32)])
    detector = KeypointDetector(CHANNELS, backbone_options={"n_channels": 4}, occlusion="signed")
    signed = tmp_path / "signed.ckpt"
    torch.save({"hyper_parameters": dict(detector.hparams), "state_dict": detector.state_dict()}, signed)

    def said(detector: Path, **options: Any) -> list[str]:
        caplog.clear()
        predict_to_files(detector, path, tmp_path / "out", without_overlays(**options))
        words = {
            "--visibility: the detector tells": "classifier wins",
            "--deeplabcut: its tables": "no flags",
        }
        return [words[start] for r in caplog.records for start in words if r.message.startswith(start)]

    assert said(checkpoint, visibility=model) == []
    assert said(checkpoint, deeplabcut=True) == []
    assert said(signed) == []
    assert said(signed, deeplabcut=True) == ["no flags"]
    assert said(signed, visibility=model, deeplabcut=True) == ["classifier wins", "no flags"]
    points = [p for e in read_predictions(tmp_path / "out") for c in e["keypoints"].values() for p in c]
    assert all((p.get("visibility", 2) == 1) == (p["p_visible"] < 0.5) for p in points)


def test_predictions_in_python_get_the_same_numbers(checkpoint: Path, model: Path, tmp_path: Path) -> None:
    (path,) = write_images(tmp_path / "photos", [(40, 50)])
    options = without_overlays(visibility=model)
    predict_to_files(checkpoint, path, tmp_path / "out", options)
    (found,) = load_model(checkpoint).predict(path)
    seen = visibility.load_point_visibility(model)(load_image(path), found)
    (entry,) = read_predictions(tmp_path / "out")
    assert seen.to_dict()["keypoints"] == entry["keypoints"]
