"""The commands: their flags, and the calls that they make."""

from collections.abc import Callable
from pathlib import Path

from keypoint_detection.command_flags import command_parser, quiet_lightning
from keypoint_detection.commands_benchmark import run_benchmark
from keypoint_detection.commands_compare import run_compare
from keypoint_detection.commands_cross_validate import run_cross_validate
from keypoint_detection.commands_data import (
    run_browse,
    run_convert,
    run_crop,
    run_merge,
    run_resize,
    run_split,
    run_subset,
)
from keypoint_detection.commands_doctor import run_doctor
from keypoint_detection.commands_explain import run_explain
from keypoint_detection.commands_gaze import run_gaze
from keypoint_detection.commands_predict import run_predict
from keypoint_detection.commands_report import run_report
from keypoint_detection.commands_reproduce import run_reproduce
from keypoint_detection.commands_scores import run_eval
from keypoint_detection.commands_sweep import run_sweep
from keypoint_detection.commands_visibility import run_visibility
from keypoint_detection.train.cli import parse_arguments
from keypoint_detection.train.config import config_to_yaml


def run_train(argv: list[str]) -> int:
    """Train a detector on a COCO file."""
    config, options = parse_arguments(argv)
    if options.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.train.train import train

    quiet_lightning()
    train(config)
    return 0


def run_demo(argv: list[str]) -> int:
    """Draw a data set, train on it, score and predict: the whole path in a few minutes."""
    parser = command_parser(
        "demo", "Draw a data set, train, score and predict: the whole path in a few minutes."
    )
    parser.add_argument("--output", default="demo", help="folder for everything that the demo writes")
    parser.add_argument("--seed", type=int, default=2022, help="seed of the data set and the training")
    args = parser.parse_args(argv)
    from keypoint_detection.demo import run

    quiet_lightning()
    run(Path(args.output), args.seed)
    return 0


def run_backbones(argv: list[str]) -> int:
    """List the backbones, their size and their options."""
    command_parser(
        "backbones", "List the backbones: size, stride, weights, use, and their flags."
    ).parse_args(argv)
    from keypoint_detection.backbone_table import backbone_table

    print(backbone_table())
    return 0


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (run_train, "train a detector on a COCO keypoint file"),
    "eval": (run_eval, "score a checkpoint on a COCO file"),
    "report": (run_report, "the page of an evaluation, made again"),
    "compare": (run_compare, "compare the scores of runs"),
    "cross-validate": (run_cross_validate, "train and score on folds or groups"),
    "sweep": (run_sweep, "train with other flags each time, as the file of a sweep says"),
    "reproduce": (run_reproduce, "repeat a run and say whether it comes out again"),
    "predict": (run_predict, "find keypoints in images, videos or a camera"),
    "explain": (run_explain, "what a model looks at, per keypoint"),
    "convert": (run_convert, "labels of another tool to COCO, and back"),
    "doctor": (run_doctor, "look for faults in a data set, and what settings cost"),
    "browse": (run_browse, "one HTML page to look through a data set"),
    "resize": (run_resize, "a data set with images of another size"),
    "crop": (run_crop, "one image per labelled instance"),
    "split": (run_split, "a data set in parts or folds"),
    "subset": (run_subset, "a part of a data set"),
    "merge": (run_merge, "several data sets in one file"),
    "visibility": (run_visibility, "whether points can be seen: train on points, map images, compare"),
    "gaze": (run_gaze, "where people in images look: train, evaluate, predict"),
    "demo": (run_demo, "draw a data set, train, score and predict"),
    "backbones": (run_backbones, "list the backbones"),
    "benchmark": (run_benchmark, "measure the speed of backbones, of a checkpoint or of metrics"),
}
