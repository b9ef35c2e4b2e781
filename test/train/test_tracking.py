import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from reference.wandb_records import history, records
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.tracking import initial_weights, tracking_callbacks
from keypoint_detection.train.train import train

NAMES = ["all_channels", "flap_left", "flap_right"]


@pytest.fixture(scope="module")
def tracked(boxes_json: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of three epochs with every logger; images after epochs 0 and 2."""
    import wandb

    config = TrainConfig(
        json_dataset_path=str(boxes_json),
        keypoint_channel_configuration="flap_left; flap_right",
        default_root_dir=str(tmp_path_factory.mktemp("tracked")),
        run_name="run",
        max_epochs=3,
        n_channels=8,
        accelerator="cpu",
        num_workers=0,
        heatmap_sigma=3.0,
        log_every_n_steps=1,
        ap_epoch_freq=1,
        log_images_every=2,
        logger="wandb, tensorboard",
        log_model=True,
        trainer={"enable_progress_bar": False},
    )
    try:
        folder = train(config).run_dir
    finally:
        wandb.finish()
    return folder


def csv_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_file(folder: Path) -> Path:
    (path,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    return path


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def test_learning_rate_and_sigma_are_columns_of_the_epochs(tracked: Path) -> None:
    rows = [row for row in csv_rows(tracked) if row["train/loss_epoch"]]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [float(row["sigma_px"]) for row in rows] == [3.0, 3.0, 3.0]
    # One step per epoch: at the start of the warm-up, after it, and on the way down.
    rates = [float(row["learning_rate"]) for row in rows]
    assert 0 < rates[0] < rates[2] < rates[1] <= TrainConfig(json_dataset_path="x").learning_rate


def test_every_logger_gets_every_scalar(tracked: Path) -> None:
    rows = csv_rows(tracked)
    columns = {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}
    del columns["step"]
    kept, shown = history(wandb_file(tracked)), events(tracked)
    assert {"validation/loss/flap_left", "train/loss/flap_right", "validation/ap@2px"} <= columns.keys()
    assert columns.keys() <= kept.keys()
    assert columns.keys() <= set(shown.Tags()["scalars"])
    for name in ("validation/loss", "train/loss/flap_left", "validation/map", "sigma_px", "learning_rate"):
        assert kept[name] == pytest.approx(columns[name], abs=1e-7), name
        assert [event.value for event in shown.Scalars(name)] == pytest.approx(columns[name], abs=1e-6), name


def test_pictures_go_to_wandb_and_tensorboard_at_the_chosen_epochs(tracked: Path) -> None:
    shown, kept = events(tracked), history(wandb_file(tracked))
    for name in NAMES:
        assert [image.step for image in shown.Images(f"validation/{name}")] == [1, 3]
        assert len(kept[f"validation/{name}.filenames"]) == 2
    (filename,) = kept["validation/flap_left.filenames"][0]
    assert (wandb_file(tracked).parent / "files" / filename).read_bytes()[:2] == b"\xff\xd8"  # a JPEG
    image = shown.Images("validation/flap_left")[0]
    assert image.width > 500 > image.height / 2


def test_the_best_checkpoint_is_an_artifact(tracked: Path) -> None:
    (record,) = [
        r.artifact for r in records(wandb_file(tracked)) if r.WhichOneof("record_type") == "artifact"
    ]
    assert record.name == f"model-{wandb_file(tracked).stem.removeprefix('run-')}"
    assert (record.type, sorted(record.aliases)) == ("model", ["best", "latest"])
    assert [entry.path for entry in record.manifest.contents] == ["best.ckpt"]


def test_nothing_of_wandb_or_tensorboard_is_imported_unasked(boxes_json: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from keypoint_detection.__main__ import main
code = main(["train", "--json_dataset_path", {str(boxes_json)!r}, "--default_root_dir", {str(tmp_path)!r},
    "--n_channels", "4", "--num_workers", "0", "--accelerator", "cpu", "--fast_dev_run"])
loaded = [name for name in ("wandb", "tensorboard", "torch.utils.tensorboard") if name in sys.modules]
sys.exit(f"code {{code}}, loaded {{loaded}}" if code or loaded else 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("wandb", "csv,wandb"),
        (["tensorboard"], "csv,tensorboard"),
        ("tensorboard; wandb ", "csv,wandb,tensorboard"),
    ],
)
def test_loggers_are_a_list_with_csv(given: object, expected: str) -> None:
    config = TrainConfig(json_dataset_path="x", logger=given)  # pyright: ignore[reportArgumentType]
    assert config.logger == expected
    assert config.uses_wandb == ("wandb" in expected)
    assert config.uses_tensorboard == ("tensorboard" in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"logger": "csv,wandbb"}, "Did you mean 'wandb'"),
        ({"logger": 3}, "names joined by commas"),
        ({"log_model": True}, "--log_model uploads to wandb; add --logger wandb"),
        ({"wandb_checkpoint_artifact": "e/p/n:v1", "init_weights": "a.ckpt"}, "give one"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TrainConfig(json_dataset_path="x", **options)


def test_callbacks_are_built_as_asked(tmp_path: Path) -> None:
    def kinds(**options: object) -> list[str]:
        config = TrainConfig(json_dataset_path="x", **options)  # pyright: ignore[reportArgumentType]
        return [type(callback).__name__ for callback in tracking_callbacks(config, tmp_path)]

    assert kinds() == ["TrackedSettings"]
    assert kinds(logger="tensorboard") == ["TrackedSettings", "ImageLogger"]
    assert kinds(logger="tensorboard", log_images_every=0) == ["TrackedSettings"]
    assert kinds(wandb_project="p", log_model=True)[1:] == ["ImageLogger", "BestCheckpointArtifact"]


def test_a_resumed_run_downloads_nothing() -> None:
    config = TrainConfig(json_dataset_path="x", wandb_checkpoint_artifact="e/p/n:v1", ckpt_path="last.ckpt")
    with initial_weights(config) as path:
        assert path is None


def test_an_artifact_gives_the_first_weights(
    boxes_json: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import contextlib

    from keypoint_detection.train import tracking

    monkeypatch.setattr(tracking, "wandb_checkpoint", lambda name: contextlib.nullcontext(tiny_checkpoint))
    config = TrainConfig(
        json_dataset_path=str(boxes_json),
        keypoint_channel_configuration="corner0 = corner1 = corner2 = corner3; flap_left; flap_right",
        default_root_dir=str(tmp_path),
        max_epochs=1,
        n_channels=8,
        learning_rate=1e-12,
        accelerator="cpu",
        num_workers=0,
        wandb_checkpoint_artifact="me/mice/model-1:v0",
        trainer={"enable_progress_bar": False},
    )
    last = train(config).last_checkpoint
    assert last is not None
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (tiny_checkpoint, last))
    weights = [name for name in before if name.endswith("conv.weight")]
    assert len(weights) > 3
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in weights)
