import csv
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from keypoint_detection.__main__ import main
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"
ROOT = Path(__file__).parents[2]


def make_config(json_path: Path, root: Path, **options: object) -> TrainConfig:
    settings = {
        "json_dataset_path": str(json_path),
        "keypoint_channel_configuration": CHANNELS,
        "default_root_dir": str(root),
        "run_name": "run",
        "n_channels": 8,
        "max_epochs": 2,
        "accelerator": "cpu",
        "num_workers": 0,
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**settings, **options})  # pyright: ignore[reportArgumentType]


def test_a_run_leaves_its_files_and_scores(boxes_json: Path, tmp_path: Path) -> None:
    result = train(
        make_config(boxes_json, tmp_path, augment_train=True, json_test_dataset_path=str(boxes_json))
    )
    assert result.run_dir == tmp_path / "run"
    assert TrainConfig(**yaml.safe_load((result.run_dir / "config.yaml").read_text())).augment_train
    with (result.run_dir / "metrics.csv").open() as file:
        columns = set(next(csv.reader(file)))
    assert {
        "epoch",
        "step",
        "validation/map",
        "validation/loss",
        "validation/gt_loss",
        "train/loss_epoch",
    } <= columns
    assert {"train/loss/flap_left", "validation/flap_left/ap@2px", "validation/mean_error_px"} <= columns
    assert 0.0 <= result.validation["validation/map"] <= 1.0
    assert result.test["test/mean_error_px"] > 0
    for checkpoint in (result.last_checkpoint, result.best_checkpoint):
        assert checkpoint is not None
        assert "state_dict" in torch.load(checkpoint, weights_only=True)


