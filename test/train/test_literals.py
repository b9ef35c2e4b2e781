import pytest
from configuration import CONFIGURATION, small_flags
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from keypoint_detection.train.cli import UsageError, parse_arguments
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.literals import trainer_value


def parse(*argv: str) -> TrainConfig:
    return parse_arguments(["--json_dataset_path=x.json", *argv])[0]


@pytest.mark.parametrize(
    ("flag", "name", "expected"),
    [
        ("--maximal_gt_keypoint_pixel_distances=[2, 4]", "maximal_gt_keypoint_pixel_distances", [2.0, 4.0]),
        ("--maximal_gt_keypoint_pixel_distances=(0.5,)", "maximal_gt_keypoint_pixel_distances", [0.5]),
        ("--maximal_gt_keypoint_pixel_distances=3", "maximal_gt_keypoint_pixel_distances", [3.0]),
        ("--pck_reference=['eye', 'ear']", "pck_reference", ["eye", "ear"]),
        ("--oks_sigmas={'eye': 0.1}", "oks_sigmas", {"eye": 0.1}),
        (
            "--keypoint_channel_configuration=[['a', 'b'], ['c']]",
            "keypoint_channel_configuration",
            [["a", "b"], ["c"]],
        ),
        ("--keypoint_channel_configuration=[a] = b", "keypoint_channel_configuration", "[a] = b"),
        ("--learning_rate=1e-3", "learning_rate", 0.001),
        ("--batch_size=4", "batch_size", 4),
        ("--augment_train=True", "augment_train", True),
        ("--augment_train=False", "augment_train", False),
        ("--max_epochs=None", "max_epochs", None),
        ("--num_workers=None", "num_workers", None),
        ("--variable_heatmap_sigma=None", "variable_heatmap_sigma", None),
        ("--max_time=None", "max_time", None),
    ],
)
def test_a_value_as_an_agent_writes_it(flag: str, name: str, expected: object) -> None:
    assert getattr(parse(flag), name) == expected


def test_the_arguments_that_wandb_makes_of_a_sweep_give_the_configuration() -> None:
    args = {name: {"value": value} for name, value in CONFIGURATION.items()}
    made = create_sweep_command_args({"args": args})
    for kind in ("args", "args_no_equals"):
        assert parse(*made[kind]) == TrainConfig(json_dataset_path="x.json", **CONFIGURATION)


def test_flags_and_values_are_the_same_configuration(tmp_path) -> None:
    path = tmp_path / "a.json"
    assert parse_arguments(small_flags(path))[0] == TrainConfig(json_dataset_path=str(path), **CONFIGURATION)


def test_none_is_refused_where_a_number_is_needed() -> None:
    with pytest.raises(UsageError, match=r"--batch_size: .*got 'None'"):
        parse("--batch_size=None")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("None", None), ("True", True), ("true", True), ("1e-3", 0.001), ("[2, 4]", [2, 4]), ("norm", "norm")],
)
def test_arguments_of_the_trainer_take_the_same_forms(text: str, expected: object) -> None:
    assert trainer_value(text) == expected
