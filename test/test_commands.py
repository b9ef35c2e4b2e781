"""The commands as a user meets them: exit codes, one line for what is wrong, nothing half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keypoint_detection.__main__ import main
from keypoint_detection.commands import COMMANDS
from keypoint_detection.commands_scores import eval_folder

TRAIN_FLAGS = ["--accelerator", "cpu", "--num_workers", "0", "--max_epochs", "1", "--n_channels", "8"]


@pytest.fixture
def dataset(boxes_json: Path, tmp_path: Path) -> Path:
    """Return a copy of the drawn data set that a test may break."""
    shutil.copytree(boxes_json.parent, tmp_path / "data")
    return tmp_path / "data" / boxes_json.name


def failing(argv: list[str], capsys: pytest.CaptureFixture, code: int) -> str:
    """Run a command that must fail and return its one line."""
    capsys.readouterr()
    assert main(argv) == code
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    return errors[0]


def test_usage_lists_the_commands(capsys: pytest.CaptureFixture) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in ("train", "eval", "predict", "convert", "demo", "backbones"))


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture) -> None:
    assert failing(["predit"], capsys, 2) == "error: unknown command 'predit'. Did you mean 'predict'?"


@pytest.mark.parametrize("command", [*COMMANDS])
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert f"keypoint-detection {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["train"],
        ["train", "--json_dataset_path", "x", "--image_size", "0x5"],
        ["eval", "--checkpoint", "x"],
        ["eval", "--checkpoint", "x", "--json_dataset_path", "y", "--image_size", "0x5"],
        ["eval", "--checkpoint", "x", "--json_dataset_path", "y", "--batch_size", "0"],
        [
            "eval",
            "--checkpoint",
            "x",
            "--json_dataset_path",
            "y",
            "--maximal_gt_keypoint_pixel_distances",
            "a b",
        ],
        ["predict", "--checkpoint", "x", "--source", "y", "--output", "z", "--confidence_threshold", "2"],
        ["convert", "cvatt", "x", "--output", "y"],
        ["demo", "--sed", "1"],
    ],
)
def test_a_wrong_call_exits_with_two(argv: list[str], capsys: pytest.CaptureFixture) -> None:
    assert failing(argv, capsys, 2)


def edit(path: Path, change: Callable[[dict], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


BROKEN_FILES = {
    "truncated JSON": lambda p: p.write_text(p.read_text()[:500]),
    "wrong length": lambda p: edit(p, lambda c: c["annotations"][0]["keypoints"].pop()),
    "empty annotation list": lambda p: edit(p, lambda c: c.update(annotations=[])),
    "category without keypoints": lambda p: edit(p, lambda c: c["categories"][0].pop("keypoints")),
    "not finite": lambda p: edit(p, lambda c: c["annotations"][0]["keypoints"].__setitem__(0, float("nan"))),
    "infinite": lambda p: edit(p, lambda c: c["annotations"][0]["keypoints"].__setitem__(1, float("inf"))),
    "unknown image": lambda p: edit(p, lambda c: c["annotations"][0].update(image_id=10**6)),
    "duplicate id": lambda p: edit(p, lambda c: c["images"].append(c["images"][0])),
    "missing image": lambda p: next((p.parent / "images").glob("*.png")).unlink(),
    "missing file": lambda p: p.unlink(),
    "size": lambda p: edit(p, lambda c: [image.update(width=63) for image in c["images"]]),
}


@pytest.mark.parametrize("breakage", BROKEN_FILES)
def test_a_broken_data_set_is_one_line_and_leaves_nothing(
    breakage: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    BROKEN_FILES[breakage](dataset)
    root = tmp_path / "runs"
    line = failing(
        ["train", "--json_dataset_path", str(dataset), "--default_root_dir", str(root), *TRAIN_FLAGS],
        capsys,
        1,
    )
    assert dataset.name in line or ".png" in line
    assert not list(root.rglob("*.ckpt"))


def test_a_corrupt_image_is_named(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for image in (dataset.parent / "images").glob("*.png"):
        image.write_bytes(image.read_bytes()[:300])
    root = tmp_path / "runs"
    line = failing(
        ["train", "--json_dataset_path", str(dataset), "--default_root_dir", str(root), *TRAIN_FLAGS],
        capsys,
        1,
    )
    assert ".png" in line
    assert not list(root.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        ("flap_lefd", "flap_left"),
        ("flap_left;;", "nothing for channel 2"),
        ("flap_left = flap_left", "flap_left"),
    ],
)
def test_wrong_channels_are_one_line(
    channels: str, expected: str, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    argv = ["train", "--json_dataset_path", str(boxes_json), "--keypoint_channel_configuration", channels]
    assert expected in failing([*argv, "--default_root_dir", str(tmp_path), *TRAIN_FLAGS], capsys, 1)


def test_a_channel_without_keypoints_is_named(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    def hide_flap(content: dict) -> None:
        place = 3 * content["categories"][0]["keypoints"].index("flap_left")
        for annotation in content["annotations"]:
            annotation["keypoints"][place : place + 3] = [0, 0, 0]

    edit(dataset, hide_flap)
    argv = [
        "train",
        "--json_dataset_path",
        str(dataset),
        "--default_root_dir",
        str(tmp_path / "runs"),
        *TRAIN_FLAGS,
    ]
    assert "flap_left" in failing(argv, capsys, 1)


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_file_that_is_no_checkpoint_is_one_line(
    command: str, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = tmp_path / "x.ckpt"
    path.write_text("no checkpoint")
    rest = {
        "eval": ["--json_dataset_path", str(boxes_json)],
        "predict": ["--source", str(boxes_json.parent / "images")],
    }
    argv = [command, "--checkpoint", str(path), "--output", str(tmp_path / "out"), *rest[command]]
    assert "x.ckpt is not a checkpoint" in failing(argv, capsys, 1)
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_not_there_is_one_line(
    boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    argv = [
        "train",
        "--json_dataset_path",
        str(boxes_json),
        "--default_root_dir",
        str(tmp_path),
        "--accelerator",
        "gpu",
    ]
    assert "gpu" in failing(argv, capsys, 1).lower()


def test_predict_exits_with_one_when_an_image_was_skipped(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.png").write_text("no image")
    argv = ["predict", "--checkpoint", str(tiny_checkpoint), "--source", str(tmp_path / "photos")]
    assert main([*argv, "--output", str(tmp_path / "out"), "--accelerator", "cpu"]) == 1
    assert "1 image could not be read" in capsys.readouterr().err


def test_eval_prints_a_table_and_writes_beside_the_run(
    tiny_checkpoint: Path, boxes_json: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    shutil.copy(tiny_checkpoint, checkpoint)
    argv = [
        "eval",
        "--checkpoint",
        str(checkpoint),
        "--json_dataset_path",
        str(boxes_json),
        "--accelerator",
        "cpu",
    ]
    assert main([*argv, "--maximal_gt_keypoint_pixel_distances", "3"]) == 0
    assert "ap@3px" in capsys.readouterr().out
    assert (tmp_path / "run" / "eval" / "metrics.json").is_file()
    assert eval_folder(Path("x/model.ckpt")) == Path("x/eval")


def test_backbones_lists_names_and_flags(capsys: pytest.CaptureFixture) -> None:
    assert main(["backbones"]) == 0
    out = capsys.readouterr().out
    assert "Unet" in out
    assert "--n_downsampling_layers 2" in out


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        main(["train", "--json_dataset_path", str(tmp_path / "none.json"), "--debug"])


@pytest.mark.parametrize(("failure", "status"), [("", 0), ("out of memory", 1)])
def test_benchmark_prints_and_saves_one_table(
    failure: str, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    from keypoint_detection.backbone_benchmark import BackboneTiming, Conditions

    def measured(name: str, conditions: Conditions) -> BackboneTiming:
        assert (conditions.image_hw, conditions.threads, conditions.batch_size) == ((32, 48), 1, 2)
        return BackboneTiming(name, 1000, 2000, [0.1], [0.2], 5, failure if name == "S3K" else "")

    monkeypatch.setattr("keypoint_detection.backbone_benchmark.measure_apart", measured)
    flags = ["--image_size", "32x48", "--threads", "1", "--batch_size", "2"]
    output = tmp_path / "table.md"
    assert main(["benchmark", "--backbones", "S3K,Unet", *flags, "--output", str(output)]) == status
    text = output.read_text()
    assert text in capsys.readouterr().out
    assert "| Unet" in text
    assert ("failed: out of memory" in text) == bool(failure)


def test_benchmark_of_an_unknown_backbone_is_one_line(capsys: pytest.CaptureFixture) -> None:
    assert main(["benchmark", "--backbones", "Unett"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: unknown backbone 'Unett'")
    assert error.count("\n") == 1