def test_the_same_seed_gives_the_same_weights(boxes_json: Path, tmp_path: Path) -> None:
    weights = []
    for name in ("a", "b"):
        result = train(make_config(boxes_json, tmp_path, run_name=name, augment_train=True))
        assert result.last_checkpoint is not None
        weights.append(torch.load(result.last_checkpoint, weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_a_run_is_resumed_where_it_stopped_in_its_folder(boxes_json: Path, tmp_path: Path) -> None:
    first = train(make_config(boxes_json, tmp_path))
    assert first.last_checkpoint is not None
    resume = {"run_name": None, "ckpt_path": str(first.last_checkpoint)}
    second = train(make_config(boxes_json, tmp_path, max_epochs=3, **resume))
    assert second.run_dir.resolve() == first.run_dir.resolve()
    assert torch.load(first.last_checkpoint, weights_only=True)["epoch"] == 2
    epochs = {}
    for name in ("metrics-1.csv", "metrics.csv"):
        with (first.run_dir / name).open() as file:
            epochs[name] = {row["epoch"] for row in csv.DictReader(file)}
    # The last line of each part is its closing validation, after the last epoch.
    assert epochs == {"metrics-1.csv": {"0", "1", "2"}, "metrics.csv": {"2", "3"}}


def test_a_resumed_run_may_get_a_folder_of_its_own(boxes_json: Path, tmp_path: Path) -> None:
    first = train(make_config(boxes_json, tmp_path))
    second = train(
        make_config(boxes_json, tmp_path, run_name="on", max_epochs=3, ckpt_path=str(first.last_checkpoint))
    )
    assert second.run_dir == tmp_path / "on"
    assert (first.run_dir / "metrics.csv").is_file()


def test_an_earlier_run_is_never_overwritten(boxes_json: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.csv").write_text("epoch,step\n")
    with pytest.raises(FileExistsError, match="holds an earlier run; give another --run_name"):
        train(make_config(boxes_json, tmp_path))
    assert (tmp_path / "run" / "metrics.csv").read_text() == "epoch,step\n"


def test_a_time_limit_ends_the_run_with_a_falling_learning_rate(boxes_json: Path, tmp_path: Path) -> None:
    config = make_config(
        boxes_json, tmp_path, max_epochs=None, max_time="00:00:00:05", check_val_every_n_epoch=1000
    )
    start = time.monotonic()
    result = train(config)
    assert time.monotonic() - start < 30
    assert result.last_checkpoint is not None
    saved = torch.load(result.last_checkpoint, weights_only=True)
    assert saved["epoch"] > 1
    assert saved["optimizer_states"][0]["param_groups"][0]["lr"] < 0.1 * config.learning_rate


def test_fast_dev_run_writes_no_checkpoint(boxes_json: Path, tmp_path: Path) -> None:
    result = train(make_config(boxes_json, tmp_path, fast_dev_run=True))
    assert result.last_checkpoint is None
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("loss", ["MSE", "SmoothL1"])
def test_other_losses_train_too(loss: str, boxes_json: Path, tmp_path: Path) -> None:
    result = train(make_config(boxes_json, tmp_path, loss_function=loss, max_epochs=1))
    assert result.validation["validation/loss"] > 0
    assert "validation/gt_loss" not in result.validation


def test_early_stopping_ends_a_run_that_learns_nothing(boxes_json: Path, tmp_path: Path) -> None:
    config = make_config(
        boxes_json, tmp_path, learning_rate=1e-12, max_epochs=50, early_stopping_relative_threshold=0.5
    )
    result = train(config)
    assert result.last_checkpoint is not None
    assert torch.load(result.last_checkpoint, weights_only=True)["epoch"] == 5


def test_the_documented_command_of_the_older_tool_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val"):
        made = make_dataset("boxes", tmp_path / "data" / "dataset_64x64", 3, (64, 64), seed=1)
        made.rename(tmp_path / "data" / "dataset_64x64" / f"{split}.json")
    monkeypatch.chdir(tmp_path)
    command = """--keypoint_channel_configuration "flap_left" --wandb_project p --wandb_entity e
        --json_dataset_path data/dataset/train.json --json_validation_dataset_path data/dataset/val.json
        --json_dataset_img_size "64x64" --batch_size 4 --seed 2023 --max_epochs 2
        --early_stopping_relative_threshold 0.0001 --log_every_n_steps 1
        --accelerator="cpu" --devices 1 --precision 16
        --backbone_type "ConvNeXtUnet" --learning_rate 0.0004
        --maximal_gt_keypoint_pixel_distances "0.5 0.55 0.6 0.65 0.70 0.75 0.80 0.85 0.90 0.95"
        --ap_epoch_freq 2 --auto_1r_find True --fast_dev_run False --n_channels_in 3 --heatmap_sigma 2
        --variable_heatmap_sigma 2
        --n_resnet_blocks 3 --n_downsampling_layers 2 --n_hourglasses 1 --n_hg_blocks 4 --augment_train
        --loss_function "BCE" --encoder convnext_atto --run_name old"""
    assert main(["train", *shlex.split(command)]) == 0
    with (tmp_path / "runs" / "old" / "metrics.csv").open() as file:
        assert any(row["validation/ap@oks0.5"] for row in csv.DictReader(file))
    assert list((tmp_path / "runs" / "old").rglob("offline-run-*"))


def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_resume(boxes_json: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "keypoint_detection/train/train.py"),
        "--json_dataset_path",
        str(boxes_json),
        "--keypoint_channel_configuration",
        CHANNELS,
    ]
    command += [
        "--default_root_dir",
        str(tmp_path),
        "--run_name",
        "run",
        "--max_epochs",
        "100000",
        "--n_channels",
        "8",
    ]
    command += ["--num_workers", "0", "--accelerator", "cpu", "--check_val_every_n_epoch", "100"]
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ,
        # A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    ) as process:
        for _ in range(600):
            if last.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 1, errors
    assert f"resume with --ckpt_path {last}" in errors.splitlines()[-1]
    saved = torch.load(last, weights_only=True)
    result = train(
        make_config(boxes_json, tmp_path, run_name="on", max_epochs=saved["epoch"] + 2, ckpt_path=str(last))
    )
    assert result.last_checkpoint is not None
    assert torch.load(result.last_checkpoint, weights_only=True)["epoch"] >= saved["epoch"]
