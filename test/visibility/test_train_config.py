from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from keypoint_detection.visibility.train_config import VisibilityTrainConfig, config_to_yaml


def test_the_yaml_is_read_back() -> None:
    config = VisibilityTrainConfig(
        json_dataset_path="a.json",
        factors="1 2 4",  # pyright: ignore[reportArgumentType]
        validation_views="north, south",  # pyright: ignore[reportArgumentType]
        backbone_type="MobileNetV3",
        backbone_options="output_stride=8 pretrained=false",  # pyright: ignore[reportArgumentType]
    )
    assert config.factors == [1, 2, 4]
    assert config.validation_views == ["north, south"]  # the data set tells whether this is one view or two
    assert config.backbone_options == {"output_stride": 8, "pretrained": False}
    assert VisibilityTrainConfig(**yaml.safe_load(config_to_yaml(config))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "got neither"),
        ({"data": "a", "json_dataset_path": "b"}, "got both"),
        ({"data": "a", "factors": [1, 2]}, "--factors goes with --json_dataset_path"),
        ({"data": "a", "group_by": "video"}, "--group_by goes with --json_dataset_path"),
        ({"data": "a", "backbone_options": {"stride": 8}}, "needs --backbone_type"),
        ({"data": "a", "patch_px": 48}, "power of two"),
        (
            {"json_dataset_path": "a", "factors": [1, 3], "align_features": True},
            r"that double, .* got \[1, 3\]",
        ),
        ({"json_dataset_path": "a", "factors": [4], "align_features": True}, "two factors or more"),
        ({"json_dataset_path": "a", "factors": [4, 2]}, r"rising whole numbers from 1, got \[4, 2\]"),
        ({"data": "a", "align_features": True, "backbone_type": "Unet"}, "give no --backbone_type"),
        ({"data": "a", "ckpt_path": "last"}, "needs --run_name"),
        ({"data": "a", "batch_size": 1}, "greater than or equal to 2"),
        ({"data": "a", "validation_split_ratio": 1.0}, "less than 1"),
        ({"data": "a", "max_time": "5 minutes"}, "DD:HH:MM:SS"),
        ({"data": "a", "hidden": 4}, "Extra inputs are not permitted"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        VisibilityTrainConfig(**values)


def test_a_backbone_takes_patches_of_any_size(tmp_path: Path) -> None:
    assert VisibilityTrainConfig(data=str(tmp_path), patch_px=48, backbone_type="Unet").patch_px == 48
