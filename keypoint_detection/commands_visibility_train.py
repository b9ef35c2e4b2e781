"""The commands `visibility make-dataset` and `visibility train`."""

import argparse
from pathlib import Path

from pydantic import BaseModel

from keypoint_detection.command_flags import command_parser, count, count_or_none, quiet_lightning
from keypoint_detection.command_flags_config import add_config_flags, config_of_flags
from keypoint_detection.train.cli import UsageError
from keypoint_detection.visibility.train_config import (
    PointDataConfig,
    PointModelConfig,
    PointRunConfig,
    VisibilityTrainConfig,
    config_to_yaml,
)

FACTORS = (2, 4, 8, 16, 32)
SECTIONS: dict[str, type[BaseModel]] = {
    "data": PointDataConfig,
    "model": PointModelConfig,
    "run": PointRunConfig,
}
OF_SCENES = ("points_per_image", "border_px", "seed", "format", "depth_channel")
"""Flags of make-dataset that go with scenes only."""


def run_make_dataset(argv: list[str]) -> int:
    """Make a data set of points."""
    parser = _make_dataset_parser()
    args = parser.parse_args(argv, argparse.Namespace(**dict.fromkeys(OF_SCENES)))  # None: not given
    _check_source_flags(args)
    for name in OF_SCENES:
        if getattr(args, name) is None:
            setattr(args, name, parser.get_default(name))
    return _make_dataset(args)


def _make_dataset_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "visibility make-dataset",
        "Make a data set of points: a table of them, and the images at several scales, memory-mapped.",
    )
    parser.add_argument(
        "source",
        help="folder of scenes (images/, depth/ and masks/ by view, or camvis2's raw files), or a COCO "
        "keypoint file, whose keypoints of visibility 2 are set against those of 1",
    )
    parser.add_argument("--output", required=True, help="folder for the data set; an older one is replaced")
    parser.add_argument(
        "--factors", type=count, nargs="+", default=FACTORS, help="demagnification of each level, rising"
    )
    _add_source_flags(parser)
    return parser


def _add_source_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scenes")
    group.add_argument("--points_per_image", type=count, default=500, help="points of each image, at most")
    group.add_argument(
        "--border_px", type=count_or_none, default=64, help="pixels along the borders without points"
    )
    group.add_argument("--seed", type=count_or_none, default=2022, help="seed of the choice of points")
    group.add_argument("--format", default="csv", choices=["csv", "parquet"], help="kind of the table")
    group.add_argument(
        "--depth_channel",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show log depth to the network beside the colours",
    )
    group = parser.add_argument_group("COCO file")
    group.add_argument(
        "--group_by",
        help="field of the images (such as video) or folder that is the view; default: every image by itself",
    )


def _check_source_flags(args: argparse.Namespace) -> None:
    """Refuse the flags of the other kind of source; those of scenes are None where they are not given."""
    if args.group_by is not None and Path(args.source).is_dir():
        raise UsageError("argument --group_by: goes with a COCO file; scenes have views")
    given = [name for name in OF_SCENES if getattr(args, name) is not None]
    if given and Path(args.source).is_file():
        flags = [f"--no-{name}" if getattr(args, name) is False else f"--{name}" for name in given]
        raise UsageError(
            f"argument {', '.join(flags)}: goes with a folder of scenes; all labelled keypoints of a COCO "
            "file are points"
        )


def _make_dataset(args: argparse.Namespace) -> int:
    from keypoint_detection.visibility.make_dataset import make_dataset
    from keypoint_detection.visibility.train_data import make_keypoint_dataset, open_dataset

    if Path(args.source).is_dir():
        make_dataset(
            args.source,
            args.output,
            points_per_image=args.points_per_image,
            border_px=args.border_px,
            factors=args.factors,
            seed=args.seed,
            points_format=args.format,
            depth_channel=args.depth_channel,
        )
        data = open_dataset(args.output)
    else:
        data = make_keypoint_dataset(args.source, args.output, factors=args.factors, group_by=args.group_by)
    n_visible = int((data.table.label == 1).sum())
    print(
        f"{len(data.table)} points, {n_visible} of them visible, of {data.pyramid.n_images} images and "
        f"{len(data.views)} views; pre-scaled images {data.pyramid.n_bytes / 1e6:.1f} MB"
    )
    print(f"written: {args.output}")
    return 0


def run_train(argv: list[str]) -> int:
    """Train a classifier on points."""
    parser = command_parser(
        "visibility train", "Train a classifier on points, and score it on views that it has not seen."
    )
    add_training_flags(parser)
    args = parser.parse_args(argv)
    config = training_config(args)
    if args.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.visibility.evaluate_run import close_text, read_distances, scores_text
    from keypoint_detection.visibility.folds_file import EVAL_FOLDER
    from keypoint_detection.visibility.train import train

    quiet_lightning()
    result = train(config)
    folder = result.run_dir / EVAL_FOLDER
    print(f"last weights on the views held out, {', '.join(result.metrics['views'])}:")
    print("\n".join(filter(None, [scores_text(result.metrics), close_text(read_distances(folder))])))
    print(f"run: {result.run_dir}\nlast checkpoint: {result.last_checkpoint}\npage: {folder / 'report.html'}")
    return 0


def add_training_flags(parser: argparse.ArgumentParser, left_out: tuple[str, ...] = ()) -> None:
    """Add a flag per field of VisibilityTrainConfig, `--config` and `--print_config`."""
    add_config_flags(parser, SECTIONS, left_out)


def training_config(args: argparse.Namespace) -> VisibilityTrainConfig:
    """Return the configuration of the flags and of the YAML file.

    Raises:
        UsageError: A value is wrong; one line.
    """
    return config_of_flags(args, VisibilityTrainConfig)
