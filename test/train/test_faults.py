import csv
import errno
import io
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from full_disk import full_disk

from keypoint_detection.callbacks_faults import NotFiniteError
from keypoint_detection.data.coco_dataset import COCOKeypointsDataset
from keypoint_detection.data.datamodule_loaders import make_dataloader
from keypoint_detection.data.imageloader import ImageError
from keypoint_detection.data.synthetic import make_dataset
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train import faults
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.faults import (
    AtomicCheckpointIO,
    CheckpointError,
    DurableCSVLogger,
    ReadableSamples,
    remove_leftovers,
)
from keypoint_detection.train.train import train

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*multi-threaded.*fork:DeprecationWarning",  # workers start by a fork
    "ignore:This DataLoader will create",  # on a machine with a single core
    "ignore:Experiment logs directory",  # Lightning's, of a folder that holds a file
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return make_dataset("boxes", tmp_path / "images", 8, (32, 32), seed=2)


def make_config(json_path: Path, root: Path, **options: Any) -> TrainConfig:
    settings: dict[str, Any] = {
        "json_dataset_path": str(json_path),
        "keypoint_channel_configuration": "flap_left; flap_right",
        "default_root_dir": str(root),
        "run_name": "run",
        "n_channels": 8,
        "batch_size": 2,
        "max_epochs": 2,
        "accelerator": "cpu",
        "num_workers": 0,
        "cache": "off",
        "trainer": {"enable_progress_bar": False},
    }
    return TrainConfig(**{**settings, **options})


def test_a_full_disk_keeps_the_checkpoint_that_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, writer = tmp_path / "last.ckpt", AtomicCheckpointIO(max_failures=3)
    small, large = {"epoch": 1}, {"weights": torch.zeros(4000)}
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(
            torch, "save", lambda content, file: file.write(b"x" * len(str(content["epoch"])))
        )
        writer.save_checkpoint(small, path)
    whole = path.read_bytes()
    with caplog.at_level(logging.WARNING, "keypoint_detection"), full_disk(1000):
        for failures in (1, 2):
            writer.save_checkpoint(large, path)
            assert writer.failures == failures
    assert path.read_bytes() == whole
    assert "the one before is kept, and the next time is try 3 of 3" in caplog.text
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    message = r"last\.ckpt: 3 checkpoints in a row could not be written \(File"
    with full_disk(1000), pytest.raises(CheckpointError, match=message):
        writer.save_checkpoint(large, path)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch, "save", lambda content, file: file.write(b"y"))
        writer.save_checkpoint(small, path)
    assert writer.failures == 0


def full_at(monkeypatch: pytest.MonkeyPatch, calls: set[int]) -> list[int]:
    """Let these writes of checkpoints (counted from 1) find a full disk; return the list of all."""
    made: list[int] = []
    real = faults._write_through

    def write(path: Path, content: io.BytesIO) -> None:
        made.append(len(made) + 1)
        if made[-1] in calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, content)

    monkeypatch.setattr(faults, "_write_through", write)
    return made


