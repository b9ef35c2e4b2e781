"""Signed heatmaps end to end: four small images are overfitted, and every flag comes back everywhere."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import keypoint_detection as kd
from keypoint_detection.data.coco_parser import read_coco
from keypoint_detection.evaluate import EvalOptions, evaluate
from keypoint_detection.score_sheet import load_score_sheet
from keypoint_detection.train.train import TrainResult
from keypoint_detection.utils.init_weights import init_weights
from keypoint_detection.visibility.synthetic_occluders import make_occluded


@pytest.fixture(scope="module")
def occluded_json(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_occluded(tmp_path_factory.mktemp("occluded"), 4, (48, 48), seed=1, kind="boxes")


def config(path: Path, root: Path, **changes) -> kd.TrainConfig:
    settings = {
        "json_dataset_path": str(path),
        "json_validation_dataset_path": str(path),
        "keypoint_channel_configuration": "corner0 = corner1 = corner2 = corner3; flap_left; flap_right",
        "occlusion": "signed",
        "n_channels": 12,
        "batch_size": 4,
        "max_epochs": 80,
        "learning_rate": 5e-3,
        "ema_decay": 0.8,
        "check_val_every_n_epoch": 80,
        "maximal_gt_keypoint_pixel_distances": [2.0],
        "default_root_dir": str(root),
        "run_name": "signed",
        "accelerator": "cpu",
        "num_workers": 0,
        "trainer": {"enable_progress_bar": False},
    }
    return kd.TrainConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def result(occluded_json: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    return kd.train(config(occluded_json, tmp_path_factory.mktemp("runs")))


def labels(path: Path) -> list[list[tuple[float, float, int]]]:
    """Return `(x, y, flag)` of the labelled points of every image."""
    coco = read_coco(path)
    found: dict[int, list[tuple[float, float, int]]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        for x, y, flag in np.reshape(annotation.keypoints, (-1, 3)).tolist():
            if flag > 0:
                found[annotation.image_id].append((x, y, int(flag)))
    return list(found.values())


def test_every_keypoint_and_every_sign_is_learned(result: TrainResult) -> None:
    values = {name.removeprefix("validation/"): value for name, value in result.validation.items()}
    assert values["map"] == 1.0
    assert values["visibility_accuracy"] == values["visibility_auroc"] == 1.0
    assert "flap_left/visibility_auroc" in values


def test_predictions_carry_the_flag_of_every_label(result: TrainResult, occluded_json: Path) -> None:
    model = kd.load_model(result.last_checkpoint)
    images = sorted((occluded_json.parent / "images").glob("*.png"))
    flags = set()
    for prediction, points in zip(model.predict(images), labels(occluded_json), strict=True):
        found = [point for channel in prediction.keypoints for point in channel if point.score > 0.5]
        assert len(found) == len(points)
        for x, y, flag in points:
            nearest = min(found, key=lambda point: (point.x - x) ** 2 + (point.y - y) ** 2)
            assert np.hypot(nearest.x - x, nearest.y - y) < 2
            assert nearest.visibility == flag
            flags.add(flag)
    assert flags == {1, 2}


def test_an_evaluation_scores_the_flags_with_intervals(
    result: TrainResult, occluded_json: Path, tmp_path: Path
) -> None:
    values = evaluate(result.last_checkpoint, occluded_json, tmp_path, EvalOptions(n_resamples=40))
    assert values["visibility_accuracy"] == values["visibility_auroc"] == 1.0
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert report["metrics"]["visibility_accuracy"]["value"] == 1.0
    assert report["metrics"]["visibility_accuracy"]["interval"] == [1.0, 1.0]
    assert "flap_right" in report["metrics"]["visibility_auroc"]["per_channel"]
    assert report["contract"]["visibility_scores"].startswith("sign of the map")
    assert report["inference"]["occlusion"] == "signed"
    assert load_score_sheet(tmp_path / "matches.npz").values()["visibility_auroc"] == 1.0
    written = json.loads((tmp_path / "predictions.json").read_text())
    flags = [
        sorted(point.get("visibility", 2) for points in entry["channels"].values() for point in points)
        for entry in written
        if all(point["score"] > 0 for points in entry["channels"].values() for point in points)
    ]
    assert len(flags) == 4
    assert {flag for entry in flags for flag in entry} == {1, 2}
    assert (tmp_path / "report.html").is_file()
    with (tmp_path / "per_keypoint.csv").open() as file:
        assert list(csv.reader(file))


def test_only_visible_labels_have_no_flags_to_score(
    result: TrainResult, occluded_json: Path, tmp_path: Path
) -> None:
    options = EvalOptions(detect_only_visible_keypoints=True, n_resamples=0, report=False)
    values = evaluate(result.last_checkpoint, occluded_json, tmp_path, options)
    assert np.isnan(values["visibility_accuracy"])
    assert values["mean_error_px"] < 1


def test_another_kind_of_map_is_not_gone_on_with(
    result: TrainResult, occluded_json: Path, tmp_path: Path
) -> None:
    changes = {"occlusion": "ignore", "ckpt_path": str(result.last_checkpoint), "max_epochs": 81}
    with pytest.raises(
        ValueError, match=r"^--ckpt_path: expected a run with --occlusion ignore, got one with"
    ):
        kd.train(config(occluded_json, tmp_path, **changes))


def test_weights_of_the_backbone_are_taken_for_another_kind_of_map(result: TrainResult) -> None:
    model = kd.KeypointDetector([["a"], ["b"], ["c"]], "Unet", {"n_channels": 12})
    match = init_weights(model, str(result.last_checkpoint))
    assert set(match.missing) == {"head.weight", "head.bias"}
    assert set(match.unused) == {"head.signed.weight", "head.signed.bias"}


def test_other_models_have_no_scores_of_visibility(
    boxes_json: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    values = evaluate(tiny_checkpoint, boxes_json, tmp_path, EvalOptions(n_resamples=0, report=False))
    assert not [name for name in values if "visibility" in name]
    assert "visibility_scores" not in json.loads((tmp_path / "metrics.json").read_text())["contract"]
    assert '"visibility"' not in (tmp_path / "predictions.json").read_text()
