import hashlib
import json
from pathlib import Path

import pytest

from keypoint_detection import evaluate as evaluation
from keypoint_detection.evaluate import EvalOptions, evaluate

FEW = EvalOptions(n_resamples=50)


def report(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def test_scores_and_detections_are_written_under_a_contract(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path, FEW)
    written = report(tmp_path)
    assert written["metrics"]["map"]["value"] == pytest.approx(values["map"])
    assert set(written["metrics"]["ap@2px"]["per_channel"]) == {
        "corner0=corner1=corner2=corner3",
        "flap_left",
        "flap_right",
    }
    assert written["contract"]["thresholds"] == [2.0, 4.0]
    assert written["contract"]["images"] == 6
    assert written["contract"]["oks_ap"].startswith("not defined: no channel is for 'corner0' alone")
    found = json.loads((tmp_path / "predictions.json").read_text())
    assert len(found) == 6
    assert all((boxes_json.parent / image["file_name"]).is_file() for image in found)
    assert set(found[0]["channels"]) == set(written["metrics"]["map"]["per_channel"])


def test_every_number_has_an_interval_around_it(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    evaluate(tiny_checkpoint, boxes_json, tmp_path, FEW)
    metrics = report(tmp_path)["metrics"]
    low, high = metrics["mean_error_px"]["interval"]
    assert low < metrics["mean_error_px"]["value"] < high
    assert {"map", "rmse_px", "image_rmse_px", "missed", "nme", "pck@0.1", "pck_auc@0.2"} <= set(metrics)
    for name, metric in metrics.items():
        low, high = metric["interval"]
        assert low <= high, name
        assert set(metric["per_channel_interval"]) == set(metric["per_channel"]), name
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "none", EvalOptions(n_resamples=0))
    assert report(tmp_path / "none")["metrics"]["map"]["interval"] is None


def test_options_replace_those_of_the_training_and_change_the_hash(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    options = EvalOptions(
        thresholds=[8.0],
        detect_only_visible_keypoints=True,
        scoring={"pck_alpha": [0.3], "pck_normalizer": "image_diagonal", "ap_interpolation": "101"},
        n_resamples=0,
    )
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "a", EvalOptions(n_resamples=0))
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path / "b", options)
    a, b = report(tmp_path / "a")["contract"], report(tmp_path / "b")["contract"]
    assert {"ap@8px", "pck@0.3"} <= set(values)
    assert (b["pck"]["alpha"], b["pck"]["length"]) == ([0.3], "image diagonal")
    assert (b["interpolation"], b["visibility"]) == ("101 recalls", "visible; occluded ones are ignored")
    assert a["hash"] != b["hash"]


def test_how_the_model_was_run_does_not_change_the_hash(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "a", EvalOptions(n_resamples=0))
    run = EvalOptions(n_resamples=0, image_size=(48, 48), flip_test=True)
    evaluate(tiny_checkpoint, boxes_json, tmp_path / "b", run)
    a, b = report(tmp_path / "a"), report(tmp_path / "b")
    assert a["contract"] == b["contract"]
    assert b["inference"]["image_size"] == [48, 48]
    assert b["inference"]["flip_test"]
    assert a["metrics"]["mean_error_px"]["value"] != b["metrics"]["mean_error_px"]["value"]


def test_evaluation_equals_the_validation_of_the_training(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    import pytorch_lightning as pl

    from keypoint_detection.train.config import TrainConfig
    from keypoint_detection.train.utils import build_data_module
    from keypoint_detection.utils.load_checkpoints import load_model

    detector = load_model(tiny_checkpoint)
    config = TrainConfig(
        json_dataset_path=str(boxes_json),
        json_validation_dataset_path=str(boxes_json),
        keypoint_channel_configuration=detector.hparams["keypoint_channel_configuration"],
        num_workers=0,
    )
    trainer = pl.Trainer(
        logger=False, accelerator="cpu", enable_progress_bar=False, enable_checkpointing=False
    )
    validated = trainer.validate(detector, build_data_module(config), verbose=False)[0]
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path, EvalOptions(n_resamples=0))
    for name, value in values.items():
        assert value == pytest.approx(validated[f"validation/{name}"], rel=1e-5, nan_ok=True), name


def test_groups_need_their_field(tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="video"):
        evaluate(tiny_checkpoint, boxes_json, tmp_path / "out", EvalOptions(group_by="video"))
    assert not (tmp_path / "out").exists()


def test_detections_need_a_model_of_instances(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="--input_mode instance"):
        evaluate(tiny_checkpoint, boxes_json, tmp_path, EvalOptions(detections=tmp_path / "boxes.json"))


def test_a_folder_that_cannot_be_written_to_is_found_before_the_model_is_run(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "run_detector", lambda *_, **__: pytest.fail("the model was run"))
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "eval"):
        with pytest.raises(ValueError, match="--output: expected a folder to write into, got") as caught:
            evaluate(tiny_checkpoint, boxes_json, output, FEW)
        assert str(output) in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"

    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(evaluation.tempfile, "TemporaryFile", refuse)  # root may write anywhere
    with pytest.raises(ValueError, match=r"Permission denied"):
        evaluate(tiny_checkpoint, boxes_json, tmp_path / "locked", FEW)


def test_the_file_says_which_weights_it_is_of(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path
) -> None:
    evaluate(tiny_checkpoint, boxes_json, tmp_path, EvalOptions(n_resamples=0, report=False))
    digest = hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()[:12]
    assert report(tmp_path)["inference"]["checkpoint"] == f"{tiny_checkpoint.name} ({digest})"
