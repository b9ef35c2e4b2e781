from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytorch_lightning.loggers import WandbLogger

from keypoint_detection.callbacks_tracking import BestCheckpointArtifact, TrackedSettings, learning_rates


def test_one_rate_for_all_is_one_number() -> None:
    assert learning_rates([{"lr": 0.5}, {"lr": 0.5}]) == {"learning_rate": 0.5}


def test_groups_that_differ_have_a_rate_each() -> None:
    # Two layers at a half and a quarter of the head's rate, each with decay and without; half of it is over.
    groups = [{"lr": rate / 2, "initial_lr": rate} for rate in (1.0, 1.0, 2.0, 2.0, 4.0)]
    expected = {"learning_rate": 2.0, "lr-group1": 0.5, "lr-group2": 1.0, "lr-group3": 2.0}
    assert learning_rates(groups) == expected


def test_groups_that_differ_still_do_while_all_rates_are_zero() -> None:
    groups = [{"lr": 0.0, "initial_lr": 1.0}, {"lr": 0.0, "initial_lr": 2.0}]
    assert learning_rates(groups) == {"learning_rate": 0.0, "lr-group1": 0.0, "lr-group2": 0.0}


def test_names_of_groups_are_used() -> None:
    groups = [{"lr": 1.0, "name": "encoder"}, {"lr": 3.0, "name": "head"}]
    assert learning_rates(groups) == {"learning_rate": 3.0, "lr-encoder": 1.0, "lr-head": 3.0}


def test_steps_are_logged_as_often_as_their_losses() -> None:
    logged: list[tuple[int, dict]] = []
    optimizer = SimpleNamespace(param_groups=[{"lr": 0.1}])
    trainer: Any = SimpleNamespace(optimizers=[optimizer], log_every_n_steps=2, global_step=0)
    module: Any = SimpleNamespace(sigma_px=lambda: 2.5)
    module.log_dict = lambda values, **_flags: logged.append((trainer.global_step, dict(values)))
    callback = TrackedSettings()
    for step in range(4):
        trainer.global_step = step
        optimizer.param_groups[0]["lr"] = 0.1 * (step + 1)
        callback.on_train_batch_start(trainer, module, None, 0)
    assert [step for step, _ in logged] == [1, 3]
    assert logged[1][1] == {"sigma_px": 2.5, "learning_rate": pytest.approx(0.4)}


@pytest.mark.parametrize(
    ("files", "aliases"), [(["best", "last"], ["latest", "best"]), (["last"], ["latest"]), ([], None)]
)
@pytest.mark.parametrize("is_first", [True, False])
def test_the_first_process_uploads_the_best_checkpoint(
    files: list[str], aliases: list[str] | None, is_first: bool, tmp_path: Path
) -> None:
    uploads: list[tuple] = []
    run: Any = SimpleNamespace(id="1a2b", log_artifact=lambda *path, **named: uploads.append((*path, named)))
    logger = WandbLogger(experiment=run)
    for name in files:
        (tmp_path / f"{name}.ckpt").touch()
    trainer: Any = SimpleNamespace(is_global_zero=is_first, loggers=[logger])
    BestCheckpointArtifact(tmp_path).on_fit_end(trainer, None)  # pyright: ignore[reportArgumentType]
    named = {"name": "model-1a2b", "type": "model", "aliases": aliases}
    assert uploads == ([(str(tmp_path / f"{files[0]}.ckpt"), named)] if files and is_first else [])
