import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from point_data import make_points, tiny_config

from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.visibility import train as training
from keypoint_detection.visibility.cross_validation import cross_validate
from keypoint_detection.visibility.evaluate_files import read_evaluation
from keypoint_detection.visibility.load_classifier import load_classifier
from keypoint_detection.visibility.make_dataset import make_dataset
from keypoint_detection.visibility.patches import channel_statistics
from keypoint_detection.visibility.synthetic import make_terrain
from keypoint_detection.visibility.synthetic_occluders import make_occluded
from keypoint_detection.visibility.train import VisibilityTrainResult, train
from keypoint_detection.visibility.train_config import VisibilityTrainConfig
from keypoint_detection.visibility.train_data import open_dataset


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_points(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def result(points: Path, tmp_path_factory: pytest.TempPathFactory) -> VisibilityTrainResult:
    config = tiny_config(
        points,
        tmp_path_factory.mktemp("runs"),
        run_name="one",
        validation_views=["view03"],
        eval_group="tiny",
    )
    return train(config, is_quiet=True)


def test_a_run_leaves_its_files(result: VisibilityTrainResult) -> None:
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (result.run_dir / name).is_file()
    assert not (result.run_dir / "hparams.yaml").exists()
    for name in ("metrics.json", "predictions.csv", "distances.json", "report.html"):
        assert (result.run_dir / "eval" / name).is_file()
    with (result.run_dir / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len([row for row in rows if row["validation/loss"]]) == 2
    assert result.metrics["about"]["eval_group"] == "tiny"


def test_the_scores_are_those_of_the_last_weights_on_unseen_views(
    result: VisibilityTrainResult, points: Path
) -> None:
    evaluation = read_evaluation(result.run_dir / "eval")
    assert set(evaluation.table.point_views.tolist()) == {"view03"}
    classifier, data = load_classifier(result.last_checkpoint), open_dataset(points)
    patches = training.make_patch_loader(
        data.of_views(["view03"]), data.pyramid, 1000, num_workers=0, patch_px=8
    )
    (batch,) = patches
    with torch.inference_mode():
        expected = classifier(batch["patch"]).numpy()
    np.testing.assert_allclose(evaluation.logits, expected, atol=1e-4)


def test_the_statistics_are_of_training_points_only(result: VisibilityTrainResult, points: Path) -> None:
    data = open_dataset(points)
    mean, _ = channel_statistics(data.without_views(["view03"]), data.pyramid, patch_px=8)
    leaky, _ = channel_statistics(data.table, data.pyramid, patch_px=8)
    kept = load_classifier(result.last_checkpoint).hparams["channel_mean"]
    np.testing.assert_allclose(kept, mean)
    assert np.abs(mean - leaky).max() > 0.1


def test_a_run_that_is_interrupted_ends_with_the_same_weights(
    points: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"run_name": "run", "ckpt_path": "last", "dropout": 0.5, "max_epochs": 3}
    whole = train(tiny_config(points, tmp_path / "whole", **common), is_quiet=True)
    config = tiny_config(points, tmp_path / "parts", **common)
    original = training.VisibilityClassifier.training_step

    def interrupted_step(self: training.VisibilityClassifier, batch: dict, batch_idx: int) -> torch.Tensor:
        if self.trainer.current_epoch == 1 and batch_idx == 2:
            stop = next(one for one in self.trainer.callbacks if isinstance(one, training.LastCheckpoint))  # pyright: ignore
            stop.stop.number = 15
        return original(self, batch, batch_idx)

    monkeypatch.setattr(training.VisibilityClassifier, "training_step", interrupted_step)
    with pytest.raises(TrainingInterrupted, match="interrupted in epoch 1; resume with --ckpt_path"):
        train(config, is_quiet=True)
    monkeypatch.setattr(training.VisibilityClassifier, "training_step", original)
    resumed = train(config, is_quiet=True)
    weights = [load_classifier(one.last_checkpoint).state_dict() for one in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert resumed.metrics["metrics"] == whole.metrics["metrics"]


def test_a_coco_file_is_trained_on_by_image(tmp_path: Path) -> None:
    json_path = make_occluded(tmp_path / "coco", 6, (64, 64), seed=1)
    settings = {"json_dataset_path": str(json_path), "factors": [1, 2], "run_name": "coco"}
    config = VisibilityTrainConfig(
        **{**tiny_config(Path("unused"), tmp_path).model_dump(), "data": None, **settings}
    )
    result = train(config, is_quiet=True)
    assert (result.run_dir / "data" / "points.csv").is_file()
    held_out = set(result.metrics["views"])
    names = {image["file_name"] for image in json.loads(json_path.read_text())["images"]}
    assert len(held_out) == 1
    assert held_out < names
    assert load_classifier(result.last_checkpoint).hparams["n_channels"] == 3


def test_what_goes_wrong_is_one_line(result: VisibilityTrainResult, points: Path, tmp_path: Path) -> None:
    root = result.run_dir.parent
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        train(tiny_config(points, root, run_name="one"))
    with pytest.raises(FileNotFoundError, match="--ckpt_path: expected a checkpoint"):
        train(tiny_config(points, root, ckpt_path=str(tmp_path / "none.ckpt")))
    with pytest.raises(ValueError, match=r"same network, got size_hidden: 4 there, 8 here"):
        train(tiny_config(points, root, ckpt_path=str(result.run_dir), size_hidden=8))
    with pytest.raises(FileNotFoundError, match="make-dataset"):
        train(tiny_config(tmp_path / "nothing", tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_levels_that_cannot_be_aligned_leave_nothing_behind(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    make_terrain(scenes, n_views=2, images_per_view=1, image_hw=(96, 128), seed=3)
    make_dataset(scenes, tmp_path / "points", points_per_image=20, border_px=2, factors=(1, 3), seed=0)
    config = tiny_config(tmp_path / "points", tmp_path / "runs", run_name="run", align_features=True)
    with pytest.raises(ValueError, match=r"factors or more that double, such as 2 4 8, got \[1, 3\]"):
        train(config, is_quiet=True)
    with pytest.raises(ValueError, match=r"that double, such as 2 4 8, got \[1, 3\]"):
        cross_validate(
            config.model_copy(update={"run_name": None}), tmp_path / "runs" / "folds", is_quiet=True
        )
    assert not (tmp_path / "runs").exists()
