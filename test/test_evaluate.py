import json
from pathlib import Path

import pytest

from keypoint_detection.evaluate import EvalOptions, evaluate, metrics_report, scores_table


def test_scores_and_detections_are_written_under_a_contract(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written["metrics"]["map"]["value"] == pytest.approx(values["map"])
    assert set(written["metrics"]["ap@2px"]["per_channel"]) == {
        "corner0=corner1=corner2=corner3",
        "flap_left",
        "flap_right",
    }
    assert written["contract"]["thresholds"] == [2.0, 4.0]
    assert written["contract"]["images"] == 6
    found = json.loads((tmp_path / "predictions.json").read_text())["predictions"]
    assert len(found) == 6
    assert all((boxes_json.parent / image["file_name"]).is_file() for image in found)


def test_options_replace_those_of_the_training_and_change_the_hash(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    options = EvalOptions(thresholds=[8.0], image_size=(48, 48), detect_only_visible_keypoints=True)
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "a")
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path / "b", options)
    contracts = [json.loads((tmp_path / name / "metrics.json").read_text())["contract"] for name in "ab"]
    assert "ap@8px" in values
    assert contracts[1]["image_size"] == [48, 48]
    assert contracts[1]["visibility"] == "visible only"
    assert contracts[0]["hash"] != contracts[1]["hash"]


def test_evaluation_equals_the_validation_of_the_training(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    from keypoint_detection.data.datamodule import KeypointsDataModule
    from keypoint_detection.utils.load_checkpoints import load_model

    detector = load_model(tiny_checkpoint)
    data = KeypointsDataModule(
        json_dataset_path=str(boxes_json),
        json_validation_dataset_path=str(boxes_json),
        keypoint_channel_configuration=detector.hparams["keypoint_channel_configuration"],
        num_workers=0,
    )
    trainer = pl.Trainer(
        logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False
    )
    validated = trainer.validate(detector, data, verbose=False)[0]
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path)
    for name in ("map", "mean_error_px", "rmse_px", "ap@4px"):
        assert values[name] == pytest.approx(validated[f"validation/{name}"], rel=1e-5)


def test_undefined_numbers_are_null_not_nan() -> None:
    report = metrics_report({"map": float("nan"), "a/map": float("nan")}, ["a"], {"hash": "x"})
    assert report["metrics"]["map"] == {"value": None, "per_channel": {"a": None}}


def test_table_has_a_row_per_channel() -> None:
    lines = scores_table({"map": 0.5, "missed": 2.0, "a/map": 0.25, "b=c/map": 0.75}).splitlines()
    assert [line.split()[0] for line in lines] == ["channel", "all", "a", "b=c"]
    assert lines[1].split() == ["all", "0.5", "2"]
    assert lines[3].split() == ["b=c", "0.75"]
