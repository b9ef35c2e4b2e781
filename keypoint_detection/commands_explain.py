"""The command that shows where a detector looks: `explain`."""

import argparse
import sys
from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, count_or_none, torch_device

METHODS = ("auto", "saliency", "rollout", "gradient_rollout")
HEAD_FUSIONS = ("mean", "max", "min")


def run_explain(argv: list[str]) -> int:
    """Show where a detector looks for each keypoint."""
    args = _parser().parse_args(argv)
    from keypoint_detection.explain import ExplainOptions
    from keypoint_detection.explain_files import explain_to_files, shares_table

    options = ExplainOptions(
        method=args.method,
        head_fusion=args.head_fusion,
        discard_ratios=tuple(dict.fromkeys(args.discard_ratio)),
        n_smooth=args.smooth,
    )
    result = explain_to_files(
        args.checkpoint,
        args.source,
        args.output,
        options,
        max_images=args.max_images,
        device=torch_device(args.accelerator),
    )
    print(shares_table(result))
    print(f"written: {Path(args.output) / 'explanations.json'} and {len(result.images)} folders beside it")
    if result.unreadable:
        print(f"{len(result.unreadable)} images could not be read and were skipped", file=sys.stderr)
    return 1 if result.unreadable else 0


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "explain", "Show where a detector looks for each keypoint: pictures, grids, and shares as JSON."
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument("--source", required=True, nargs="+", help="images, folders or quoted globs")
    parser.add_argument(
        "--output", default="explanations", help="folder for explanations.json and a folder per image"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="auto",
        help="auto: gradient_rollout and saliency for a Vision Transformer, saliency for any other",
    )
    parser.add_argument(
        "--head_fusion", choices=HEAD_FUSIONS, default="mean", help="how rollout fuses the attention heads"
    )
    parser.add_argument(
        "--discard_ratio",
        type=discard_ratio,
        nargs="+",
        default=[0.0],
        help="share of each row's lowest attention that rollout cuts, 0 to below 1; a map for each",
    )
    parser.add_argument(
        "--smooth", type=count_or_none, default=0, help="noisy images that saliency is averaged over"
    )
    parser.add_argument("--max_images", type=count, default=10, help="most images")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    return parser


def discard_ratio(text: str) -> float:
    """Read a number from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1 such as 0.9; got {text!r}")
    return value
