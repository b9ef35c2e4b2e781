"""A training that is killed at any step and resumed ends as if nothing had happened, bit for bit."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from keypoint_detection.callbacks_resume import LastCheckpoint
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.kill_test import differences
from keypoint_detection.train.train import train

pytestmark = pytest.mark.filterwarnings(
    # Python 3.12 and later warn about every fork of a process with threads, which is how workers start.
    "ignore:.*multi-threaded.*fork:DeprecationWarning",
    "ignore:This DataLoader will create",  # on a machine with a single core
)

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"


class Killed(BaseException):
    """Stand for a SIGKILL: nothing is saved on the way out."""


def make_config(json_path: Path, root: Path, **options: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "json_dataset_path": str(json_path),
        "keypoint_channel_configuration": CHANNELS,
        "default_root_dir": str(root),
        "run_name": "run",
        "n_channels": 8,
        "batch_size": 2,
        "max_epochs": 3,
        "augment_train": True,
        "heatmap_sigma": 3.0,
        "variable_heatmap_sigma": 1.0,
        "checkpoint_every": "1 steps",
        "accelerator": "cpu",
        "num_workers": 0,
        "cache": "off",
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**settings, **options})


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int, stage: str = "training") -> None:
    """Let the next training be killed in the middle of a step, or of the first validation after it."""
    real = getattr(KeypointDetector, f"{stage}_step")

    def dies(self: KeypointDetector, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step >= step and self.trainer.state.fn == "fit":
            torch.rand(3)  # the generators are somewhere else
            raise Killed
        return real(self, batch, batch_idx)

    monkeypatch.setattr(KeypointDetector, f"{stage}_step", dies)
    monkeypatch.setattr(LastCheckpoint, "on_exception", lambda self, *_: self.stop.give_back())


def train_with_kills(config: TrainConfig, kills: list[tuple[int, str]]) -> Path:
    """Train until the end, however often it is killed on the way."""
    config = config.model_copy(update={"ckpt_path": "last"})
    for step, stage in kills:
        with pytest.MonkeyPatch.context() as monkeypatch:
            killed_at(monkeypatch, step, stage)
            with pytest.raises(Killed):
                train(config)
    return train(config).run_dir


def end_of(run: Path) -> dict[str, Any]:
    """Return the last checkpoint without the paths of the run."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    for state in checkpoint["callbacks"].values():
        for name in ("dirpath", "best_model_path", "kth_best_model_path", "best_k_models", "last_model_path"):
            state.pop(name, None)
    return checkpoint


def epoch_means(run: Path) -> dict[str, list[str]]:
    """Return the logged numbers of each epoch; of an epoch that was written twice, the later ones."""
    means: dict[str, list[str]] = {}
    parts = sorted(run.glob("metrics-*.csv"), key=lambda path: int(path.stem.split("-")[1]))
    for path in [*parts, run / "metrics.csv"]:
        if not path.is_file():
            continue
        with path.open() as file:
            for row in csv.DictReader(file):
                if row.get("train/loss_epoch"):
                    names = [name for name in sorted(row) if name.startswith("train/")]
                    means[row["epoch"]] = [f"{n}={row[n]}" for n in names if not n.endswith("_step")]
    return means


def assert_same_end(run: Path, reference: Path) -> None:
    assert list(differences(end_of(run), end_of(reference))) == []
    assert epoch_means(run) == epoch_means(reference)
    assert len(epoch_means(run)) >= 3


@pytest.fixture(scope="module", autouse=True)
def chance() -> Iterator[None]:
    """Let every step depend on all generators, as dropout and the like do."""
    real = KeypointDetector.training_step

    def step(self: KeypointDetector, batch: Any, batch_idx: int) -> torch.Tensor:
        drawn = torch.rand(()) + random.random() + np.random.rand()  # noqa: NPY002
        return real(self, batch, batch_idx) * drawn

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(KeypointDetector, "training_step", step)
        yield


@pytest.fixture(scope="module")
def reference(boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(make_config(boxes_json, tmp_path_factory.mktemp("whole"))).run_dir


def test_killed_again_and_again_with_checkpoints_after_every_step(
    boxes_json: Path, tmp_path: Path, reference: Path
) -> None:
    steps = [(step, "training") for step in (1, 2, 4, 5)]
    assert_same_end(train_with_kills(make_config(boxes_json, tmp_path), steps), reference)


def test_killed_in_validations(boxes_json: Path, tmp_path: Path, reference: Path) -> None:
    kills = [(1, "validation"), (5, "validation")]
    assert_same_end(train_with_kills(make_config(boxes_json, tmp_path), kills), reference)


def test_killed_with_loader_processes_and_rare_checkpoints(
    boxes_json: Path, tmp_path: Path, reference: Path
) -> None:
    config = make_config(boxes_json, tmp_path, num_workers=2, checkpoint_every="2 steps")
    assert_same_end(train_with_kills(config, [(3, "training"), (5, "training")]), reference)


@pytest.mark.slow
def test_killed_with_averages_accumulated_gradients_and_a_falling_sigma(
    boxes_json: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        "max_epochs": 13,
        "ema_decay": 0.9,
        "decay_type": "plateau",
        "trainer": {"enable_progress_bar": False, "accumulate_grad_batches": 2},
    }
    whole = train(make_config(boxes_json, tmp_path / "whole", **options)).run_dir
    kills = [(step, "training") for step in (1, 12)] + [(11, "validation")]
    run = train_with_kills(make_config(boxes_json, tmp_path / "killed", **options), sorted(kills))
    assert_same_end(run, whole)
