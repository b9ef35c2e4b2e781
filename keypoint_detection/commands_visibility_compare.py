"""The commands `visibility cross-validate`, `visibility compare` and `visibility demo`."""

import argparse
from pathlib import Path

from keypoint_detection.command_flags import (
    command_parser,
    count,
    count_or_none,
    output_folder,
    quiet_lightning,
)
from keypoint_detection.commands_scores import check_resamples
from keypoint_detection.commands_visibility_predict import add_interval_flags
from keypoint_detection.commands_visibility_train import add_training_flags, training_config
from keypoint_detection.visibility.train_config import config_to_yaml

OF_ONE_TRAINING = ("validation_views", "validation_split_ratio", "run_name", "ckpt_path")
"""Flags of a training that the folds decide."""


def run_cross_validate(argv: list[str]) -> int:
    """Train and score a classifier per fold of views."""
    parser = command_parser(
        "visibility cross-validate",
        "Train a classifier per fold of views, and score each on the views that it has not seen.",
    )
    parser.add_argument("--folds", type=_folds, help="number of folds; default: leave out one view at a time")
    parser.add_argument(
        "--output",
        type=output_folder,
        help="folder for everything; default: visibility-folds-<data> in --default_root_dir. The same "
        "command goes on with what a killed one has left there",
    )
    add_training_flags(parser, OF_ONE_TRAINING)
    add_interval_flags(parser)
    args = parser.parse_args(argv)
    check_resamples(args.n_resamples, args.level)
    config = training_config(args)
    if args.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.visibility.cross_validation import cross_validate

    quiet_lightning()
    source = Path(config.data or config.json_dataset_path or "")
    name = f"visibility-folds-{source.resolve().stem}"
    output = Path(args.output) if args.output else Path(config.default_root_dir) / name
    comparison = cross_validate(config, output, folds=args.folds, resampling=_resampling(args))
    from keypoint_detection.visibility.compare_table import overall_text

    print(overall_text(comparison))
    _print_files(output)
    return 0


def _folds(text: str) -> int:
    return count(text, least=2)


def _resampling(args: argparse.Namespace):
    from keypoint_detection.fold_scores import Resampling

    return Resampling(args.n_resamples, args.level, args.interval, args.seed_of_resamples)


def _print_files(output: Path) -> None:
    names = ("comparison.md", "comparison.csv", "comparison.png", "confusions.png")
    print("written: " + ", ".join(str(output / name) for name in names))


def run_compare(argv: list[str]) -> int:
    """Compare runs and groups of them."""
    parser = command_parser(
        "visibility compare",
        "Compare runs, evaluations or cross-validations on the same points: a table of what differs beyond "
        "the intervals, one figure of all folds, and confusion matrices.",
    )
    parser.add_argument("folders", nargs="+", help="of runs, of evaluations, or of cross-validations")
    parser.add_argument(
        "--eval_group",
        nargs="+",
        metavar="NAME",
        help="what to call each folder, in their order; folders of one name are folds of one group; default: "
        "as they were trained or evaluated with",
    )
    parser.add_argument(
        "--output", type=output_folder, default="visibility-comparison", help="folder for what is written"
    )
    add_interval_flags(parser)
    args = parser.parse_intermixed_args(argv)
    check_resamples(args.n_resamples, args.level)
    from keypoint_detection.visibility.compare_runs import fold_folders, write_group_comparison
    from keypoint_detection.visibility.compare_table import comparison_words, overall_text

    folders = fold_folders(args.folders, args.eval_group)
    comparison = write_group_comparison(folders, args.output, _resampling(args))
    print(overall_text(comparison))
    print("\n".join(comparison_words(comparison)), end="\n" if len(comparison.groups) > 1 else "")
    _print_files(Path(args.output))
    return 0


def run_demo(argv: list[str]) -> int:
    """Draw hazy terrain, train, and look at unseen views."""
    parser = command_parser(
        "visibility demo",
        "Draw hazy terrain whose limit of visibility is known, train, and look at views that the training "
        "has not seen: a few minutes on two cores.",
    )
    parser.add_argument(
        "--output",
        type=output_folder,
        default="visibility-demo",
        help="folder for everything that is written; scenes/, points/, run/ and variants/ of an earlier demo "
        "are replaced",
    )
    parser.add_argument("--seed", type=count_or_none, default=8, help="seed of the terrain and the training")
    parser.add_argument(
        "--variants",
        action="store_true",
        help="also cross-validate the eight variants of the network, short trainings, and compare them",
    )
    args = parser.parse_args(argv)
    from keypoint_detection.visibility.demo import run

    quiet_lightning()
    run(args.output, args.seed, with_variants=args.variants)
    return 0
