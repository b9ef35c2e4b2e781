"""The command `benchmark`: how fast backbones, a checkpoint or the metrics are on this machine."""

import argparse
from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, size, torch_device
from keypoint_detection.files import write_text
from keypoint_detection.train.cli import UsageError

OF_CHECKPOINT = ("batch_sizes",)
OF_BACKBONES = ("backbones", "batch_size")


def run_benchmark(argv: list[str]) -> int:
    """Time the backbones, a checkpoint, or the metrics."""
    args = _parser().parse_args(argv)
    if args.metrics and args.checkpoint:
        raise UsageError("argument --metrics: goes without --checkpoint; run one after the other")
    if args.metrics:
        return _benchmark_metrics(args.threads)
    _check_flags(args)
    return _benchmark_backbones(args) if args.checkpoint is None else _benchmark_checkpoint(args)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "benchmark", "Measure speed on this machine: of backbones, of a checkpoint, or of the metrics."
    )
    parser.add_argument("--backbones", help="names separated by commas; default: all")
    parser.add_argument("--checkpoint", help="time predictions with this .ckpt file instead")
    parser.add_argument("--metrics", action="store_true", help="time the metrics instead, against references")
    parser.add_argument("--image_size", type=size, help="HxW in pixels; default: 256x256, the checkpoint's")
    parser.add_argument(
        "--batch_size", type=count, help="images of a training step of a backbone; default: 4"
    )
    parser.add_argument(
        "--batch_sizes", type=count, nargs="+", help="images of a batch of --checkpoint; default: 1 4 16"
    )
    parser.add_argument("--threads", type=count, help="threads of PyTorch; default: as many as it takes")
    parser.add_argument("--seconds", type=count, default=3, help="time for each kind of run")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    parser.add_argument(
        "--output", help="Markdown file to write; default: backbones.md, none for --checkpoint"
    )
    return parser


def _check_flags(args: argparse.Namespace) -> None:
    """Refuse a flag that would change nothing."""
    unused = OF_CHECKPOINT if args.checkpoint is None else OF_BACKBONES
    for name in unused:
        if getattr(args, name) is not None:
            kind = "only with" if args.checkpoint is None else "not with"
            raise UsageError(f"argument --{name}: goes {kind} --checkpoint; leave it out")


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
