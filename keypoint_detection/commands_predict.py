"""The command `predict`: its flags, and the call that it makes."""

import argparse
import sys

from pydantic import ValidationError

from keypoint_detection.command_flags import command_parser, count, count_or_none, share, torch_device
from keypoint_detection.predict_options import PredictOptions
from keypoint_detection.train.cli import UsageError
from keypoint_detection.train.config import DataConfig


def run_predict(argv: list[str]) -> int:
    """Find keypoints in images, videos or a camera."""
    args = _parser().parse_args(argv)
    options = _options(args)
    from keypoint_detection.predict import predict_to_files

    try:
        result = predict_to_files(
            args.checkpoint, args.source, args.output, options, device=torch_device(args.accelerator)
        )
    except KeyboardInterrupt as stop:
        without = " without --restart" if args.restart else ""
        text = str(stop) or f"interrupted; the same command{without} goes on behind what is finished"
        print(f"error: {text}", file=sys.stderr)
        return 1
    unit = "frame" if result.is_video else "image"
    counts = f"{_counted(result.n_keypoints, 'keypoint')} in {_counted(result.n_images, unit)}"
    print(f"{counts}; written to {result.output}")
    if result.unreadable:
        lost = "frames" if result.is_video else _counted(len(result.unreadable), "image")
        print(f"{lost} could not be read and were left out, see above", file=sys.stderr)
    return 1 if result.unreadable else 0


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _parser() -> argparse.ArgumentParser:
    parser = command_parser(
        "predict",
        "Find keypoints in images, videos or a camera; write JSON, CSV and overlays. The same command goes "
        "on with a run that was stopped; one that came to its end is done anew.",
    )
    parser.add_argument("--checkpoint", required=True, help=".ckpt file that a training wrote")
    parser.add_argument(
        "--source",
        required=True,
        nargs="+",
        help="images, videos, folders or globs such as 'frames/**/*.png', or camera:0; several videos get a "
        "folder each",
    )
    parser.add_argument("--output", required=True, help="folder for predictions.json, .csv and the rest")
    parser.add_argument("--max_frames", type=count, help="frames of a video or camera; default: all of them")
    parser.add_argument(
        "--restart", action="store_true", help="start anew instead of going on with a stopped run"
    )
    _add_network_flags(parser)
    _add_file_flags(parser)
    return parser


def _add_network_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how the model is run")
    group.add_argument(
        "--confidence_threshold", type=share, default=0.1, help="least score of a point, 0 to 1"
    )
    group.add_argument("--max_keypoints", type=count, help="most points per channel; default: the model's")
    group.add_argument("--batch_size", type=count, default=8, help="images per forward pass")
    group.add_argument(
        "--tile",
        type=count,
        metavar="PX",
        help="side in pixels of the tiles that large images are cut into; default: images as a whole",
    )
    group.add_argument(
        "--overlap", type=count_or_none, default=128, metavar="PX", help="overlap of tiles in pixels"
    )
    group.add_argument(
        "--flip_test", action="store_true", help="average with the prediction for the mirrored image"
    )
    group.add_argument(
        "--symmetric_keypoints",
        help="pairs that swap in a flip, 'left_ear=right_ear; ...'; default: as the category of "
        "--json_dataset_path declares, else found from the names",
    )
    group.add_argument(
        "--visibility",
        metavar="MODEL",
        help=".ckpt file of a visibility classifier: adds p_visible to every point, and tells occluded from "
        "visible points in predictions_coco.json and in the overlays",
    )
    group.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")


def _add_file_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument(
        "--coco", action="store_true", help="also write predictions_coco.json, COCO's results format"
    )
    group.add_argument(
        "--json_dataset_path", help="COCO file with ids and category for --coco; default: numbers from 1"
    )
    group.add_argument(
        "--deeplabcut", action="store_true", help="also write tables that DeepLabCut opens, in deeplabcut/"
    )
    group.add_argument(
        "--overlays",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw the points: overlays/*.png, or overlay.mp4 for a video",
    )
    group.add_argument(
        "--trail",
        type=count_or_none,
        default=0,
        metavar="FRAMES",
        help="frames back to which trails of the points reach in overlay.mp4",
    )
    group.add_argument(
        "--names", action=argparse.BooleanOptionalAction, default=True, help="write names into the overlays"
    )


def _options(args: argparse.Namespace) -> PredictOptions:
    """Return the options of the flags; values that do not go together are a UsageError."""
    try:
        pairs = DataConfig(json_dataset_path="", symmetric_keypoints=args.symmetric_keypoints)
        return PredictOptions(
            confidence_threshold=args.confidence_threshold,
            batch_size=args.batch_size,
            flip_test=args.flip_test,
            symmetric_keypoints=pairs.symmetric_keypoints,
            tile_px=args.tile,
            overlap_px=args.overlap,
            max_keypoints=args.max_keypoints,
            visibility=args.visibility,
            max_frames=args.max_frames,
            restart=args.restart,
            coco=args.coco,
            json_dataset_path=args.json_dataset_path,
            deeplabcut=args.deeplabcut,
            overlays=args.overlays,
            trail_frames=args.trail,
            names=args.names,
        )
    except ValidationError:
        raise UsageError(
            "--symmetric_keypoints: expected pairs such as 'left_ear=right_ear; left_eye=right_eye', "
            f"got {args.symmetric_keypoints!r}"
        ) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
