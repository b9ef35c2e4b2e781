"""The command `cross-validate`."""

import argparse
from pathlib import Path

from keypoint_detection.command_flags import (
    command_parser,
    count,
    coverage,
    quiet_lightning,
)
from keypoint_detection.command_flags import count_or_none as count_or_zero
from keypoint_detection.commands_scores import check_resamples
from keypoint_detection.registry import nearest_name
from keypoint_detection.train.backbone_flags import backbone_flags
from keypoint_detection.train.cli import ALIASES, UsageError, parse_arguments
from keypoint_detection.train.config import TrainConfig, config_to_yaml


def run_cross_validate(argv: list[str]) -> int:
    """Train and score a detector per fold."""
    parser = _parser()
    _check_flags(parser, argv)
    args, training = parser.parse_known_args(argv)
    check_resamples(args.n_resamples, args.level)
    config, options = parse_arguments(training)
    if options.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.fold_scores import Resampling
    from keypoint_detection.fold_scores_table import fold_table
    from keypoint_detection.train.cross_validation import cross_validate
    from keypoint_detection.train.cross_validation_plan import FoldSplit

    split = FoldSplit(args.folds, args.leave_one_group_out, args.group_by, args.seed_of_folds)
    name = f"cross-validation-{Path(config.json_dataset_path).stem}"
    output = Path(args.output) if args.output else Path(config.default_root_dir) / name
    quiet_lightning()
    resampling = Resampling(args.n_resamples, args.level, args.interval, args.seed_of_folds)
    print(fold_table(cross_validate(config, output, split, resampling)))
    files = ("cross_validation.json", "cross_validation.csv", "predictions.json", "scores.png")
    print("written: " + ", ".join(str(output / file) for file in files))
    print(f"every channel and fold: {output / files[1]}; a page per fold: {output}/*/eval/report.html")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "cross-validate",
        "Train a detector per fold, and score each on the images that it has not seen. All flags of "
        "keypoint-detection train are taken as well.",
    )
    parser.epilog = "keypoint-detection train --help lists the flags of the trainings."
    group = parser.add_argument_group("folds").add_mutually_exclusive_group(required=True)
    group.add_argument("--folds", type=_folds, help="number of folds, from 2")
    group.add_argument("--leave_one_group_out", action="store_true", help="a fold per group of --group_by")
    parser.add_argument(
        "--group_by",
        help="field of the COCO images (such as video), or folder: a group is never trained and scored on, "
        "and is resampled as a whole",
    )
    parser.add_argument(
        "--seed_of_folds",
        type=count_or_zero,
        default=0,
        help="seed of the split and the resamples; the trainings have --seed",
    )
    parser.add_argument(
        "--output",
        help="folder for everything; default: cross-validation-<data> in --default_root_dir. The same "
        "command goes on with what a killed one has left there",
    )
    group = parser.add_argument_group("intervals of the means over the folds")
    group.add_argument("--n_resamples", type=count, default=1000, help="bootstrap resamples")
    group.add_argument("--level", type=coverage, default=0.95, help="coverage of the intervals")
    group.add_argument("--interval", choices=["bca", "percentile"], default="bca", help="kind of bootstrap")
    return parser


def _folds(text: str) -> int:
    return count(text, least=2)


def _check_flags(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """Name the nearest flag of the folds for one that no training has either."""
    own = [flag for flag in parser._option_string_actions if flag.startswith("--")]
    names = [*TrainConfig.model_fields, *backbone_flags(), *ALIASES, "config", "print_config", "debug"]
    known = [*own, *(f"--{name}" for name in names)]
    for flag in (text.partition("=")[0] for text in argv if text.startswith("--")):
        hint = "" if flag in known else nearest_name(flag, known)
        if any(repr(name) in hint for name in own):
            raise UsageError(f"unknown argument {flag}.{hint} See --help.")
