import inspect

import pytest
import yaml
from pydantic import ValidationError

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.train.config import ModelConfig, TrainConfig, config_to_yaml


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


def test_flags_of_the_backbone_are_typed_fields_or_one_dictionary() -> None:
    flat = TrainConfig(json_dataset_path="x", n_channels="8", pretrained="true", encoder="", kernel_size=None)
    assert flat.backbone_options == {"n_channels": 8, "pretrained": True}
    nested = TrainConfig(json_dataset_path="x", backbone_options={"n_channels": 8, "own_option": 1.5})
    assert nested.backbone_options == {"n_channels": 8, "own_option": 1.5}
    with pytest.raises(ValidationError, match=r"--n_channels: expected int; got 'wide'"):
        TrainConfig(json_dataset_path="x", n_channels="wide")


def test_yaml_is_flat_and_reads_back() -> None:
    config = TrainConfig(json_dataset_path="x", n_channels=8, backbone_options={"own_option": 1.5})
    values = yaml.safe_load(config_to_yaml(config))
    assert values["n_channels"] == 8
    assert values["backbone_options"] == {"own_option": 1.5}
    assert TrainConfig(**values) == config


def test_every_choice_of_the_model_reaches_the_detector() -> None:
    arguments = set(inspect.signature(KeypointDetector.__init__).parameters)
    assert set(ModelConfig.model_fields) - {"init_weights"} <= arguments


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in TrainConfig.model_fields.values())
