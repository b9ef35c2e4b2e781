"""The command `eval`."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from keypoint_detection.command_flags import (
    command_parser,
    count,
    count_or_none,
    coverage,
    numbers,
    size,
    torch_device,
)
from keypoint_detection.train.cli import PAIR_FLAGS, UsageError
from keypoint_detection.train.config import DataConfig
from keypoint_detection.train.score_config import ScoreConfig

WRITTEN = {
    "metrics.json": "every number with its interval, and what it means",
    "per_keypoint.csv": "a row per channel",
    "per_image.csv": "a row per image or instance",
    "predictions.json": "what was found",
    "matches.npz": "what compare resamples",
}
"""The files of an evaluation beside its page."""


def run_eval(argv: list[str]) -> int:
    """Score a checkpoint on a COCO file."""
    args = _eval_parser().parse_args(argv)
    check_resamples(args.n_resamples, args.level)
    scoring = _scoring(args)
    pairs = DataConfig(json_dataset_path="", symmetric_keypoints=args.symmetric_keypoints)
    from keypoint_detection.evaluate import EvalOptions, evaluate
    from keypoint_detection.evaluation_report import scores_table

    options = EvalOptions(
        thresholds=args.maximal_gt_keypoint_pixel_distances,
        image_size=args.image_size,
        detect_only_visible_keypoints=args.detect_only_visible_keypoints,
        scoring=scoring,
        detections=args.detections,
        flip_test=args.flip_test,
        symmetric_keypoints=pairs.symmetric_keypoints,
        group_by=args.group_by,
        n_resamples=args.n_resamples,
        level=args.level,
        interval=args.interval,
        seed=args.seed,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        device=torch_device(args.accelerator),
        report=args.report,
    )
    output = Path(args.output) if args.output else eval_folder(Path(args.checkpoint))
    evaluate(args.checkpoint, args.json_dataset_path, output, options)
    print(scores_table(json.loads((output / "metrics.json").read_text(encoding="utf-8"))))
    print(_written(output, args.report))
    return 0


def check_resamples(n_resamples: int, level: float) -> None:
    """Refuse resamples, 0 aside, so few that no interval of this level lies between them: a UsageError."""
    least = math.floor(1 / (1 - level) + 1e-9)
    if 0 < n_resamples < least:
        raise UsageError(f"--n_resamples: expected at least {least} for level {level:g}, got {n_resamples}")


def _written(output: Path, report: bool) -> str:
    """Return what is where; without a new page, also that an old one is still there."""
    lines = [f"written to {output}:", *(f"  {name:<18}{text}" for name, text in WRITTEN.items())]
    page = output / "report.html"
    if report:
        lines.append(f"the page to look at: {page}")
    elif page.is_file():
        lines.append(f"{page} is of an earlier evaluation; keypoint-detection report writes it again")
    return "\n".join(lines)


def _eval_parser() -> argparse.ArgumentParser:
    parser = command_parser("eval", "Score a checkpoint on a COCO keypoint file, with intervals.")
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument("--json_dataset_path", required=True, help="COCO keypoint file to score on")
    parser.add_argument("--output", help="folder for the files; default: eval/ of the run")
    parser.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also write report.html: one page with numbers, curves and images",
    )
    parser.add_argument(
        "--maximal_gt_keypoint_pixel_distances",
        type=numbers,
        help="AP thresholds, such as '2 4' (pixels) or '0.5 0.75' (OKS); default: the training's",
    )
    parser.add_argument(
        "--image_size", type=size, help="HxW in pixels to letterbox to; default: the training's"
    )
    parser.add_argument(
        "--detect_only_visible_keypoints",
        action=argparse.BooleanOptionalAction,
        help="ignore occluded keypoints; default: the training's",
    )
    group = parser.add_argument_group("definitions (default: the training's)")
    for name, field in ScoreConfig.model_fields.items():
        text = str(field.description).replace("%", "%%")
        group.add_argument(f"--{name}", nargs="+" if name in PAIR_FLAGS else None, help=text)
    group = parser.add_argument_group("how the model is run")
    group.add_argument(
        "--detections",
        help="COCO file of detected boxes (image_id, bbox, score) to crop instances by; default: the "
        "labelled boxes",
    )
    group.add_argument(
        "--flip_test", action="store_true", help="average with the prediction for the mirrored image"
    )
    group.add_argument(
        "--symmetric_keypoints",
        help="pairs that swap in a flip, 'left_ear=right_ear; ...'; default: as the category of "
        "the file declares, else found from the names",
    )
    group.add_argument("--batch_size", type=count, default=8, help="samples per forward pass")
    group.add_argument("--num_workers", type=count_or_none, default=0, help="loader processes")
    group.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    _add_interval_flags(parser)
    parser.add_argument(
        "--n_resamples",
        type=count_or_none,
        default=1000,
        help="bootstrap resamples; 0 leaves the intervals out",
    )
    parser.add_argument("--interval", choices=["bca", "percentile"], default="bca", help="kind of bootstrap")
    parser.add_argument(
        "--group_by",
        help="field of the COCO images (such as video), or folder: a group is resampled as a whole",
    )
    return parser


def _add_interval_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--level", type=coverage, default=0.95, help="coverage of the intervals")
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the resamples")


def _scoring(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings of the scores that were given, checked; a wrong one is a UsageError."""
    given = {name: getattr(args, name) for name in ScoreConfig.model_fields}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        checked = ScoreConfig(**given).scoring
    except ValidationError as error:
        first = error.errors()[0]
        name = f"--{first['loc'][0]}: " if first["loc"] else ""
        raise UsageError(name + str(first["msg"]).removeprefix("Value error, ")) from None
    # A normaliser and its reference belong together: one that is given replaces both.
    names = {
        *given,
        *(["pck_normalizer", "pck_reference"] if {*given} & {"pck_normalizer", "pck_reference"} else []),
    }
    return {name: checked[name] for name in names}


def eval_folder(checkpoint: Path) -> Path:
    """Return `<run>/eval` for `<run>/checkpoints/x.ckpt`, and `eval` beside any other file."""
    folder = checkpoint.parent
    return (folder.parent if folder.name == "checkpoints" else folder) / "eval"
