import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.optimization import make_adamw, optimizer_groups
from keypoint_detection.train import resume
from keypoint_detection.train.config import TrainConfig, config_to_yaml
from keypoint_detection.train.resume import (
    TrainingInterrupted,
    changed_flags,
    check_resumable,
    interrupted,
    resolve_checkpoint,
    slurm_job,
)
from keypoint_detection.train.train import train

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"


def config(root: Path, **options: Any) -> TrainConfig:
    return TrainConfig(**{"json_dataset_path": "train.json", "default_root_dir": str(root), **options})


def make_run(root: Path, name: str, age_s: float = 0.0) -> Path:
    path = root / name / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (1e9 - age_s, 1e9 - age_s))
    return path


def test_last_is_that_of_the_run_or_of_the_newest_one(tmp_path: Path) -> None:
    old, new = make_run(tmp_path, "old", 50.0), make_run(tmp_path, "new")
    assert resolve_checkpoint(config(tmp_path, ckpt_path="last")).ckpt_path == str(new)
    assert resolve_checkpoint(config(tmp_path, ckpt_path="last", run_name="old")).ckpt_path == str(old)
    assert resolve_checkpoint(config(tmp_path, ckpt_path="last", run_name="absent")).ckpt_path is None
    assert resolve_checkpoint(config(tmp_path / "empty", ckpt_path="last")).ckpt_path is None


def test_a_folder_of_a_run_is_its_last_checkpoint(tmp_path: Path) -> None:
    path = make_run(tmp_path, "run")
    for folder in (path.parent, path.parent.parent):
        assert resolve_checkpoint(config(tmp_path, ckpt_path=str(folder))).ckpt_path == str(path)
    assert resolve_checkpoint(config(tmp_path, ckpt_path=str(path))).ckpt_path == str(path)
    assert resolve_checkpoint(config(tmp_path)).ckpt_path is None
    with pytest.raises(FileNotFoundError, match="expected the folder of a run with checkpoints/last"):
        resolve_checkpoint(config(tmp_path, ckpt_path=str(tmp_path)))


def checkpoint_of(detector: KeypointDetector) -> dict[str, Any]:
    optimizer = make_adamw(optimizer_groups(detector, 1e-3), 1e-3)
    return {"hyper_parameters": dict(detector.hparams), "optimizer_states": [optimizer.state_dict()]}


def test_a_checkpoint_with_another_optimiser_names_what_differs() -> None:
    frozen = KeypointDetector([["a"]], "MobileNetV3", freeze_backbone=True)
    checkpoint = checkpoint_of(frozen)
    check_resumable("x.ckpt", checkpoint, frozen)
    with pytest.raises(ValueError, match=r"^--ckpt_path x\.ckpt: expected an optimiser of \d+ ") as error:
        check_resumable("x.ckpt", checkpoint, KeypointDetector([["a"]], "MobileNetV3"))
    message = str(error.value)
    assert "--freeze_backbone True there, False here; give" in message
    assert "--layer_decay" not in message
    assert message.endswith("--init_weights x.ckpt")
    with pytest.raises(ValueError, match=r"^--ckpt_path x\.ckpt: expected the checkpoint of a training, got"):
        check_resumable("x.ckpt", {**checkpoint, "optimizer_states": []}, frozen)


def test_a_checkpoint_of_another_model_names_what_differs() -> None:
    made = KeypointDetector([["a"], ["b"]], "Unet", {"n_channels": 8})
    checkpoint = checkpoint_of(made)
    check_resumable("x.ckpt", checkpoint, made)
    other = KeypointDetector([["a"], ["c"]], "Unet", {"n_channels": 16})
    with pytest.raises(ValueError, match=r"^--ckpt_path x\.ckpt: expected a checkpoint of the same") as error:
        check_resumable("x.ckpt", checkpoint, other)
    message = str(error.value)
    assert "options of the backbone: {'n_channels': 8} there, {'n_channels': 16} here" in message
    assert "--keypoint_channel_configuration: [['a'], ['b']] there, [['a'], ['c']] here" in message
    assert "--backbone_type" not in message
    assert "\n" not in message


def test_flags_that_changed_are_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(config_to_yaml(config(tmp_path, max_epochs=3)))
    assert changed_flags(config(tmp_path, max_epochs=3, ckpt_path="x"), tmp_path) == []
    changed = changed_flags(config(tmp_path, max_epochs=5, batch_size=4), tmp_path)
    assert sorted(changed) == ["--batch_size 8 -> 4", "--max_epochs 3 -> 5"]
    assert changed_flags(config(tmp_path), tmp_path / "nowhere") == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_exit_codes(number: int, code: int, tmp_path: Path) -> None:
    trainer: Any = SimpleNamespace(current_epoch=4, is_global_zero=True)
    error = interrupted(trainer, tmp_path, number, None)
    assert error.exit_code == code
    assert str(error) == "interrupted in epoch 4; no step was finished"


