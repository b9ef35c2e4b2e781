import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from gaze_runs import draw_people, tiny_config

from keypoint_detection.callbacks_resume import LastCheckpoint
from keypoint_detection.gaze import train as training
from keypoint_detection.gaze.follower import GazeFollower
from keypoint_detection.gaze.load_follower import load_follower
from keypoint_detection.gaze.people import UNKNOWN, read_table, write_table
from keypoint_detection.gaze.train import GazeTrainResult, train
from keypoint_detection.gaze.train_data import open_data
from keypoint_detection.train.resume import TrainingInterrupted

SIZES: dict[str, Any] = {"scene_hw": (64, 64), "head_hw": (32, 32)}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_people(tmp_path_factory.mktemp("people"))


@pytest.fixture(scope="module")
def result(people: Path, tmp_path_factory: pytest.TempPathFactory) -> GazeTrainResult:
    return train(tiny_config(people, tmp_path_factory.mktemp("runs"), run_name="one"), is_quiet=True)


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same_weights(one: Path, other: Path) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def rows(run: Path) -> list[dict[str, str]]:
    """Return the lines of all parts of a run's log."""
    found = []
    for path in sorted(run.glob("metrics*.csv"), key=lambda path: path.stat().st_mtime):
        with path.open() as file:
            found += list(csv.DictReader(file))
    return found


def test_a_run_leaves_its_files(result: GazeTrainResult) -> None:
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
        assert (result.run_dir / name).is_file()
    validations = [row for row in rows(result.run_dir) if row["validation/loss"]]
    assert len(validations) == 2
    assert all(float(row["validation/map_loss"]) > 0 for row in validations)
    assert result.metrics is None
    assert not load_follower(result.best_checkpoint).training


@pytest.mark.parametrize("decoder", ["diffusion", "direct"])
def test_a_short_training_learns_something(people: Path, tmp_path: Path, decoder: str) -> None:
    values: dict[str, Any] = {"decoder": decoder, "max_epochs": 8, "batch_size": 3, "learning_rate": 5e-3}
    values |= {"augment_train": False, "validation_split_ratio": 0.1}
    run = train(tiny_config(people, tmp_path, **values), is_quiet=True).run_dir
    losses = [float(row["train/loss_epoch"]) for row in rows(run) if row["train/loss_epoch"]]
    assert np.mean(losses[-2:]) < 0.4 * losses[0]