def test_a_training_goes_on_while_the_disk_is_full(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = full_at(monkeypatch, {1, 2, 3})
    result = train(make_config(images, tmp_path, checkpoint_every="1 steps", max_failed_checkpoints=4))
    assert result.last_checkpoint is not None
    assert torch.load(result.last_checkpoint, weights_only=True)["global_step"] == 6
    assert len(made) > 4


def test_a_training_ends_when_the_disk_stays_full(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full_at(monkeypatch, set(range(2, 100)))
    with pytest.raises(CheckpointError, match="3 checkpoints in a row could not be written") as error:
        train(make_config(images, tmp_path, checkpoint_every="1 steps", max_failed_checkpoints=3))
    assert "\n" not in str(error.value)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1


def test_a_full_disk_keeps_the_lines_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = DurableCSVLogger(tmp_path, name="run", version="")
    path = tmp_path / "run" / "metrics.csv"
    with full_disk(1000):
        log.log_metrics({"loss": 1.0}, step=0)
        log.save()
        before = path.read_bytes()
        for step in range(1, 5):
            log.log_metrics({"loss": 1.0, f"{step}" * 400: 2.0}, step=step)  # a new, long column each
            log.save()
    assert path.read_bytes() != before  # the first two of them fit
    with path.open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    assert caplog.text.count("its lines are kept in memory") == 1
    log.save()
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert rows[3]["3" * 400] == "2.0"


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path: Path) -> None:
    for name in (".last-x1.ckpt", ".best-x2.ckpt", "last.ckpt"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]


def spoil(images: Path, image_id: int) -> str:
    """Overwrite an image of the data set; return its name."""
    dataset = COCOKeypointsDataset(images, "flap_left")
    name = dataset.file_name(image_id)
    (images.parent / name).write_text("no image")
    return Path(name).name


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_replaced_by_the_next_one(images: Path, workers: int) -> None:
    dataset = COCOKeypointsDataset(images, "flap_left")
    ids = dataset.image_ids
    name = spoil(images, ids[3])
    samples = ReadableSamples(dataset)
    loader = make_dataloader(samples, 3, num_workers=workers)
    seen = [number for batch in loader for number in batch["image_id"].tolist()]
    assert seen == [*ids[:3], ids[4], *ids[4:]]
    assert samples.unreadable_ids == [ids[3]]
    summary = samples.summary()
    assert summary is not None
    assert summary.startswith("1 of 8 training images could not be read: ")
    assert summary.endswith(name)


def test_without_any_readable_image_it_is_an_error(images: Path) -> None:
    dataset = COCOKeypointsDataset(images, "flap_left")
    for number in dataset.image_ids:
        spoil(images, number)
    with pytest.raises(ImageError, match="got none among 8"):
        ReadableSamples(dataset)[2, 7]


def test_an_image_that_breaks_in_a_training_is_named_or_skipped(
    images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(
        images,
        tmp_path,
        json_validation_dataset_path=str(make_dataset("boxes", tmp_path / "validation", 2, (32, 32), seed=3)),
    )
    name = spoil(images, COCOKeypointsDataset(images, "flap_left").image_ids[5])
    with pytest.raises(ImageError, match=name):
        train(config)
    with caplog.at_level(logging.WARNING, "keypoint_detection"):
        train(config.model_copy(update={"skip_unreadable": True, "run_name": "skips"}))
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-1].startswith("1 of 8 training images could not be read")


def test_a_failed_read_in_an_epoch_leaves_a_checkpoint_of_the_step_before(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = COCOKeypointsDataset.__getitem__, []

    def reads(self: COCOKeypointsDataset, index: Any) -> dict[str, Any]:
        calls.append(index)
        if len(calls) == 4:  # in the second batch
            raise ImageError("expected an image, got a corrupt, cut or unknown file: x.png")
        return real(self, index)

    monkeypatch.setattr(COCOKeypointsDataset, "__getitem__", reads)
    config = make_config(images, tmp_path)
    with pytest.raises(ImageError, match=r"x\.png"):
        train(config)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1
    run = train(config.model_copy(update={"ckpt_path": "last"}))
    monkeypatch.setattr(COCOKeypointsDataset, "__getitem__", real)
    whole = train(config.model_copy(update={"run_name": "whole"}))
    weights = [torch.load(r.last_checkpoint, weights_only=True)["state_dict"] for r in (run, whole)]  # pyright: ignore
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    value: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, batches = KeypointDetector.training_step, []

    def step(self: KeypointDetector, batch: Any, batch_idx: int) -> torch.Tensor:
        batches.append(batch["image_id"].tolist())
        return real(self, batch, batch_idx) * (float(value) if len(batches) == 3 else 1.0)

    monkeypatch.setattr(KeypointDetector, "training_step", step)
    with pytest.raises(NotFiniteError) as error:
        train(make_config(images, tmp_path, checkpoint_every="1 steps"))
    message = str(error.value)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert message.startswith(f"step 2 of epoch 0: expected a finite loss, got {value} on the images ")
    assert message.endswith("use --precision 32")  # the name that every training knows
    assert f"the last good checkpoint is {last}" in message
    names = COCOKeypointsDataset(images, "flap_left")
    assert all(f"{names.file_name(number)} (id {number})" in message for number in batches[2])
    saved = torch.load(last, weights_only=True)
    assert saved["global_step"] == 2
    assert all(bool(weight.isfinite().all()) for weight in saved["state_dict"].values())


def test_weights_that_are_no_numbers_are_never_written(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoils(self: KeypointDetector, *_: Any) -> None:
        if self.trainer.global_step == 2:
            next(self.parameters()).data.fill_(float("inf"))

    monkeypatch.setattr(KeypointDetector, "on_train_batch_end", spoils)
    with pytest.raises(NotFiniteError, match="step 2: expected finite weights"):
        train(make_config(images, tmp_path, checkpoint_every="1 steps"))
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == 1
