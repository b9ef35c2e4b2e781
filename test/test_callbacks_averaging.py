import itertools
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from keypoint_detection.callbacks_averaging import AveragedWeights, averaging_callbacks, decay_after
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train import utils
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.resume import TrainingInterrupted
from keypoint_detection.train.train import TrainResult, train
from keypoint_detection.utils.load_checkpoints import load_model

CHANNELS = "corner0 = corner1 = corner2 = corner3; flap_left; flap_right"


def make_config(json_path: Path, root: Path, **options: Any) -> TrainConfig:
    settings = {
        "json_dataset_path": str(json_path),
        "keypoint_channel_configuration": CHANNELS,
        "default_root_dir": str(root),
        "run_name": "run",
        "n_channels": 8,
        "max_epochs": 4,
        "batch_size": 2,
        "accelerator": "cpu",
        "num_workers": 0,
        "ema_decay": 0.9,
        "decay_type": "constant",
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**settings, **options})


def read(result: TrainResult, name: str = "last") -> dict[str, Any]:
    return torch.load(result.run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


class Recorder(pl.Callback):
    """Keep the weights after every step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_batch_end(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.seen.append({name: value.clone() for name, value in pl_module.state_dict().items()})


def with_callback(monkeypatch: pytest.MonkeyPatch, callback: pl.Callback) -> None:
    build = utils.build_callbacks
    monkeypatch.setattr(utils, "build_callbacks", lambda *given: [*build(*given), callback])


def test_decay_by_hand() -> None:
    assert [decay_after(n, 0.99) for n in (0, 1, 8, 90, 10**6)] == pytest.approx(
        [0.1, 2 / 11, 0.5, 0.91, 0.99]
    )
    assert averaging_callbacks(0.0) == []
    assert isinstance(averaging_callbacks(0.5)[0], AveragedWeights)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_checkpoint_holds_a_slow_average_and_the_weights(
    accumulate: int, boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    with_callback(monkeypatch, recorder)
    trainer = {"enable_progress_bar": False, "accumulate_grad_batches": accumulate, "limit_train_batches": 2}
    result = train(make_config(boxes_json, tmp_path, trainer=trainer))
    saved = read(result)
    seen = [recorder.seen[0], *recorder.seen[accumulate::accumulate]]
    assert len(seen) - 1 == saved["global_step"]
    for name, first in seen[0].items():
        if not first.is_floating_point():  # a counter of batches is copied
            assert torch.equal(saved["state_dict"][name], seen[-1][name])
            continue
        slow = first.double()
        for number, later in enumerate(seen[1:]):
            keep = min(0.9, (1 + number) / (10 + number))
            slow = keep * slow + (1 - keep) * later[name].double()
        torch.testing.assert_close(saved["state_dict"][name].double(), slow, rtol=1e-4, atol=1e-6)
        assert torch.equal(saved["current_model_state"][name], seen[-1][name])
    assert int(saved["averaging_state"]["n_averaged"]) == len(seen) - 1
    loaded = load_model(result.run_dir / "checkpoints" / "last.ckpt").state_dict()
    assert all(torch.equal(loaded[name], saved["state_dict"][name]) for name in loaded)
    assert any(not torch.equal(loaded[name], seen[-1][name]) for name in loaded)


def test_averaging_changes_nothing_for_the_weights_themselves(boxes_json: Path, tmp_path: Path) -> None:
    averaged = read(train(make_config(boxes_json, tmp_path)))
    plain = read(train(make_config(boxes_json, tmp_path, ema_decay=0.0, run_name="plain")))
    assert "averaging_state" not in plain
    assert all(
        torch.equal(averaged["current_model_state"][name], plain["state_dict"][name])
        for name in plain["state_dict"]
    )


@pytest.mark.parametrize("decay_type", ["constant", "onecycle", "plateau"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(
    decay_type: str, boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"decay_type": decay_type, "augment_train": True, "plateau_patience": 1}
    whole = read(train(make_config(boxes_json, tmp_path, run_name="whole", **options)))

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        with_callback(patch, Stop())
        with pytest.raises(TrainingInterrupted):
            train(make_config(boxes_json, tmp_path, **options))
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    resumed = read(train(make_config(boxes_json, tmp_path, ckpt_path=str(checkpoint), **options)))
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(whole[part][name], resumed[part][name]) for name in whole[part])


def test_scores_of_the_best_checkpoint_are_those_logged(boxes_json: Path, tmp_path: Path) -> None:
    result = train(
        make_config(
            boxes_json,
            tmp_path,
            json_validation_dataset_path=str(boxes_json),
            json_test_dataset_path=str(boxes_json),
            max_epochs=6,
            learning_rate=0.01,
            check_val_every_n_epoch=6,
        )
    )
    # one validation, in the last epoch: last and best are the same, and all three scores are of the average
    assert result.test["test/loss"] == pytest.approx(result.validation["validation/loss"], rel=1e-6)
    config = make_config(boxes_json, tmp_path)
    for name, weights in (("average", "state_dict"), ("weights", "current_model_state")):
        detector = load_model(result.run_dir / "checkpoints" / "best.ckpt")
        detector.load_state_dict(read(result, "best")[weights])
        loss = _loss(detector, config)
        is_logged = loss == pytest.approx(result.validation["validation/loss"], rel=1e-5)
        assert is_logged == (name == "average")


def _loss(detector: KeypointDetector, config: TrainConfig) -> float:
    """Return the loss over all images."""
    data = utils.build_data_module(config.model_copy(update={"json_validation_dataset_path": None}))
    samples = list(itertools.chain(data.train_dataloader(), data.val_dataloader()))
    losses, sizes = [], []
    for batch in samples:
        output = detector(batch["image"]).detach()
        target, weight = detector.targets(batch, output)
        losses.append(float(detector.loss_function(output, target, weight).sum()))
        sizes.append(len(output))
    return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def test_an_interrupted_validation_does_not_mix_up_weights_and_average(
    boxes_json: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()

    class Stop(pl.Callback):
        def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            raise KeyboardInterrupt

    with_callback(monkeypatch, recorder)
    with_callback(monkeypatch, Stop())
    with pytest.raises(TrainingInterrupted):
        train(make_config(boxes_json, tmp_path))
    saved = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    for name, value in recorder.seen[-1].items():
        assert torch.equal(saved["current_model_state"][name], value)


def test_a_run_without_averages_may_go_on_with_them_but_not_the_other_way_round(
    boxes_json: Path, tmp_path: Path
) -> None:
    plain = train(make_config(boxes_json, tmp_path, ema_decay=0.0, max_epochs=1))
    checkpoint = str(plain.last_checkpoint)
    averaged = read(train(make_config(boxes_json, tmp_path, ckpt_path=checkpoint, max_epochs=2)))
    assert "averaging_state" in averaged
    with pytest.raises(ValueError, match="expects --ema_decay again"):
        train(make_config(boxes_json, tmp_path, ckpt_path=checkpoint, max_epochs=3, ema_decay=0.0))


def test_the_learning_rate_finder_does_not_delay_the_average(boxes_json: Path, tmp_path: Path) -> None:
    saved = read(train(make_config(boxes_json, tmp_path, auto_lr_find=True, max_epochs=1)))
    assert int(saved["averaging_state"]["n_averaged"]) == saved["global_step"]
