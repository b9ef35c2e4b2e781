import logging
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from keypoint_detection.train import speed
from keypoint_detection.train.cli import UsageError, make_config
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.speed import (
    ChannelsLast,
    CompiledNetwork,
    compiler_failure,
    few_steps_note,
    speed_callbacks,
)
from keypoint_detection.train.speed_config import SpeedConfig
from keypoint_detection.train.train import train
from keypoint_detection.utils.load_checkpoints import load_model, read_checkpoint


def weights(path: Path | None) -> dict[str, torch.Tensor]:
    assert path is not None
    return read_checkpoint(path)["state_dict"]


def config(boxes_json: Path, folder: Path, **options: object) -> TrainConfig:
    values: dict[str, object] = {
        "json_dataset_path": str(boxes_json),
        "keypoint_channel_configuration": "flap_left; flap_right",
        "default_root_dir": str(folder),
        "run_name": "run",
        "max_epochs": 2,
        "batch_size": 2,
        "backbone_options": {"n_channels": 4},
        "accelerator": "cpu",
        "num_workers": 0,
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**values, **options})  # pyright: ignore[reportArgumentType]


def test_nothing_is_added_by_default() -> None:
    assert speed_callbacks(SpeedConfig()) == []


def test_accumulated_batches_make_fewer_steps(boxes_json: Path, tmp_path: Path) -> None:
    last = train(config(boxes_json, tmp_path, accumulate_grad_batches=3, max_epochs=1)).last_checkpoint
    assert last is not None
    assert read_checkpoint(last)["global_step"] == 1  # 3 batches of 2 of the 5 training images


def test_channels_last_changes_the_weights_by_rounding_alone(boxes_json: Path, tmp_path: Path) -> None:
    plain = weights(train(config(boxes_json, tmp_path / "plain")).last_checkpoint)
    turned = weights(train(config(boxes_json, tmp_path / "turned", channels_last=True)).last_checkpoint)
    assert plain.keys() == turned.keys()
    for name, value in plain.items():
        torch.testing.assert_close(turned[name], value, atol=2e-3, rtol=1e-2)


def test_channels_last_turns_weights_images_and_the_state_of_the_optimiser() -> None:
    layer = torch.nn.Conv2d(3, 4, 3)
    module = pl.LightningModule()
    module.layer = layer
    callback, trainer = ChannelsLast(), pl.Trainer(logger=False, accelerator="cpu", barebones=True)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.rand(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    trainer.strategy.optimizers = [optimizer]
    callback.on_fit_start(trainer, module)
    callback.on_train_start(trainer, module)
    batch = {"image": torch.zeros(2, 3, 4, 4, dtype=torch.uint8)}
    callback.on_train_batch_start(trainer, module, batch, 0)
    for tensor in (layer.weight, optimizer.state[layer.weight]["exp_avg"], batch["image"]):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    callback.teardown(trainer, module, "fit")
    assert layer.weight.is_contiguous()


@pytest.mark.slow
def test_a_compiled_training_leaves_a_plain_checkpoint(boxes_json: Path, tmp_path: Path) -> None:
    if compiler_failure(torch.device("cpu")):
        pytest.skip("there is no compiler")
    result = train(config(boxes_json, tmp_path / "compiled", compile=True))
    compiled = weights(result.last_checkpoint)
    plain = weights(train(config(boxes_json, tmp_path / "plain")).last_checkpoint)
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, atol=2e-3, rtol=1e-2)
    assert result.last_checkpoint is not None
    assert "forward_stages" not in vars(load_model(result.last_checkpoint))
    options = {"ckpt_path": str(result.last_checkpoint), "run_name": None, "max_epochs": 3}
    resumed = train(config(boxes_json, tmp_path / "compiled", compile=True, **options))
    assert resumed.last_checkpoint is not None
    assert read_checkpoint(resumed.last_checkpoint)["epoch"] == 2


def test_a_missing_compiler_costs_one_line(
    boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("No working C++ compiler found\nand a long story")

    monkeypatch.setattr(speed.torch, "compile", no_compiler)
    with caplog.at_level(logging.WARNING, "keypoint_detection"):
        result = train(config(boxes_json, tmp_path, compile=True, max_epochs=1))
    assert result.last_checkpoint is not None
    lines = [record.getMessage() for record in caplog.records if "--compile" in record.getMessage()]
    assert len(lines) == 1
    assert "No working C++ compiler found" in lines[0]
    assert "long story" not in lines[0]


def test_the_compiled_pass_is_taken_away_at_the_end() -> None:
    module = pl.LightningModule()
    vars(module)["forward_stages"] = len
    CompiledNetwork().teardown(pl.Trainer(logger=False, accelerator="cpu", barebones=True), module, "fit")
    assert "forward_stages" not in vars(module)


def test_few_steps_name_the_flags_that_make_them_cheaper() -> None:
    note = few_steps_note(139, None, 1, limited_by_time=True)
    assert note is not None
    assert "139 steps" in note
    assert "--image_size 240x320" in note
    assert "--output_stride 2" in note
    small = few_steps_note(139, (480, 640), 2, limited_by_time=True)
    assert small is not None
    assert "--image_size 240x320" in small
    assert "--output_stride" not in small
    assert few_steps_note(300, None, 1, limited_by_time=True) is None
    assert few_steps_note(3, None, 1, limited_by_time=False) is None


@pytest.mark.parametrize("other", [{"compile": True}, {"unfreeze_epoch": 3}, {"compile": "true"}])
def test_frozen_features_refuse_what_would_change_the_encoder(other: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="--frozen_features: goes without --"):
        TrainConfig(json_dataset_path="x.json", frozen_features=2, **other)  # pyright: ignore


def test_frozen_features_freeze_the_encoder() -> None:
    assert TrainConfig(json_dataset_path="x.json", frozen_features=2).freeze_backbone
    assert not TrainConfig(json_dataset_path="x.json").freeze_backbone
    assert not TrainConfig(json_dataset_path="x.json", frozen_features="0").freeze_backbone  # pyright: ignore


def test_frozen_features_that_are_no_number_are_named() -> None:
    with pytest.raises(UsageError, match=r"^--frozen_features: .* valid integer, .*; got 'many'"):
        make_config({"json_dataset_path": "x.json", "frozen_features": "many"})
