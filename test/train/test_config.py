import inspect

import pytest
from pydantic import ValidationError

from keypoint_detection.models.backbones.backbone_factory import backbone_options, list_backbones
from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import BACKBONE_OPTIONS, ModelConfig, TrainConfig, parse_size


def test_parse_size_reads_height_then_width() -> None:
    assert parse_size("480x640") == (480, 640)
    assert parse_size(" 96 X 128 ") == (96, 128)


@pytest.mark.parametrize("text", ["0x5", "480", "480x", "x480", "-8x16", "7x64", "480x640x3", "a x b"])
def test_parse_size_refuses_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match="expected HEIGHTxWIDTH"):
        parse_size(text)


def test_numbers_come_as_text_list_or_one_number() -> None:
    for value in ("2 4.5", "2, 4.5", [2, 4.5], "2;4.5"):
        config = TrainConfig(json_dataset_path="x", maximal_gt_keypoint_pixel_distances=value)
        assert config.maximal_gt_keypoint_pixel_distances == [2.0, 4.5]
    assert TrainConfig(json_dataset_path="x", maximal_gt_keypoint_pixel_distances=3).model_dump()[
        "maximal_gt_keypoint_pixel_distances"
    ] == [3.0]


def test_pairs_come_as_text_or_list() -> None:
    for value in ("ear_l = ear_r; eye_l=eye_r", [["ear_l", "ear_r"], ("eye_l", "eye_r")]):
        config = TrainConfig(json_dataset_path="x", symmetric_keypoints=value)
        assert config.symmetric_keypoints == [("ear_l", "ear_r"), ("eye_l", "eye_r")]


def test_precision_and_devices_arrive_as_lightning_wants_them() -> None:
    config = TrainConfig(json_dataset_path="x", precision=16, devices="2")
    assert (config.precision, config.devices) == ("16", 2)


@pytest.mark.parametrize("name", ["wandb_project", "wandb_entity", "wandb_name"])
def test_a_wandb_field_turns_wandb_on(name: str) -> None:
    assert not TrainConfig(json_dataset_path="x").uses_wandb
    assert TrainConfig(json_dataset_path="x", **{name: "y"}).uses_wandb
    assert TrainConfig(json_dataset_path="x", logger="wandb").uses_wandb


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(ValidationError, match="batchsize"):
        TrainConfig(json_dataset_path="x", batchsize=4)


def test_every_option_of_every_backbone_is_a_flag() -> None:
    for backbone in list_backbones():
        for option in backbone_options(backbone):
            assert option in TrainConfig.model_fields, f"--{option} of {backbone} is no field of TrainConfig"
            assert option in BACKBONE_OPTIONS or option == "n_channels_in"


def test_every_choice_of_the_model_reaches_the_detector() -> None:
    arguments = set(inspect.signature(KeypointDetector.__init__).parameters)
    assert set(ModelConfig.model_fields) - set(BACKBONE_OPTIONS) <= arguments


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in TrainConfig.model_fields.values())
