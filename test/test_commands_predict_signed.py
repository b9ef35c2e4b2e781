"""Signed heatmaps through the commands: a training of two steps, its evaluation, and its predictions."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.data.coco_dataset_table import read_table
from keypoint_detection.data.coco_results import read_results
from keypoint_detection.data.imageloader import load_image
from keypoint_detection.records import Keypoint, Prediction
from keypoint_detection.report_images import image_entries
from keypoint_detection.report_samples import read_evaluated
from keypoint_detection.utils.load_checkpoints import load_model
from keypoint_detection.utils.visualization import draw_prediction
from keypoint_detection.visibility.synthetic_occluders import make_occluded

CHANNELS = ["corner0", "flap_left", "flap_right"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_occluded(tmp_path_factory.mktemp("occluded"), 2, (48, 48), seed=3, kind="boxes")


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two steps."""
    root = tmp_path_factory.mktemp("runs")
    data = ["--json_dataset_path", str(dataset), "--json_validation_dataset_path", str(dataset)]
    data += ["--keypoint_channel_configuration", ";".join(CHANNELS)]
    size = ["--n_channels", "4", "--batch_size", "2", "--max_epochs", "2", "--num_workers", "0"]
    place = ["--default_root_dir", str(root), "--run_name", "signed", "--accelerator", "cpu", "--seed", "2"]
    assert main(["train", "--occlusion", "signed", *data, *size, *place]) == 0
    return root / "signed"


def test_the_checkpoint_is_of_signed_heatmaps(run: Path) -> None:
    detector = load_model(run / "checkpoints" / "last.ckpt")
    assert detector.head.is_signed
    assert detector.hparams["occlusion"] == "signed"


def test_the_evaluation_scores_what_is_told_of_occlusion(run: Path, dataset: Path, tmp_path: Path) -> None:
    argv = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--json_dataset_path", str(dataset)]
    argv += ["--output", str(tmp_path / "eval"), "--n_resamples", "20", "--accelerator", "cpu"]
    assert main(["eval", *argv]) == 0
    report = json.loads((tmp_path / "eval" / "metrics.json").read_text())
    assert {"visibility_accuracy", "visibility_auroc"} <= {*report["metrics"]}
    assert report["inference"]["occlusion"] == "signed"
    written = {path.name for path in (tmp_path / "eval").iterdir()}
    assert {"per_keypoint.csv", "per_image.csv", "predictions.json", "report.html"} <= written
    found = json.loads((tmp_path / "eval" / "predictions.json").read_text())
    told = [
        point.get("visibility", 2)
        for one in found
        for channel in one["channels"].values()
        for point in channel
    ]
    assert {*told} == {1, 2}
    shown = image_entries(read_evaluated(tmp_path / "eval", read_table(dataset)))
    assert [point[4:] for image in shown for point in image["predictions"]] == [
        [1] if flag == 1 else [] for flag in told
    ]


def test_the_predictions_tell_occluded_from_visible_in_every_file(
    run: Path, dataset: Path, tmp_path: Path
) -> None:
    output, images = tmp_path / "out", dataset.parent / "images"
    argv = ["--checkpoint", str(run / "checkpoints" / "last.ckpt"), "--source", str(images)]
    argv += ["--output", str(output), "--coco", "--confidence_threshold", "0", "--accelerator", "cpu"]
    assert main(["predict", *argv]) == 0
    entries = json.loads((output / "predictions.json").read_text())["predictions"]
    points = [point for entry in entries for channel in entry["keypoints"].values() for point in channel]
    flags = [point.get("visibility", 2) for point in points]
    assert len(entries) == 2
    assert {*flags} == {1, 2}  # maps after two steps have peaks of both signs
    assert all(0 < point["score"] <= 1 for point in points)
    with (output / "predictions.csv").open(newline="") as file:
        assert [int(row["visibility"]) for row in csv.DictReader(file)] == flags
    coco = json.loads((output / "predictions_coco.json").read_text())
    best = [[entry["keypoints"][name][0] for name in CHANNELS] for entry in entries]
    assert [entry["keypoints"][2::3] for entry in coco] == [
        [point.get("visibility", 2) for point in one] for one in best
    ]
    scores = read_results(output / "predictions_coco.json", [1, 2], 3).keypoint_scores
    assert scores.tolist() == [[point["score"] for point in one] for one in best]


def test_overlays_do_not_show_occluded_points_as_visible(run: Path, dataset: Path, tmp_path: Path) -> None:
    checkpoint, (path, *_) = run / "checkpoints" / "last.ckpt", sorted((dataset.parent / "images").iterdir())
    argv = ["--checkpoint", str(checkpoint), "--source", str(path), "--output", str(tmp_path / "out")]
    assert main(["predict", *argv, "--confidence_threshold", "0", "--accelerator", "cpu"]) == 0
    overlay = cv2.imread(str(tmp_path / "out" / "overlays" / path.name))
    assert overlay is not None
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())["predictions"]
    drawn = []
    for flags in ("told", "all visible"):
        channels = tuple(
            tuple(
                Keypoint(p["x"], p["y"], p["score"], p.get("visibility", 2) if flags == "told" else 2)
                for p in entry["keypoints"][name]
            )
            for name in CHANNELS
        )
        prediction = Prediction(channels, tuple(CHANNELS), (48, 48))
        lines = load_model(checkpoint).channel_skeleton
        drawn.append(draw_prediction(load_image(path), prediction, 0.0, 8, skeleton=lines))
    assert np.array_equal(overlay[..., ::-1], drawn[0])
    assert not np.array_equal(drawn[0], drawn[1])
