import pytest
import yaml
from pydantic import ValidationError

from keypoint_detection.data.instance_lengths import NORMALIZERS
from keypoint_detection.train.cli import UsageError, parse_arguments
from keypoint_detection.train.config import TrainConfig, config_to_yaml
from keypoint_detection.train.score_config import ScoreConfig


@pytest.mark.parametrize("given", [["eye top", "eye bottom"], "eye top = eye bottom", ["eye top=eye bottom"]])
def test_two_reference_names_choose_the_normaliser(given) -> None:
    config = ScoreConfig(pck_reference=given)
    assert (config.pck_reference, config.pck_normalizer) == (["eye top", "eye bottom"], "reference")


def test_two_names_come_as_two_arguments_and_go_through_yaml() -> None:
    flags = ["--json_dataset_path", "x", "--pck_reference", "eye top", "eye bottom", "--pck_alpha", "0.1"]
    config, _ = parse_arguments([*flags, "--max_epochs", "3"])
    assert (config.pck_reference, config.pck_alpha, config.max_epochs) == (
        ["eye top", "eye bottom"],
        [0.1],
        3,
    )
    assert TrainConfig(**yaml.safe_load(config_to_yaml(config))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pck_reference": ["a"]}, "expected two keypoint names"),
        ({"pck_reference": ["a", ""]}, "expected two keypoint names"),
        ({"pck_reference": ["a", "b"], "pck_normalizer": "pixels"}, "belong together"),
        ({"pck_normalizer": "reference"}, "belong together"),
        ({"pck_alpha": "0.1 0"}, "expected numbers above 0"),
        ({"pck_alpha": ""}, "expected numbers above 0"),
        ({"ap_interpolation": "11"}, "'all' or '101'"),
    ],
)
def test_what_does_not_fit_is_refused(values, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ScoreConfig(**values)


def test_a_wrong_pair_is_one_line_on_the_command_line() -> None:
    with pytest.raises(UsageError, match="--pck_reference: expected two keypoint names"):
        parse_arguments(["--json_dataset_path", "x", "--pck_reference", "a", "b", "c"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("coco", "coco"),
        ("0.03 0.05", "0.03 0.05"),
        ([0.1, 0.2], [0.1, 0.2]),
        ({"a": 0.1}, {"a": 0.1}),
        ("", None),
    ],
)
def test_sigmas_keep_their_form(given, expected) -> None:
    assert ScoreConfig(oks_sigmas=given).oks_sigmas == expected
    assert set(ScoreConfig().scoring) == set(ScoreConfig.model_fields)


def test_the_normalisers_are_those_of_the_data() -> None:
    for name in NORMALIZERS:
        reference = ["a", "b"] if name == "reference" else None
        assert ScoreConfig(pck_normalizer=name, pck_reference=reference).pck_normalizer == name


def test_crops_have_a_size_by_default() -> None:
    assert TrainConfig(json_dataset_path="x").image_hw is None
    assert TrainConfig(json_dataset_path="x", input_mode="instance").image_hw == (256, 192)
    assert TrainConfig(json_dataset_path="x", input_mode="instance", image_size="64x48").image_hw == (64, 48)
