import pytest
import yaml
from pydantic import ValidationError

from keypoint_detection.gaze.named_groups import GROUPS
from keypoint_detection.gaze.train_config import SECTIONS, GazeTrainConfig, config_to_yaml
from keypoint_detection.gaze.train_values import PARTS


def test_the_yaml_is_read_back() -> None:
    given = {
        "data": "a.json",
        "grid": "7 9",
        "multipliers": "1, 2, 4",
        "freeze": "scene head",
        "learning_rates": "scene=0.1 head=0.5",
        "scene_options": "output_stride=8 pretrained=false",
        "augment_saturation": "0.2 1.5",
        "image_size": "96X128",
        "checkpoint_every": "20 steps",
        "ema_decay": 0.99,
        "decoder": "direct",
    }
    config = GazeTrainConfig(**given)  # pyright: ignore[reportArgumentType]
    assert config.grid == [7, 9]
    assert config.multipliers == [1, 2, 4]
    assert config.freeze == ["scene", "head"]
    assert config.learning_rates == {"scene": 0.1, "head": 0.5}
    assert config.scene_options == {"output_stride": 8, "pretrained": False}
    assert config.augment_saturation == [0.2, 1.5]
    assert config.image_size == "96x128"
    assert GazeTrainConfig(**yaml.safe_load(config_to_yaml(config))) == config


def test_the_sections_are_all_fields_each_once_with_a_description() -> None:
    names = [name for section in SECTIONS.values() for name in section.model_fields]
    assert sorted(names) == sorted(GazeTrainConfig.model_fields)
    assert all(field.description for field in GazeTrainConfig.model_fields.values())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "got neither"),
        ({"data": "a", "gazefollow": "b"}, "got both"),
        ({"gazefollow": "a", "data_format": "goo"}, "goes with --data"),
        ({"data": "a", "data_format": "csv"}, "Input should be 'auto'"),
        ({"data": "a", "sampling_steps": 60, "n_timesteps": 50}, "at most --n_timesteps, 50, got 60"),
        ({"data": "a", "ckpt_path": "last"}, "needs --run_name"),
        ({"data": "a", "batch_size": 0}, "greater than or equal to 1"),
        ({"data": "a", "map_scale": 0}, "greater than 0"),
        ({"data": "a", "validation_split_ratio": 1.0}, "less than 1"),
        ({"data": "a", "augment_contrast": [1.5, 0.5]}, "the lowest and the highest factor"),
        ({"data": "a", "augment_contrast": 1.5}, "the lowest and the highest factor"),
        ({"data": "a", "max_time": "5 minutes"}, "DD:HH:MM:SS"),
        ({"data": "a", "checkpoint_every": "often"}, "500 steps"),
        ({"data": "a", "loss_function": "BCEs"}, "Input should be 'BCE'"),
        ({"data": "a", "scene_options": "a: : b"}, "name=value"),
        ({"data": "a", "freeze": "scenes"}, "Did you mean 'scene'"),
        ({"data": "a", "freeze": "scene head conditioner in_out denoiser"}, "a part that is left to train"),
        ({"data": "a", "multipliers": "0 2"}, "whole numbers from 1"),
        ({"data": "a", "attention_strides": [4, -1]}, "whole numbers from 1"),
        ({"data": "a", "seed": 2**32}, "less than 4294967296"),
        ({"data": "a", "map_scale": "inf"}, "a finite number"),
        ({"data": "a", "sigma_px": float("inf")}, "a finite number"),
        ({"data": "a", "augment_brightness": "1 inf"}, "a finite number"),
        ({"data": "a", "in_out_weight": "inf"}, "a finite number"),
        ({"data": "a", "learning_rates": {"scene": 0}}, "a factor above 0"),
        ({"data": "a", "learning_rates": {"scene": True}}, "a factor above 0"),
        ({"data": "a", "head_grid": "0 4"}, "two whole numbers from 1"),
        ({"data": "a", "widths": 4}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        GazeTrainConfig(**values)


def test_the_parts_are_those_of_the_network() -> None:
    assert PARTS == GROUPS


def test_a_direct_decoder_asks_for_no_steps() -> None:
    assert GazeTrainConfig(data="a", decoder="direct", n_timesteps=10).sampling_steps == 50
