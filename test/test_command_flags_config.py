import argparse
from pathlib import Path

import pytest

from keypoint_detection.command_flags_config import add_config_flags, config_of_flags
from keypoint_detection.commands_visibility_train import add_training_flags, training_config
from keypoint_detection.gaze.train_config import SECTIONS, GazeTrainConfig
from keypoint_detection.train.cli import UsageError


def test_words_of_flags_become_what_the_types_hold() -> None:
    parser = argparse.ArgumentParser()
    add_config_flags(parser, SECTIONS)
    words = "--freeze scene, head --multipliers 1, 2 3 --learning_rates scene=0.1 head=0.2"
    config = config_of_flags(parser.parse_args(["--data", "a.json", *words.split()]), GazeTrainConfig)
    assert (config.freeze, config.multipliers) == (["scene", "head"], [1, 2, 3])
    assert config.learning_rates == {"scene": 0.1, "head": 0.2}


def test_names_of_views_keep_their_spaces() -> None:
    parser = argparse.ArgumentParser()
    add_training_flags(parser, left_out=("seed",))
    given = ["--data", "d", "--validation_views", "view one", "two, three", "--backbone_options"]
    options = ["output_stride=8", "pretrained=false", "--backbone_type", "Unet"]
    config = training_config(parser.parse_args([*given, *options]))
    assert config.validation_views == ["view one", "two, three"]
    assert config.backbone_options == {"output_stride": 8, "pretrained": False}
    with pytest.raises(SystemExit):
        parser.parse_args(["--data", "d", "--seed", "1"])


def test_a_yaml_file_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00data: 1")
    parser = argparse.ArgumentParser()
    add_config_flags(parser, SECTIONS)
    with pytest.raises(UsageError, match="is not YAML"):
        config_of_flags(parser.parse_args(["--config", str(path)]), GazeTrainConfig)
