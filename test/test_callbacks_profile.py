from pathlib import Path

import pytest

from keypoint_detection.callbacks_profile import TrainingProfile, phase_of
from keypoint_detection.step_profile import PHASES
from keypoint_detection.train import utils
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.train import train


@pytest.mark.parametrize(
    ("action", "phase"),
    [
        ("[_TrainingEpochLoop].train_dataloader_next", "data wait"),
        ("[Strategy]SingleDeviceStrategy.batch_to_device", "host to device"),
        ("[Strategy]DDPStrategy.training_step", "targets + loss"),
        ("[Strategy]SingleDeviceStrategy.validation_step", None),
        ("[Strategy]SingleDeviceStrategy.backward", "backward"),
        ("[LightningModule]KeypointDetector.on_after_backward", None),
        ("[LightningModule]KeypointDetector.optimizer_step", "optimiser"),
        ("[LightningModule]KeypointDetector.configure_gradient_clipping", "optimiser"),
        ("[Callback]LastCheckpoint.on_train_epoch_end", "checkpoints"),
        ("[Callback]TQDMProgressBar.on_train_batch_end", "logging"),
        ("run_training_epoch", None),
    ],
)
def test_the_names_of_lightning_have_a_phase(action: str, phase: str | None) -> None:
    assert phase_of(action) == phase


def test_a_training_prints_where_its_time_went(
    boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = TrainingProfile()
    monkeypatch.setattr(utils, "speed_callbacks", lambda _: [profile])
    config = TrainConfig(
        json_dataset_path=str(boxes_json),
        default_root_dir=str(tmp_path),
        run_name="run",
        max_epochs=2,
        batch_size=2,
        n_channels=4,  # pyright: ignore[reportCallIssue]
        accelerator="cpu",
        num_workers=0,
        profile=True,
        trainer={"enable_progress_bar": False},
    )
    train(config)
    printed = capsys.readouterr().out
    assert all(f"\n{phase} " in printed for phase in PHASES)
    assert "the network" in printed or "nothing stands out" in printed or "--" in printed
    times = profile.times
    assert times.n_steps == 2 * 3 - 2 * (len_of_training(boxes_json) <= 4)
    for phase in ("data wait", "forward", "targets + loss", "backward", "optimiser", "validation", "logging"):
        assert times.seconds[phase] > 0, phase
    assert times.seconds["forward"] + times.seconds["backward"] > times.seconds["host to device"]


def len_of_training(boxes_json: Path) -> int:
    """Return how many of the images are trained on, by the default split."""
    from keypoint_detection.data.datamodule import KeypointsDataModule

    return len(KeypointsDataModule(json_dataset_path=boxes_json).train_dataset)
