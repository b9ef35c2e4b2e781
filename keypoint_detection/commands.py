"""The commands: their flags, and the calls that they make."""

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from keypoint_detection.files import write_text
from keypoint_detection.train.cli import UsageParser, parse_arguments
from keypoint_detection.train.config import config_to_yaml
from keypoint_detection.train.values import parse_size


def _size(text: str) -> tuple[int, int]:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; got {text!r}") from None


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1; got {text!r}")
    return int(text)


def _thresholds(text: str) -> list[float]:
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or min(values) <= 0:
        raise argparse.ArgumentTypeError(f"expected numbers above 0 such as '2 4'; got {text!r}")
    return values


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1; got {text!r}")
    return value


def _parser(command: str, description: str) -> argparse.ArgumentParser:
    parser = UsageParser(
        prog=f"keypoint-detection {command}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    return parser


def _device(name: str) -> str:
    """Return the torch device for `auto`, `cpu` or `gpu`."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(name, name)


def _quiet_lightning() -> None:
    """Keep what Lightning tells about itself to warnings: its import has just turned everything on."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def run_train(argv: list[str]) -> int:
    """Train a detector on a COCO file."""
    config, options = parse_arguments(argv)
    if options.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.train.train import train

    _quiet_lightning()
    train(config)
    return 0


def run_eval(argv: list[str]) -> int:
    """Score a checkpoint on a COCO file."""
    parser = _parser("eval", "Score a checkpoint on a COCO keypoint file.")
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument("--json_dataset_path", required=True, help="COCO keypoint file to score on")
    parser.add_argument(
        "--output", help="folder of metrics.json and predictions.json; default: eval/ of the run"
    )
    parser.add_argument(
        "--maximal_gt_keypoint_pixel_distances",
        type=_thresholds,
        help="AP thresholds, such as '2 4' (pixels); default: the training's",
    )
    parser.add_argument(
        "--image_size", type=_size, help="HxW in pixels to letterbox to; default: the training's"
    )
    parser.add_argument(
        "--detect_only_visible_keypoints",
        action=argparse.BooleanOptionalAction,
        help="leave out occluded keypoints; default: the training's",
    )
    parser.add_argument("--batch_size", type=_count, default=8, help="images per forward pass")
    parser.add_argument("--num_workers", type=int, default=0, help="loader processes")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    args = parser.parse_args(argv)
    from keypoint_detection.evaluate import EvalOptions, evaluate, scores_table

    options = EvalOptions(
        thresholds=args.maximal_gt_keypoint_pixel_distances,
        image_size=args.image_size,
        detect_only_visible_keypoints=args.detect_only_visible_keypoints,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=_device(args.accelerator),
    )
    output = Path(args.output) if args.output else eval_folder(Path(args.checkpoint))
    values = evaluate(args.checkpoint, args.json_dataset_path, output, options)
    print(scores_table(values))
    print(f"written: {output / 'metrics.json'}, {output / 'predictions.json'}")
    return 0


def eval_folder(checkpoint: Path) -> Path:
    """Return `<run>/eval` for `<run>/checkpoints/x.ckpt`, and `eval` beside any other file."""
    folder = checkpoint.parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "eval"


def run_predict(argv: list[str]) -> int:
    """Find keypoints in images."""
    parser = _parser("predict", "Find keypoints in images; write JSON, CSV and overlay pictures.")
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument("--source", required=True, help="an image, a folder or a quoted glob")
    parser.add_argument(
        "--output", required=True, help="folder for predictions.json, predictions.csv and overlays/"
    )
    parser.add_argument(
        "--confidence_threshold", type=_share, default=0.1, help="least score of a point, 0 to 1"
    )
    parser.add_argument(
        "--overlays",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw the points on the images",
    )
    parser.add_argument("--batch_size", type=_count, default=8, help="images per forward pass")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    args = parser.parse_args(argv)
    from keypoint_detection.predict import predict_to_files

    result = predict_to_files(
        args.checkpoint,
        args.source,
        args.output,
        confidence_threshold=args.confidence_threshold,
        overlays=args.overlays,
        batch_size=args.batch_size,
        device=_device(args.accelerator),
    )
    points = sum(len(channel) for prediction in result.predictions for channel in prediction.keypoints)
    print(f"{points} keypoints in {len(result.predictions)} images; written to {result.output}")
    if result.unreadable:
        print(f"{len(result.unreadable)} images could not be read and were skipped", file=sys.stderr)
    return 1 if result.unreadable else 0


def run_convert(argv: list[str]) -> int:
    """Convert labels of another tool to a COCO keypoint file."""
    parser = _parser("convert", "Convert labels of another tool to a COCO keypoint file.")
    parser.add_argument("format", choices=["deeplabcut"], help="what the source is")
    parser.add_argument("source", help="DeepLabCut project, labeled-data folder, video folder or CSV")
    parser.add_argument("--output", required=True, help="folder for annotations.json and the images")
    parser.add_argument(
        "--link", action="store_true", help="point to the images where they are instead of copying"
    )
    args = parser.parse_args(argv)
    from keypoint_detection.data.formats.deeplabcut import convert_deeplabcut

    print(f"written: {convert_deeplabcut(Path(args.source), Path(args.output), link=args.link)}")
    return 0


def run_demo(argv: list[str]) -> int:
    """Draw a data set, train on it, score and predict: the whole path in a few minutes."""
    parser = _parser("demo", "Draw a data set, train, score and predict: the whole path in a few minutes.")
    parser.add_argument("--output", default="demo", help="folder for everything that the demo writes")
    parser.add_argument("--seed", type=int, default=2022, help="seed of the data set and the training")
    args = parser.parse_args(argv)
    from keypoint_detection.demo import run

    _quiet_lightning()
    run(Path(args.output), args.seed)
    return 0


def run_backbones(argv: list[str]) -> int:
    """List the backbones, their size and their options."""
    _parser("backbones", "List the backbones: size, stride, weights, use, and their flags.").parse_args(argv)
    from keypoint_detection.backbone_table import backbone_table

    print(backbone_table())
    return 0


def run_benchmark(argv: list[str]) -> int:
    """Time the backbones."""
    parser = _parser("benchmark", "Measure size, speed and memory of backbones; print and save a table.")
    parser.add_argument("--backbones", default="all", help="names separated by commas, or all")
    parser.add_argument("--image_size", type=_size, default="256x256", help="HxW in pixels")
    parser.add_argument("--batch_size", type=_count, default=4, help="images of a training step")
    parser.add_argument("--threads", type=_count, help="threads of PyTorch; default: as many as it takes")
    parser.add_argument("--seconds", type=_count, default=3, help="time for each kind of run of a backbone")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    parser.add_argument("--output", default="backbones.md", help="Markdown file to write")
    args = parser.parse_args(argv)
    from keypoint_detection import backbone_benchmark as benchmark

    names = benchmark.chosen_backbones(args.backbones)
    threads = {} if args.threads is None else {"threads": args.threads}
    conditions = benchmark.Conditions(
        args.image_size, args.batch_size, seconds=args.seconds, device=_device(args.accelerator), **threads
    )
    timings = benchmark.benchmark_backbones(names, conditions)
    table = benchmark.markdown_table(timings, conditions)
    write_text(Path(args.output), table)
    print(f"{table}\nwritten: {args.output}")
    return int(any(timing.failure for timing in timings))


COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (run_train, "train a detector on a COCO keypoint file"),
    "eval": (run_eval, "score a checkpoint on a COCO file"),
    "predict": (run_predict, "find keypoints in images"),
    "convert": (run_convert, "labels of another tool to COCO"),
    "demo": (run_demo, "draw a data set, train, score and predict"),
    "backbones": (run_backbones, "list the backbones"),
    "benchmark": (run_benchmark, "measure size, speed and memory of backbones"),
}
