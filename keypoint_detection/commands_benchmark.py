"""The command `benchmark`: how fast networks, loader, training step and metrics are on this machine."""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, size, torch_device
from keypoint_detection.files import write_text
from keypoint_detection.train.cli import UsageError

KINDS = ("checkpoint", "metrics", "loader", "patches", "train")
"""Flags that choose what is measured; without one it is the backbones."""

FLAGS_OF = {
    "backbones": ("backbones", "image_size", "batch_size", "output"),
    "checkpoint": ("image_size", "batch_sizes", "output"),
}
"""Flags that only some of the kinds take."""


def run_benchmark(argv: list[str]) -> int:
    """Time the backbones, a checkpoint, the metrics, the loader, patches, or the training step."""
    args = _parser().parse_args(argv)
    chosen = [name for name in KINDS if getattr(args, name)]
    if len(chosen) > 1:
        raise UsageError(f"argument --{chosen[0]}: goes without --{chosen[1]}; run one after the other")
    kind = chosen[0] if chosen else "backbones"
    for flag in ("backbones", "image_size", "batch_size", "batch_sizes", "output"):
        if getattr(args, flag) is not None and flag not in FLAGS_OF.get(kind, ()):
            takers = " or ".join(f"--{name}" for name, flags in FLAGS_OF.items() if flag in flags)
            raise UsageError(f"argument --{flag}: changes nothing here; it goes with {takers}")
    return RUNS[kind](args)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmark",
        "Measure speed: of backbones, a checkpoint, the metrics, the loader, patches or the training step.",
    )
    parser.add_argument("--backbones", help="names separated by commas; default: all")
    parser.add_argument("--checkpoint", help="time predictions with this .ckpt file instead")
    parser.add_argument("--metrics", action="store_true", help="time the metrics instead, against references")
    parser.add_argument(
        "--loader", action="store_true", help="time the loader instead, against one made the plain way"
    )
    parser.add_argument(
        "--patches", action="store_true", help="time the patches of visibility instead, against single ones"
    )
    parser.add_argument(
        "--train", action="store_true", help="time the training step instead, against bare PyTorch"
    )
    parser.add_argument("--image_size", type=size, help="HxW in pixels; default: 256x256, the checkpoint's")
    parser.add_argument("--batch_size", type=count, help="images of a backbone's training step; default: 4")
    parser.add_argument(
        "--batch_sizes", type=count, nargs="+", help="images of a batch of --checkpoint; default: 1 4 16"
    )
    parser.add_argument("--threads", type=count, help="threads of PyTorch; default: as many as it takes")
    parser.add_argument("--seconds", type=count, default=3, help="time for each kind of run")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    parser.add_argument("--output", help="Markdown file to write; default: backbones.md or none")
    return parser


def _benchmark_backbones(args: argparse.Namespace) -> int:
    from keypoint_detection import backbone_benchmark as benchmark

    names = benchmark.chosen_backbones(args.backbones or "all")
    threads = {} if args.threads is None else {"threads": args.threads}
    conditions = benchmark.Conditions(
        args.image_size or (256, 256),
        args.batch_size or 4,
        seconds=args.seconds,
        device=torch_device(args.accelerator),
        **threads,
    )
    timings = benchmark.benchmark_backbones(names, conditions)
    table = benchmark.markdown_table(timings, conditions)
    _show(table, args.output or "backbones.md")
    return int(any(timing.failure for timing in timings))


def _benchmark_checkpoint(args: argparse.Namespace) -> int:
    """Print the latency of a checkpoint, images per second, and where the time goes."""
    from keypoint_detection.checkpoint_benchmark import benchmark_checkpoint, timing_table
    from keypoint_detection.utils.load_checkpoints import read_checkpoint

    trained_at = read_checkpoint(args.checkpoint)["hyper_parameters"].get("image_size") or (256, 256)
    timing = benchmark_checkpoint(
        args.checkpoint,
        image_size=args.image_size or (int(trained_at[0]), int(trained_at[1])),
        batch_sizes=args.batch_sizes or (1, 4, 16),
        seconds=args.seconds,
        device=torch_device(args.accelerator),
        threads=args.threads,
    )
    _show(timing_table(timing), args.output)
    return 0


def _show(table: str, output: str | None) -> None:
    print(table)
    if output:
        write_text(Path(output), table + "\n" * (not table.endswith("\n")))
        print(f"written: {output}")


def _benchmark_metrics(args: argparse.Namespace) -> int:
    """Print how long the metrics take and the references that they are measured against."""
    from keypoint_detection.score_benchmark import metric_rows

    return _print_rows(metric_rows(), RATIO_HEADING, args.threads)


def _benchmark_loader(args: argparse.Namespace) -> int:
    """Print images per second of the loader, and of one made the plain way."""
    from keypoint_detection.loader_benchmark import loader_rows

    return _print_rows(loader_rows(), RATIO_HEADING, args.threads)


def _benchmark_patches(args: argparse.Namespace) -> int:
    """Print patches per second of the loader for visibility, and of one that crops them one by one."""
    from keypoint_detection.visibility.patch_benchmark import patch_rows

    return _print_rows(patch_rows(), RATIO_HEADING, args.threads)


def _benchmark_train(args: argparse.Namespace) -> int:
    """Print the time and memory of the training step, and those of a bare loop."""
    from keypoint_detection.train_benchmark import TRAIN_HEADING, train_rows

    return _print_rows(train_rows(), TRAIN_HEADING, args.threads)


def _print_rows(rows: Iterable[object], heading: str, threads: int | None) -> int:
    import torch

    torch.set_num_threads(threads or torch.get_num_threads())
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; medians")
    print(heading)
    for row in rows:
        print(row, flush=True)
    return 0


RATIO_HEADING = f"{'what | reference':58}{'ours':>11} {'reference':>11} {'ratio':>9}  wanted"

RUNS: dict[str, Callable[[argparse.Namespace], int]] = {
    "backbones": _benchmark_backbones,
    "checkpoint": _benchmark_checkpoint,
    "metrics": _benchmark_metrics,
    "loader": _benchmark_loader,
    "patches": _benchmark_patches,
    "train": _benchmark_train,
}
