"""The commands: their flags, and the calls that they make."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from keypoint_detection.command_flags import (
    command_parser,
    count,
    quiet_lightning,
    share,
    size,
    torch_device,
)
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
from keypoint_detection.commands_scores import run_compare, run_eval
from keypoint_detection.files import write_text
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


def run_predict(argv: list[str]) -> int:
    """Find keypoints in images."""
    parser = command_parser("predict", "Find keypoints in images; write JSON, CSV and overlay pictures.")
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument("--source", required=True, help="an image, a folder or a quoted glob")
    parser.add_argument(
        "--output", required=True, help="folder for predictions.json, predictions.csv and overlays/"
    )
    parser.add_argument(
        "--confidence_threshold", type=share, default=0.1, help="least score of a point, 0 to 1"
    )
    parser.add_argument(
        "--overlays",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw the points on the images",
    )
    parser.add_argument(
        "--deeplabcut", action="store_true", help="also write tables that DeepLabCut opens, in deeplabcut/"
    )
    parser.add_argument("--batch_size", type=count, default=8, help="images per forward pass")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    args = parser.parse_args(argv)
    from keypoint_detection.predict import predict_to_files

    result = predict_to_files(
        args.checkpoint,
        args.source,
        args.output,
        confidence_threshold=args.confidence_threshold,
        overlays=args.overlays,
        deeplabcut=args.deeplabcut,
        batch_size=args.batch_size,
        device=torch_device(args.accelerator),
    )
    points = sum(len(channel) for prediction in result.predictions for channel in prediction.keypoints)
    print(f"{points} keypoints in {len(result.predictions)} images; written to {result.output}")
    if result.unreadable:
        print(f"{len(result.unreadable)} images could not be read and were skipped", file=sys.stderr)
    return 1 if result.unreadable else 0


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


def run_benchmark(argv: list[str]) -> int:
    """Time the backbones."""
    parser = command_parser(
        "benchmark", "Measure size, speed and memory of backbones; print and save a table."
    )
    parser.add_argument("--backbones", default="all", help="names separated by commas, or all")
    parser.add_argument("--image_size", type=size, default="256x256", help="HxW in pixels")
    parser.add_argument("--batch_size", type=count, default=4, help="images of a training step")
    parser.add_argument("--threads", type=count, help="threads of PyTorch; default: as many as it takes")
    parser.add_argument("--seconds", type=count, default=3, help="time for each kind of run of a backbone")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    parser.add_argument("--output", default="backbones.md", help="Markdown file to write")
    parser.add_argument("--metrics", action="store_true", help="time the metrics instead, against references")
    args = parser.parse_args(argv)
    if args.metrics:
        return _benchmark_metrics(args.threads)
    from keypoint_detection import backbone_benchmark as benchmark

    names = benchmark.chosen_backbones(args.backbones)
    threads = {} if args.threads is None else {"threads": args.threads}
    conditions = benchmark.Conditions(
        args.image_size,
        args.batch_size,
        seconds=args.seconds,
        device=torch_device(args.accelerator),
        **threads,
    )
    timings = benchmark.benchmark_backbones(names, conditions)
    table = benchmark.markdown_table(timings, conditions)
    write_text(Path(args.output), table)
    print(f"{table}\nwritten: {args.output}")
    return int(any(timing.failure for timing in timings))


def _benchmark_metrics(threads: int | None) -> int:
    """Print how long the metrics take and the references that they are measured against."""
    import torch

    from keypoint_detection.score_benchmark import metric_rows

    torch.set_num_threads(threads or torch.get_num_threads())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians")
    print(f"{'what | reference':58}{'ours':>11} {'reference':>11} {'ratio':>9}  wanted")
    for row in metric_rows():
        print(row, flush=True)
    return 0


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (run_train, "train a detector on a COCO keypoint file"),
    "eval": (run_eval, "score a checkpoint on a COCO file"),
    "compare": (run_compare, "compare the scores of two runs"),
    "predict": (run_predict, "find keypoints in images"),
    "convert": (run_convert, "labels of another tool to COCO, and back"),
    "doctor": (run_doctor, "look for faults in a data set, and what settings cost"),
    "browse": (run_browse, "one HTML page to look through a data set"),
    "resize": (run_resize, "a data set with images of another size"),
    "crop": (run_crop, "one image per labelled instance"),
    "split": (run_split, "a data set in parts or folds"),
    "subset": (run_subset, "a part of a data set"),
    "merge": (run_merge, "several data sets in one file"),
    "demo": (run_demo, "draw a data set, train, score and predict"),
    "backbones": (run_backbones, "list the backbones"),
    "benchmark": (run_benchmark, "measure size, speed and memory of backbones"),
}
