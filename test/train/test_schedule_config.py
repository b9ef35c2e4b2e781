import re
from inspect import signature

import pytest

from keypoint_detection.models.detector import KeypointDetector
from keypoint_detection.models.heads import HEADS
from keypoint_detection.models.losses import LOSSES
from keypoint_detection.models.point_losses import POINT_LOSSES
from keypoint_detection.models.schedules import DECAYS
from keypoint_detection.train.cli import UsageError, build_parser, parse_arguments
from keypoint_detection.train.config import TrainConfig
from keypoint_detection.train.schedule_config import ScheduleConfig

DATA = ["--json_dataset_path", "x.json"]


def parse(*argv: str) -> TrainConfig:
    return parse_arguments([*DATA, *argv])[0]


def test_the_help_lists_every_loss_and_decay() -> None:
    text = " ".join(build_parser().format_help().split())
    shown = re.search(r"--loss_function FUNCTION (.*?) --ohkm", text)
    assert shown is not None
    assert set(re.findall(r"\w+", shown[1])) >= {*LOSSES.names(), *POINT_LOSSES.names()}
    with pytest.raises(UsageError) as caught:
        parse("--decay_type", "none")
    assert set(re.findall(r"'(\w+)'", str(caught.value))) >= set(DECAYS.names())


@pytest.mark.parametrize("head", HEADS.names())
def test_every_loss_of_a_head_is_accepted(head: str) -> None:
    for name in HEADS[head].losses.names():
        assert parse("--head", head, "--loss_function", name).loss_function == name


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--loss_function", "focal"],
            "--loss_function: expected one of .*got 'focal'. Did you mean 'Focal'?",
        ),
        (["--loss_function", "AdaptivWing"], "Did you mean 'AdaptiveWing'?"),
        (
            ["--loss_function", "BCE", "--head", "regression"],
            "expected one of MSE, SmoothL1, Wing for --head",
        ),
        (
            ["--loss_function", "SmothL1", "--occlusion", "signed"],
            "expected one of BCE, MSE, SmoothL1 for --head heatmap --occlusion signed, got 'SmothL1'. Did",
        ),
        (["--warmup", "0.1", "--warmup_steps", "5"], "--warmup 0.1 and --warmup_steps 5 exclude each other"),
        (["--warmup", "1.5"], "--warmup: .*got '1.5'"),
        (["--warmup_steps", "-1"], "--warmup_steps: .*got"),
        (["--ema_decay", "1"], "--ema_decay: .*got '1'"),
        (["--ohkm", "-1"], "--ohkm: .*got"),
        (["--plateau_factor", "1"], "--plateau_factor: .*got '1'"),
        (["--plateau_metric", "ap"], "--plateau_metric: .*got 'ap'"),
        (["--final_lr_share", "2"], "--final_lr_share: .*got '2'"),
    ],
)
def test_a_wrong_call_is_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("?", r"\?")) as caught:
        parse(*argv)
    assert "\n" not in str(caught.value)


def test_names_of_older_tools_are_understood() -> None:
    config = parse(
        *("--max_grad_norm", "0.5", "--gradient_accumulation_steps", "2", "--train_batch_size", "20"),
        *("--learning_rate", "2e-4", "--weight_decay", "0.01", "--warmup_steps", "500"),
        *("--decay_type", "linear", "--val_check_interval", "100"),
    )
    assert (config.gradient_clip_val, config.accumulate_grad_batches, config.batch_size) == (0.5, 2, 20)
    assert (config.warmup, config.warmup_steps, config.decay_type) == (None, 500, "linear")
    assert config.trainer == {"val_check_interval": 100}


def test_defaults_are_those_of_the_detector() -> None:
    parameters = signature(KeypointDetector.__init__).parameters
    config = ScheduleConfig()
    for name in set(ScheduleConfig.model_fields) - {"ema_decay"}:
        assert getattr(config, name) == parameters[name].default
