import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from keypoint_detection.__main__ import main
from keypoint_detection.train.cli import UsageError, build_parser, parse_arguments
from keypoint_detection.train.config import TrainConfig, config_to_yaml

OLD_COMMAND = shlex.split(
    """--keypoint_channel_configuration "keypoint" --wandb_project p --wandb_entity e
    --json_dataset_path train.json --json_validation_dataset_path val.json --json_dataset_img_size "512x512"
    --batch_size 4 --seed 2023
    --max_epochs 40 --early_stopping_relative_threshold 0.0001 --log_every_n_steps 1 --accelerator="gpu"
    --devices 1 --precision 16 --backbone_type "ConvNeXtUnet" --learning_rate 0.0004
    --maximal_gt_keypoint_pixel_distances "0.5 0.55 0.6 0.65 0.70 0.75 0.80 0.85 0.90 0.95" --ap_epoch_freq 2
    --auto_1r_find True --fast_dev_run False --n_channels_in 3 --heatmap_sigma 2 --variable_heatmap_sigma 2
    --n_resnet_blocks 3 --n_downsampling_layers 2 --n_hourglasses 1 --n_hg_blocks 4 --augment_train
    --loss_function "BCE" """
)


def parse(*argv: str) -> TrainConfig:
    return parse_arguments(list(argv))[0]


def test_the_documented_command_of_the_older_tool_is_understood() -> None:
    config = parse(*OLD_COMMAND)
    assert config.auto_lr_find is True
    assert config.fast_dev_run is False
    assert config.augment_train is True
    assert config.backbone_options["n_hourglasses"] == 1
    assert config.precision == "16"
    assert config.maximal_gt_keypoint_pixel_distances[0] == 0.5
    assert len(config.maximal_gt_keypoint_pixel_distances) == 10
    assert config.uses_wandb


def test_flags_win_over_the_yaml_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("json_dataset_path: a.json\nbatch_size: 2\nauto_1r_find: true\ntrainer: {max_steps: 5}\n")
    config = parse("--config", str(path), "--batch_size", "3", "--limit_val_batches", "0.5")
    assert (config.json_dataset_path, config.batch_size, config.auto_lr_find) == ("a.json", 3, True)
    assert config.trainer == {"max_steps": 5, "limit_val_batches": 0.5}


def test_printed_configuration_reads_back_as_itself(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["train", *OLD_COMMAND, "--print_config"]) == 0
    path = tmp_path / "run.yaml"
    path.write_text(capsys.readouterr().out)
    assert parse("--config", str(path)) == parse(*OLD_COMMAND)


def test_scientific_notation_in_yaml_is_a_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("json_dataset_path: a.json\nlearning_rate: 1e-3\n")
    assert isinstance(yaml.safe_load(path.read_text())["learning_rate"], str), "the trap is gone: simplify"
    assert parse("--config", str(path)).learning_rate == 0.001


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], "--json_dataset_path is required"),
        (
            ["--json_dataset_pth", "x"],
            "unknown argument --json_dataset_pth. Did you mean 'json_dataset_path'?",
        ),
        (["--json_dataset_path", "x", "--batch_size", "0"], "--batch_size: .*got '0'"),
        (["--json_dataset_path", "x", "--batch_size", "four"], "--batch_size: .*got 'four'"),
        (
            ["--json_dataset_path", "x", "--image_size", "0x5"],
            "--image_size: expected HEIGHTxWIDTH.*got '0x5'",
        ),
        (["--json_dataset_path", "x", "--learning_rate", "nan"], "--learning_rate: .*got 'nan'"),
        (["--json_dataset_path", "x", "--decay_type", "cosin"], "--decay_type: .*got 'cosin'"),
        (["--json_dataset_path", "x", "--config", "none.yaml"], "--config: no such file: none.yaml"),
        (["--json_dataset_path"], "expected one argument"),
        (["--json_dataset_path", "x", "--logger", "true"], "--logger: .*got 'true'"),
        (["--json_dataset_path", "x", "stray"], "unknown argument stray"),
        (["--json_dataset_path", "x", "--max_time", "20"], "--max_time: expected days, .*got '20'"),
        (["--json_dataset_path", "x", "--max_epochs", "0"], "--max_epochs: expected at least 1"),
        (["--json_dataset_path", "x", "--max_epochs", "-1"], "--max_epochs: expected at least 1"),
    ],
)
def test_a_wrong_call_is_one_line(argv: list[str], expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [1\n", "batchsize: 4\njson_dataset_path: x\n"])
def test_a_wrong_yaml_file_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        parse("--config", str(path))
    assert "\n" not in str(caught.value)


def test_help_shows_every_flag_with_its_default() -> None:
    text = " ".join(build_parser().format_help().split())
    for name, field in TrainConfig.model_fields.items():
        if name not in ("trainer", "backbone_options"):
            assert f"--{name}" in text
        if name == "heatmap_sigma":
            assert str(field.description) + " (default: 2.0)" in text


def test_help_is_quick_because_it_imports_no_torch() -> None:
    code = (
        "import sys, keypoint_detection.__main__ as m; m.main(['--help']); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_configuration_survives_yaml() -> None:
    config = TrainConfig(json_dataset_path="x", keypoint_channel_configuration=[["a", "b"], ["c"]])
    assert TrainConfig(**yaml.safe_load(config_to_yaml(config))) == config
