"""The commands `gaze predict` and `gaze export`."""

import argparse
import sys
from pathlib import Path

from keypoint_detection.command_flags import (
    command_parser,
    count,
    count_or_none,
    output_folder,
    torch_device,
)


def run_predict(argv: list[str]) -> int:
    """Predict where people look."""
    args = _predict_parser().parse_args(argv)
    from keypoint_detection.gaze.predict import predict_to_files
    from keypoint_detection.gaze.predict_options import GazePredictOptions

    options = GazePredictOptions(
        samples=args.samples,
        seed=args.seed,
        batch_size=args.batch_size,
        depth=args.depth,
        max_frames=args.max_frames,
        overlays=args.overlays,
        restart=args.restart,
    )
    device = torch_device(args.accelerator)
    try:
        result = predict_to_files(
            args.checkpoint, args.source, args.boxes, args.output, options, device=device
        )
    except KeyboardInterrupt as stop:
        text = str(stop) or "interrupted; the same command goes on behind what is finished"
        print(f"error: {text}", file=sys.stderr)
        return 1
    unit = "frame" if result.is_video else "image"
    who = "1 person" if result.n_people == 1 else f"{result.n_people} people"
    images = f"{result.n_images} {unit}{'' if result.n_images == 1 else 's'}"
    print(f"{who} in {images}; written to {result.output}")
    if result.left_out:
        print(f"{len(result.left_out)} could not be used and were left out, see above", file=sys.stderr)
    return 1 if result.left_out else 0


def _predict_parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "gaze predict",
        "Predict where people look; write JSON, CSV and overlays. The same command goes on with a run that "
        "was stopped.",
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that gaze train wrote")
    parser.add_argument(
        "--source",
        required=True,
        nargs="+",
        help="images, folders or globs such as 'frames/**/*.png'; or one video",
    )
    parser.add_argument(
        "--boxes",
        required=True,
        metavar="FILE",
        help="boxes of the heads: .csv with image (or frame, from 0), x0, y0, x1, y1 and if known person, "
        "eye_x, eye_y in pixels; .json with a list of the same, a table of people, or COCO with a category "
        "'head'",
    )
    parser.add_argument(
        "--output", type=output_folder, required=True, help="folder for predictions.json, .csv and the rest"
    )
    parser.add_argument(
        "--samples", type=count, default=8, help="maps of each person; a direct model has one"
    )
    parser.add_argument(
        "--seed", type=count_or_none, default=0, help="seed of the noise that maps start from"
    )
    parser.add_argument(
        "--depth",
        metavar="FOLDER",
        help="depth maps, for a model that was trained with them: of the names of the images, or ending in "
        ".png; for a video one per frame, in the order of their names",
    )
    parser.add_argument("--batch_size", type=count, default=16, help="people per forward pass")
    parser.add_argument("--max_frames", type=count, help="frames of a video; default: all of them")
    parser.add_argument(
        "--overlays",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw what is found: overlays/*.png, or overlay.mp4 for a video",
    )
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of going on with a stopped run"
    )
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    return parser


def run_export(argv: list[str]) -> int:
    """Export the part of a model that runs once per person."""
    parser = command_parser(
        "gaze export",
        "Write what runs once per person, scene and head to tokens, features and in/out logit (and the map "
        "of a direct model), as ONNX or for torch.export; the file is checked against the model.",
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that gaze train wrote")
    parser.add_argument(
        "--output",
        help="file to write: .onnx, or .pt2 for torch.export.load; default: conditioner.onnx beside the "
        "checkpoint",
    )
    args = parser.parse_args(argv)
    from keypoint_detection.gaze.export import export_conditioner, kind_of
    from keypoint_detection.gaze.load_follower import load_follower

    output = Path(args.output or Path(args.checkpoint).with_name("conditioner.onnx"))
    kind = kind_of(output)
    error = export_conditioner(load_follower(args.checkpoint), output, kind)
    print(f"written to {output}; differs from the model by at most {error:.1e}")
    return 0
