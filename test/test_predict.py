import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_lightning as pl

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.predict import predict_to_files
from keypoint_detection.utils.load_checkpoints import load_model


def test_points_and_overlays_are_written_for_every_image(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    folder = boxes_json.parent / "images"
    result = predict_to_files(tiny_checkpoint, folder, tmp_path, confidence_threshold=0.0, batch_size=4)
    assert len(result.predictions) == 6
    assert result.unreadable == []
    written = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    points = [point for image in written for channel in image["keypoints"].values() for point in channel]
    assert len(points) == len(rows) > 0
    assert float(rows[0]["x"]) == pytest.approx(points[0]["x"], abs=1e-3)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 6


def test_a_second_run_replaces_the_first(tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path) -> None:
    for _ in range(2):
        predict_to_files(tiny_checkpoint, boxes_json.parent / "images", tmp_path)
    assert len(list((tmp_path / "overlays").glob("*.png"))) == 6


def test_an_unreadable_image_is_named_and_skipped(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    good = next((boxes_json.parent / "images").glob("*.png"))
    (source / "good.png").write_bytes(good.read_bytes())
    (source / "bad.png").write_bytes(good.read_bytes()[:200])
    result = predict_to_files(tiny_checkpoint, source, tmp_path / "out", overlays=False)
    assert [Path(str(p.source)).name for p in result.predictions] == ["good.png"]
    assert len(result.unreadable) == 1
    assert "bad.png" in result.unreadable[0]
    assert not (tmp_path / "out" / "overlays").exists()


def test_images_of_two_sizes_and_equal_names_keep_their_own_files(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    for name, hw in (("a", (40, 50)), ("b", (70, 33))):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "same.png"), np.zeros((*hw, 3), np.uint8))
    result = predict_to_files(tiny_checkpoint, str(tmp_path / "*" / "same.png"), tmp_path / "out")
    assert [p.image_hw for p in result.predictions] == [(40, 50), (70, 33)]
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 2


def test_the_threshold_is_a_lower_bound_of_the_scores(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    folder = boxes_json.parent / "images"
    everything = load_model(tiny_checkpoint).predict(sorted(folder.glob("*.png")))
    scores = sorted(p.score for prediction in everything for channel in prediction.keypoints for p in channel)
    middle = scores[len(scores) // 2]
    result = predict_to_files(tiny_checkpoint, folder, tmp_path, confidence_threshold=middle, overlays=False)
    kept = [p.score for prediction in result.predictions for channel in prediction.keypoints for p in channel]
    assert min(kept) >= middle
    assert len(kept) == sum(score >= middle for score in scores)


def test_tables_for_deeplabcut_hold_the_best_points(boxes_json: Path, tmp_path: Path) -> None:
    detector = KeypointDetector([["flap_left"], ["flap_right"]], backbone_options={"n_channels": 8})
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(detector)
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    source = boxes_json.parent / "images"
    options = {"confidence_threshold": 0.0, "overlays": False, "deeplabcut": True}
    result = predict_to_files(tmp_path / "model.ckpt", source, tmp_path / "out", **options)
    (table,) = (tmp_path / "out" / "deeplabcut").glob("*.csv")
    with table.open() as file:
        rows = list(csv.reader(file))
    assert rows[1][1:] == ["flap_left"] * 3 + ["flap_right"] * 3
    assert len(rows) == 3 + 6
    best = result.predictions[0]["flap_left"][0]
    assert [float(cell) for cell in rows[3][1:4]] == pytest.approx([best.x, best.y, best.score])


def test_tables_for_deeplabcut_need_a_channel_per_keypoint(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="one keypoint per channel, got corner0 = corner1"):
        predict_to_files(tiny_checkpoint, boxes_json.parent / "images", tmp_path, deeplabcut=True)
    assert list(tmp_path.iterdir()) == []
