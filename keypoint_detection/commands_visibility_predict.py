"""The commands `visibility eval` and `visibility predict`."""

import argparse
import sys
import tempfile
from pathlib import Path

from keypoint_detection.command_flags import (
    command_parser,
    count,
    count_or_none,
    coverage,
    output_folder,
    torch_device,
)
from keypoint_detection.commands_scores import check_resamples
from keypoint_detection.train.cli import UsageError


def add_interval_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the bootstrap."""
    group = parser.add_argument_group("intervals")
    group.add_argument("--n_resamples", type=count, default=1000, help="bootstrap resamples")
    group.add_argument("--level", type=coverage, default=0.95, help="coverage of the intervals")
    group.add_argument("--interval", choices=["bca", "percentile"], default="bca", help="kind of bootstrap")
    group.add_argument("--seed_of_resamples", type=count_or_none, default=0, help="seed of the resamples")


def run_eval(argv: list[str]) -> int:
    """Score a checkpoint on points."""
    parser = command_parser("visibility eval", "Score a checkpoint on points, with intervals and a page.")
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that visibility train wrote")
    parser.add_argument("--data", help="folder that visibility make-dataset wrote")
    parser.add_argument("--json_dataset_path", help="or a COCO keypoint file: visibility 2 against 1")
    parser.add_argument("--group_by", help="with a COCO file: field of the images or folder that is the view")
    parser.add_argument("--views", nargs="+", help="names of the views to score on; default: all")
    parser.add_argument(
        "--output", type=output_folder, help="folder for the files; default: eval-<data> of the run"
    )
    parser.add_argument("--eval_group", help="what compare calls it; default: the name of the run's folder")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    add_interval_flags(parser)
    args = parser.parse_args(argv)
    check_resamples(args.n_resamples, args.level)
    if (args.data is None) == (args.json_dataset_path is None):
        raise UsageError("expected --data or --json_dataset_path, one of them")
    if args.group_by is not None and args.data is not None:
        raise UsageError("argument --group_by: goes with --json_dataset_path; a data folder has views")
    with tempfile.TemporaryDirectory() as folder:
        return _eval(args, Path(folder))


def _eval(args: argparse.Namespace, temporary: Path) -> int:
    from keypoint_detection.fold_scores import Resampling
    from keypoint_detection.visibility.evaluate_run import (
        close_text,
        evaluate_to_folder,
        read_distances,
        scores_text,
    )
    from keypoint_detection.visibility.load_classifier import load_classifier
    from keypoint_detection.visibility.train_data import make_keypoint_dataset, open_dataset, views_named

    checkpoint = Path(args.checkpoint)
    classifier = load_classifier(checkpoint, torch_device(args.accelerator))
    if args.data is not None:
        data = open_dataset(args.data)
    else:
        factors = classifier.hparams["factors"]
        data = make_keypoint_dataset(
            args.json_dataset_path, temporary / "data", factors=factors, group_by=args.group_by
        )
    table = data.table if args.views is None else data.of_views(views_named(data, args.views, "--views"))
    folder = checkpoint.resolve().parent
    run = folder.parent if folder.name == "checkpoints" else folder  # one that was copied has no run
    source = Path(args.data or args.json_dataset_path)
    output = Path(args.output) if args.output else run / f"eval-{source.resolve().stem}"
    about = {"checkpoint": str(checkpoint), "eval_group": args.eval_group or run.name}
    resampling = Resampling(args.n_resamples, args.level, args.interval, args.seed_of_resamples)
    metrics = evaluate_to_folder(classifier, data, table, output, about=about, resampling=resampling)
    print("\n".join(filter(None, [scores_text(metrics), close_text(read_distances(output))])))
    print(f"written to {output}: metrics.json, predictions.csv, distances.json")
    print(f"the page to look at: {output / 'report.html'}")
    return 0


def run_predict(argv: list[str]) -> int:
    """Predict what can be seen in images."""
    parser = command_parser(
        "visibility predict",
        "Map P(visible) over images, and estimate from their depth maps how far one can see.",
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that visibility train wrote")
    parser.add_argument(
        "--source", required=True, nargs="+", help="images, folders of images, or a folder of scenes"
    )
    parser.add_argument(
        "--depth",
        help="depth map (.npy, metres [h, w]) of all images, or a folder with one of each image's name",
    )
    parser.add_argument(
        "--output", type=output_folder, required=True, help="folder for everything that is written"
    )
    parser.add_argument(
        "--stride_px", type=count, default=16, help="distance of the points of the map, pixels of the image"
    )
    parser.add_argument(
        "--coarse",
        type=count,
        default=4,
        help="classify every n-th point of the map first, and all only where these differ; 1: all at once",
    )
    parser.add_argument(
        "--points", type=count, default=500, help="points per image, even over log depth, for the distance"
    )
    parser.add_argument("--picture_px", type=count, default=960, help="longer side of each picture, pixels")
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the points and the intervals")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    args = parser.parse_args(argv)
    from keypoint_detection.visibility.load_classifier import load_classifier
    from keypoint_detection.visibility.predict_scenes import MapOptions, find_images, predict_scenes

    classifier = load_classifier(args.checkpoint, torch_device(args.accelerator))
    scenes = find_images(args.source, args.depth, output=args.output)
    options = MapOptions(args.stride_px, args.coarse, args.points, args.picture_px, args.seed)
    unreadable = predict_scenes(classifier, scenes, args.output, options).unreadable
    print(f"written to {args.output}: maps/, predictions.csv, distances.json")
    if unreadable:
        lost = f"{len(unreadable)} image{'s' * (len(unreadable) != 1)}"
        print(f"{lost} could not be read and were left out, see above", file=sys.stderr)
    return 1 if unreadable else 0