def stopped_at(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int) -> None:
    """Let the next training be asked to stop in a step."""
    real = GazeFollower.training_step

    def step(self: GazeFollower, given: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.current_epoch == epoch and batch_idx == batch:
            callbacks: list[Any] = self.trainer.callbacks  # pyright: ignore
            next(one for one in callbacks if isinstance(one, LastCheckpoint)).stop.number = 15
        return real(self, given, batch_idx)

    monkeypatch.setattr(GazeFollower, "training_step", step)


@pytest.mark.parametrize(
    "values",
    [
        {
            "dropout": 0.3,
            "offset_noise": 0.1,
            "kl_weight": 0.1,
            "ema_decay": 0.9,
            "learning_rates": "scene=0.1",
        },
        {"decoder": "direct", "freeze": "scene", "precision": "bf16"},
    ],
    ids=["diffusion", "direct"],
)
def test_a_run_that_is_stopped_ends_as_an_uninterrupted_one(
    people: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    common = {"run_name": "run", "ckpt_path": "last", "max_epochs": 3, **values}
    whole = train(tiny_config(people, tmp_path / "whole", **common), is_quiet=True)
    config = tiny_config(people, tmp_path / "parts", **common)
    for epoch, batch in ((0, 1), (2, 0)):
        with pytest.MonkeyPatch.context() as monkeypatch:
            stopped_at(monkeypatch, epoch, batch)
            with pytest.raises(
                TrainingInterrupted, match=f"interrupted in epoch {epoch}; resume with"
            ) as stop:
                train(config, is_quiet=True)
            assert stop.value.exit_code == 143
    resumed = train(config, is_quiet=True)
    assert same_weights(whole.last_checkpoint, resumed.last_checkpoint)
    assert same_weights(whole.best_checkpoint, resumed.best_checkpoint)
    pairs = [
        [(row["step"], row["validation/loss"]) for row in rows(run) if row["validation/loss"]]
        for run in (whole.run_dir, resumed.run_dir)
    ]
    assert pairs[0] == pairs[1]
    assert len(pairs[0]) == 3


class Killed(BaseException):
    """Stand for a SIGKILL: nothing is saved on the way out."""


def test_a_run_that_is_killed_ends_as_an_uninterrupted_one(
    people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = {"run_name": "run", "ckpt_path": "last", "checkpoint_every": "1 steps"}
    whole = train(tiny_config(people, tmp_path / "whole", **common), is_quiet=True)
    real = GazeFollower.training_step

    def dies(self: GazeFollower, given: Any, batch_idx: int) -> torch.Tensor:
        if self.trainer.global_step == 4:
            torch.rand(3)
            raise Killed
        return real(self, given, batch_idx)

    monkeypatch.setattr(GazeFollower, "training_step", dies)
    monkeypatch.setattr(LastCheckpoint, "on_exception", lambda self, *_: self.stop.give_back())
    config = tiny_config(people, tmp_path / "parts", **common)
    with pytest.raises(Killed):
        train(config, is_quiet=True)
    monkeypatch.undo()
    assert same_weights(whole.last_checkpoint, train(config, is_quiet=True).last_checkpoint)


def test_averaged_weights_are_what_a_checkpoint_gives(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people, tmp_path, run_name="ema", ema_decay=0.99)
    result = train(config, is_quiet=True)
    content = torch.load(result.last_checkpoint, weights_only=True)
    assert not torch.equal(
        *(content[key]["in_out_head.out.weight"] for key in ("state_dict", "current_model_state"))
    )
    loaded = load_follower(result.last_checkpoint).state_dict()
    assert torch.equal(loaded["in_out_head.out.weight"], content["state_dict"]["in_out_head.out.weight"])
    with pytest.raises(ValueError, match="averaged weights; give --ema_decay again"):
        train(tiny_config(people, tmp_path, run_name="ema", ckpt_path="last"), is_quiet=True)


def test_frozen_parts_are_the_same_after_a_run(people: Path, tmp_path: Path, result: GazeTrainResult) -> None:
    values = {
        "freeze": "scene head",
        "init_weights": str(result.last_checkpoint),
        "seed": 5,
        "ema_decay": 0.9,
    }
    trained = weights(train(tiny_config(people, tmp_path, **values), is_quiet=True).last_checkpoint)
    for name, before in weights(result.last_checkpoint).items():
        is_frozen = "scene_encoder" in name or "head_encoder" in name
        if is_frozen:
            assert torch.equal(before, trained[name]), name
    assert not torch.equal(
        *(found["decoder.denoiser.leave.weight"] for found in (weights(result.last_checkpoint), trained))
    )


def test_people_of_whom_nothing_is_known_may_be_among_them(people: Path, tmp_path: Path) -> None:
    table = read_table(people)
    in_frame, gaze = table.in_frame.copy(), table.gaze_xy.copy()
    in_frame[::3], gaze[::3] = UNKNOWN, np.nan
    other = people.parent / "unknown.json"
    write_table(other, type(table)(**{**vars(table), "in_frame": in_frame, "gaze_xy": gaze}))
    result = train(tiny_config(other, tmp_path, batch_size=1), is_quiet=True)
    assert all(float(row["validation/loss"]) > 0 for row in rows(result.run_dir) if row["validation/loss"])


def test_scores_follow_the_training(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def evaluate_to_folder(follower: GazeFollower, dataset: Any, folder: Path, **options: Any) -> dict:
        given.update(follower=follower, dataset=dataset, folder=folder, options=options)
        return {"auc": 1.0}

    module = ModuleType("evaluate_run")
    module.evaluate_to_folder = evaluate_to_folder  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "keypoint_detection.gaze.evaluate_run", module)
    config = tiny_config(people, tmp_path, run_name="scored", evaluate=True, ema_decay=0.9)
    data = open_data(config, **SIZES)
    result = train(config, data=data, is_quiet=True)
    assert result.metrics == {"auc": 1.0}
    assert given["dataset"] is data.validation_dataset
    assert given["folder"] == result.run_dir / "eval"
    expected, found = weights(result.last_checkpoint), given["follower"].state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_what_goes_wrong_is_one_line(result: GazeTrainResult, people: Path, tmp_path: Path) -> None:
    root = result.run_dir.parent
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        train(tiny_config(people, root, run_name="one"))
    with pytest.raises(FileNotFoundError, match="--ckpt_path: expected a checkpoint"):
        train(tiny_config(people, root, ckpt_path=str(tmp_path / "none.ckpt")))
    there = {"ckpt_path": str(result.run_dir)}
    with pytest.raises(ValueError, match=r"same network, got .*width: 16 there, 32 here"):
        train(tiny_config(people, root, width=32, **there))
    with pytest.raises(ValueError, match=r"same network, got frozen: \[\] there, \['scene'\] here"):
        train(tiny_config(people, root, freeze="scene", **there))
    with pytest.raises(ValueError, match=r"same network, got decoder: diffusion there, direct here"):
        train(tiny_config(people, root, decoder="direct", **there))
    with pytest.raises(FileNotFoundError, match="nothing at"):
        train(tiny_config(tmp_path / "nothing.json", tmp_path / "runs"))
    alone = tmp_path / "alone.ckpt"
    content = torch.load(result.last_checkpoint, weights_only=True)
    torch.save({name: content[name] for name in ("state_dict", "hyper_parameters")}, alone)
    with pytest.raises(ValueError, match="got weights alone; start a new run"):
        train(tiny_config(people, root, ckpt_path=str(alone)))
    config = tiny_config(people, tmp_path / "runs")
    with pytest.raises(ValueError, match=r"scenes and heads of \(64, 64\) and \(32, 32\)"):
        train(config, data=open_data(config, scene_hw=(96, 96), head_hw=(32, 32)))
    assert not (tmp_path / "runs").exists()


def test_nobody_who_looks_into_the_image_is_one_line(people: Path, tmp_path: Path) -> None:
    table = read_table(people)
    outside = people.parent / "outside.json"
    values = {"in_frame": np.zeros_like(table.in_frame), "gaze_xy": np.full_like(table.gaze_xy, np.nan)}
    write_table(outside, type(table)(**{**vars(table), **values}))
    with pytest.raises(
        ValueError, match="expected people to train on who look into the image, got none among"
    ):
        train(tiny_config(outside, tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_another_sampler_does_not_hinder_going_on(result: GazeTrainResult, people: Path) -> None:
    values: dict[str, Any] = {"sampler": "ddpm", "sampling_steps": 9, "max_epochs": 3}
    config = tiny_config(
        people, result.run_dir.parent, run_name="more", ckpt_path=str(result.run_dir), **values
    )
    more = train(config, is_quiet=True)
    assert torch.load(more.last_checkpoint, weights_only=True)["epoch"] == 2
    assert load_follower(more.last_checkpoint).decoder.sampler == "ddpm"  # pyright: ignore


def test_half_precision_on_a_cpu_is_bfloat16(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people, tmp_path, precision="16")
    assert training.make_trainer(config, tmp_path, is_quiet=True).precision == "bf16-mixed"


def test_a_time_limit_ends_a_run(people: Path, tmp_path: Path) -> None:
    config = tiny_config(people, tmp_path, max_epochs=None, max_time="00:00:00:01")
    result = train(config, is_quiet=True)
    assert torch.load(result.last_checkpoint, weights_only=True)["global_step"] > 0


def test_loader_processes_change_nothing(people: Path, tmp_path: Path, result: GazeTrainResult) -> None:
    config = tiny_config(people, tmp_path, num_workers=1)
    assert same_weights(train(config, is_quiet=True).last_checkpoint, result.last_checkpoint)
