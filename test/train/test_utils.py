import json
from pathlib import Path

import pytest
import torch

from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.utils import (
    AtomicCheckpointIO,
    build_detector,
    chosen_backbone_options,
    free_path,
    lightning_precision,
    run_folder,
    set_aside,
    training_scoring,
)


def config(**options: object) -> TrainConfig:
    return TrainConfig(json_dataset_path="data/train.json", **options)  # pyright: ignore[reportArgumentType]


def test_flags_of_other_backbones_are_named_once_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "keypoint_detection"):
        options = chosen_backbone_options(config(n_hourglasses=1, n_hg_blocks=4, n_channels=8))
    assert options == {"n_channels_in": 3, "n_channels": 8}
    assert [record.getMessage() for record in caplog.records] == [
        "not used by backbone Unet: --n_hourglasses, --n_hg_blocks"
    ]


def test_a_resumed_run_downloads_no_weights() -> None:
    resumed = config(backbone_type="ConvNeXtUnet", pretrained=True, ckpt_path="x.ckpt")
    assert chosen_backbone_options(resumed)["pretrained"] is False


def test_a_mask_without_excluded_keypoints_is_said_to_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "keypoint_detection"):
        build_detector(config(mask_excluded_keypoints=True, n_channels=8), [["a"]])
    assert "no effect" in caplog.text


@pytest.mark.parametrize(
    ("precision", "expected"),
    [("16", "bf16-mixed"), ("bf16", "bf16-mixed"), ("32", "32-true"), ("64-true",) * 2],
)
def test_half_precision_on_a_cpu_is_bf16(precision: str, expected: str) -> None:
    assert lightning_precision(config(precision=precision, accelerator="cpu")) == expected


def test_half_precision_on_a_gpu_stays_what_it_is() -> None:
    assert lightning_precision(config(precision="16", accelerator="gpu")) == "16-mixed"


def test_run_folders_do_not_collide(tmp_path: Path) -> None:
    folder = run_folder(config(default_root_dir=str(tmp_path)))
    assert folder.name.startswith("Unet-train-")
    folder.mkdir()
    assert free_path(folder) == folder.with_name(f"{folder.name}-1")


def test_a_run_goes_on_in_its_folder_by_name_too(tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    named = {"default_root_dir": str(tmp_path), "run_name": "run"}
    assert run_folder(config(ckpt_path=str(checkpoint), **named)) == tmp_path / "run"
    assert run_folder(config(ckpt_path=str(checkpoint))) == tmp_path / "run"
    with pytest.raises(FileExistsError, match="holds an earlier run"):
        run_folder(config(**named))


def test_files_that_are_set_aside_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    for text in ("first", "second"):
        path.write_text(text)
        set_aside(path)
    set_aside(path)
    assert [(tmp_path / f"metrics-{number}.csv").read_text() for number in (1, 2)] == ["first", "second"]


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    AtomicCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        AtomicCheckpointIO().save_checkpoint({"epoch": lambda: None}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_estimated_constants_are_kept_as_numbers(tmp_path: Path) -> None:
    # One object labelled twice, 6 px apart in an area of 900: 3^2 + 3^2 = 18 square px about their mean.
    labels = [
        {"id": i, "image_id": 1, "category_id": 1, "keypoints": [x, 9, 2], "area": 900, "object_id": 4}
        for i, x in ((1, 10), (2, 16))
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 40}],
        "annotations": labels,
        "categories": [{"id": 1, "name": "thing", "keypoints": ["tip"], "skeleton": []}],
        "info": {},
    }
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    kept = training_scoring(TrainConfig(json_dataset_path=str(path), oks_sigmas="estimate"))
    assert kept["oks_sigmas"] == pytest.approx({"tip": (18 / 900) ** 0.5}, rel=1e-9)
    assert training_scoring(TrainConfig(json_dataset_path=str(path)))["oks_sigmas"] is None