def test_a_job_of_slurm_goes_back_into_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_run(tmp_path, "run")
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    trainer: Any = SimpleNamespace(current_epoch=4, is_global_zero=True)
    called = []

    def scontrol(command: list[str], **_: Any) -> Any:
        called.append(command)
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(resume.subprocess, "run", scontrol)
    error = interrupted(trainer, tmp_path / "run", signal.SIGUSR1, "last")
    assert str(error) == f"interrupted in epoch 4; resume with --ckpt_path {path}; job 71 is queued again"
    assert error.exit_code == 128 + signal.SIGUSR1
    assert called == [["scontrol", "requeue", "71"]]
    hint = str(interrupted(trainer, tmp_path / "run", signal.SIGUSR1, None))
    assert hint.endswith(
        "with --run_name NAME --ckpt_path last the job would be queued again and continue by itself"
    )
    interrupted(trainer, tmp_path / "run", signal.SIGTERM, "last")  # the queue itself decides
    assert len(called) == 1
    monkeypatch.setattr(resume.subprocess, "run", lambda *_, **__: os.stat("/no such file"))
    missing = str(interrupted(trainer, tmp_path / "run", signal.SIGUSR1, "last"))
    assert missing.endswith("run: scontrol requeue 71")


def test_the_task_of_an_array_has_its_own_number() -> None:
    task = {"SLURM_JOB_ID": "73", "SLURM_ARRAY_JOB_ID": "71", "SLURM_ARRAY_TASK_ID": "2"}
    assert slurm_job(task) == "71_2"
    with pytest.raises(ValueError, match="expected the number of a SLURM job"):
        slurm_job({"SLURM_JOB_ID": "7; rm x"})


def small(json_path: Path, root: Path, **options: Any) -> TrainConfig:
    settings: dict[str, Any] = {"run_name": "run", "n_channels": 8, "batch_size": 2, "max_epochs": 2}
    settings |= {"accelerator": "cpu", "num_workers": 0, "cache": "off", "augment_train": True}
    settings |= {"keypoint_channel_configuration": CHANNELS, "json_dataset_path": str(json_path)}
    return config(root, **{**settings, "trainer": {"enable_progress_bar": False}, **options})


def stop_at(monkeypatch: pytest.MonkeyPatch, number: int, step: int, stage: str) -> None:
    """Send this process a signal in the middle of a step."""
    real = getattr(KeypointDetector, f"{stage}_step")

    def asks(self: KeypointDetector, batch: Any, batch_idx: int) -> Any:
        if self.trainer.global_step == step and self.trainer.state.fn == "fit":
            os.kill(os.getpid(), number)
        return real(self, batch, batch_idx)

    monkeypatch.setattr(KeypointDetector, f"{stage}_step", asks)


@pytest.mark.parametrize(
    ("number", "stage", "step", "saved"),
    [
        (signal.SIGTERM, "training", 1, 2),
        (signal.SIGINT, "training", 0, 1),
        (signal.SIGUSR1, "validation", 2, 2),
    ],
)
def test_a_signal_is_obeyed_after_the_step_and_loses_nothing(  # noqa: PLR0917 - parametrised
    number: int,
    stage: str,
    step: int,
    saved: int,
    boxes_json: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)
    whole = train(small(boxes_json, tmp_path, run_name="whole"))
    with monkeypatch.context() as context:
        stop_at(context, number, step, stage)
        with pytest.raises(TrainingInterrupted, match="resume with --ckpt_path") as error:
            train(small(boxes_json, tmp_path))
    assert error.value.exit_code == (1 if number == signal.SIGINT else 128 + number)
    assert signal.getsignal(number) is before
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == saved
    result = train(small(boxes_json, tmp_path, ckpt_path=str(tmp_path / "run")))
    ends = [torch.load(r.last_checkpoint, weights_only=True) for r in (result, whole)]  # pyright: ignore
    assert ends[0]["global_step"] == ends[1]["global_step"]
    assert all(torch.equal(ends[0]["state_dict"][key], value) for key, value in ends[1]["state_dict"].items())
    assert result.validation == whole.validation


def test_the_middle_of_an_epoch_needs_the_same_batches(
    boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        stop_at(context, signal.SIGTERM, 0, "training")
        with pytest.raises(TrainingInterrupted):
            train(small(boxes_json, tmp_path))
    with pytest.raises(ValueError, match="expected batch_size 2 per process as there, got 3; resume with"):
        train(small(boxes_json, tmp_path, ckpt_path="last", batch_size=3))


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    boxes_json: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("epoch,step\n")
    with caplog.at_level(logging.INFO, "keypoint_detection"):
        train(small(boxes_json, tmp_path, ckpt_path="last", max_epochs=1))
    assert (tmp_path / "run" / "metrics-1.csv").read_text() == "epoch,step\n"
    assert "no checkpoint to resume from yet" in caplog.text


@pytest.mark.slow
def test_a_signal_to_the_whole_group_of_processes_ends_it_with_its_code(tmp_path: Path) -> None:
    from keypoint_detection.data.synthetic import make_dataset

    images = make_dataset("boxes", tmp_path / "images", 12, (32, 32), seed=5)
    assert len(COCOKeypointsDataset(images, "flap_left")) == 12
    flags = f"--json_dataset_path {images} --default_root_dir {tmp_path} --run_name run --n_channels 8 "
    flags += "--num_workers 2 --batch_size 2 --accelerator cpu --max_epochs 100000 --cache off"
    command = [sys.executable, "-m", "keypoint_detection", "train", *flags.split()]
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        for _ in range(600):
            if last.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 143, errors
    assert f"resume with --ckpt_path {last}" in errors.splitlines()[-1]
