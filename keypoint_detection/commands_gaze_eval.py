"""The command `gaze eval`."""

import argparse
from pathlib import Path
from typing import Any

from keypoint_detection.command_flags import command_parser, count, count_or_none, torch_device
from keypoint_detection.commands_scores import check_resamples
from keypoint_detection.commands_visibility_predict import add_interval_flags


def run_eval(argv: list[str]) -> int:
    """Score a checkpoint on people."""
    args = _eval_parser().parse_args(argv)
    check_resamples(args.n_resamples, args.level)
    from keypoint_detection.gaze.evaluate_run import scores_text

    output, metrics, others = _evaluate(args)
    print(scores_text(metrics, others=others))
    print(f"written to {output}: metrics.json, per_person.csv, predictions.json, people.json")
    if args.report:
        print(f"the page to look at: {output / 'report.html'}")
    return 0


def _evaluate(args: argparse.Namespace) -> tuple[Path, dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the folder that was written, its scores, and those of other evaluations by name."""
    from keypoint_detection.fold_scores import Resampling
    from keypoint_detection.gaze.evaluate_run import evaluate_to_folder
    from keypoint_detection.gaze.load_follower import load_follower
    from keypoint_detection.gaze.people_data import GazePart
    from keypoint_detection.gaze.read_people import read_people

    checkpoint = Path(args.checkpoint)
    follower = load_follower(checkpoint, torch_device(args.accelerator))
    others = _others(args.others, follower.hparams["decoder"])
    given = {"format": args.data_format, "root": args.root, "skip_broken": args.skip_broken}
    people = read_people(args.data, **given)
    training = None if args.training_data is None else read_people(args.training_data, **given).table
    run = checkpoint.resolve().parent.parent
    output = Path(args.output) if args.output else run / f"eval-{Path(args.data).resolve().stem}"
    metrics = evaluate_to_folder(
        follower,
        GazePart(people.table, people.root, args.depth),
        output,
        samples=args.samples,
        seed=args.seed,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        about={"checkpoint": str(checkpoint), "data": str(args.data)},
        resampling=Resampling(args.n_resamples, args.level, args.interval, args.seed_of_resamples),
        by_group=args.by_group,
        training=training,
        others=others,
        has_page=args.report,
    )
    return output, metrics, others


def _eval_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "gaze eval",
        "Score a checkpoint on people and where they look, with intervals and a page, beside chance and the "
        "usual place.",
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that gaze train wrote")
    _add_data_flags(parser)
    parser.add_argument(
        "--others",
        nargs="+",
        metavar="FOLDER",
        help="of evaluations of other checkpoints on the same people, to print in the same table",
    )
    parser.add_argument("--output", help="folder for the files; default: eval-<data> of the run")
    _add_run_flags(parser)
    add_interval_flags(parser)
    parser.add_argument(
        "--by_group",
        action="store_true",
        help="let a resample draw whole clips (or images) instead of people",
    )
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="file of people, or a split's folder of annotations")
    parser.add_argument(
        "--data_format",
        default="auto",
        help="table, gazefollow, videoattention, goo, or auto: by the ending of the name",
    )
    parser.add_argument("--root", help="folder that the names of the images are below; default: of the data")
    parser.add_argument("--skip_broken", action="store_true", help="leave broken rows out, and say so")
    parser.add_argument(
        "--depth", metavar="FOLDER", help="depth maps, for a model that was trained with them"
    )
    parser.add_argument(
        "--training_data",
        help="people that the model was trained on, in the same format: centre bias says where they look on "
        "average; default: the middle of the image",
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples", type=count, default=8, help="maps of each person; a direct model has one"
    )
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the noise of the maps")
    parser.add_argument("--batch_size", type=count, default=16, help="people per forward pass")
    parser.add_argument(
        "--num_workers",
        type=count_or_none,
        help="processes that read images; default: one per core, 4 at most",
    )
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="write the page as well"
    )


def _others(folders: list[str] | None, decoder: str) -> dict[str, dict[str, Any]]:
    """Return the scores of other evaluations by their decoder, or by their folder where that is taken."""
    from keypoint_detection.gaze.evaluate_read import read_metrics
    from keypoint_detection.gaze.evaluate_table import name_of

    found: dict[str, dict[str, Any]] = {}
    for folder in folders or []:
        metrics = read_metrics(folder)
        name = name_of(metrics)
        found[folder if name == decoder or name in found else name] = metrics
    return found
