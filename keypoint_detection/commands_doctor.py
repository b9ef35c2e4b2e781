"""The command doctor: look for faults in a data set, and say what settings cost on it."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keypoint_detection.command_flags import command_parser
from keypoint_detection.files import write_json

if TYPE_CHECKING:
    from keypoint_detection.doctor_findings import Finding
    from keypoint_detection.doctor_samples import Settings
    from keypoint_detection.train.config import TrainConfig


def run_doctor(argv: list[str]) -> int:
    """Look for faults in a data set, and say what settings cost on it."""
    parser = command_parser(
        "doctor", "Look for faults in a data set, and say what the settings of a training cost on it."
    )
    parser.add_argument(
        "datasets", nargs="+", help="COCO files, such as the training and the validation part of one data set"
    )
    parser.add_argument("--json", metavar="FILE", help="write all findings and numbers as JSON as well")
    parser.add_argument("--fix", metavar="OUTPUT", help="write a corrected copy of the (one) file there")
    parser.add_argument(
        "--against",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="FLAGS",
        help="flags of train, last on the line: --against --image_size 256x256 --heatmap_sigma 2",
    )
    args = parser.parse_args(argv)
    config = _training(args.datasets[0], args.against)
    from keypoint_detection.doctor import examine, exit_code, report_json, report_text
    from keypoint_detection.doctor_settings import settings_text

    channels = config.keypoint_channel_configuration if args.against else None
    examination = examine(args.datasets, channels=channels)
    numbers, refusal = None, None
    if not exit_code(examination.findings):
        try:
            found, numbers = _settings_findings(args.datasets[0], config)
            examination = replace(examination, findings=(*examination.findings, *found))
        except ValueError as error:  # settings that do not fit the file hide no finding, and stop no --fix
            refusal = error
    print(report_text(examination))
    if numbers is not None:
        print(f"what the settings cost on {args.datasets[0]}")
        print(settings_text(numbers))
    else:
        print("what the settings cost was not measured: " + (str(refusal or "mend the errors first")))
    if args.json:
        write_json(args.json, {**report_json(examination), "settings": numbers})
        print(f"written: {args.json}")
    if args.fix:
        _fix(args.datasets, args.fix)
    if args.against and refusal is not None:
        raise refusal
    return exit_code(examination.findings)


def _settings_findings(dataset: str, config: "TrainConfig") -> tuple[list["Finding"], dict[str, Any]]:
    """Return what a configuration costs on a data set, each finding with the name of the file."""
    from keypoint_detection.doctor_settings import settings_findings

    found, numbers = settings_findings(dataset, _settings(config))
    return [replace(finding, file=dataset) for finding in found], numbers


def _fix(datasets: Sequence[str], output: str) -> None:
    from keypoint_detection.doctor_fix import fix_dataset

    if len(datasets) > 1:
        raise ValueError(f"--fix expects one data set, got {len(datasets)}; mend them one by one")
    for note in fix_dataset(datasets[0], output):
        print(f"note: {note}")
    print(f"written: {output}")


def _training(dataset: str, flags: list[str]) -> "TrainConfig":
    """Return the configuration of a training on a data set with some flags."""
    from keypoint_detection.train.cli import parse_arguments

    return parse_arguments(["--json_dataset_path", dataset, *flags])[0]


def _settings(config: "TrainConfig") -> "Settings":
    """Return what of a configuration decides how good a perfect network could be."""
    import torch

    from keypoint_detection.doctor_samples import Settings
    from keypoint_detection.models.backbones.backbone_factory import create_backbone, without_weights
    from keypoint_detection.train.utils import chosen_backbone_options

    with torch.device("meta"):  # only its stride is asked for
        backbone = create_backbone(config.backbone_type, **without_weights(chosen_backbone_options(config)))
    return Settings(
        image_hw=config.image_hw,
        input_mode=config.input_mode,
        box_padding=config.box_padding,
        stride=backbone.stride,
        sigma_px=min(config.heatmap_sigma, config.variable_heatmap_sigma or config.heatmap_sigma),
        channels=config.keypoint_channel_configuration,
        max_keypoints=config.max_keypoints,
        min_distance_px=config.minimal_keypoint_extraction_pixel_distance,
        thresholds=config.maximal_gt_keypoint_pixel_distances,
        head=config.head,
        required_visibility=2 if config.detect_only_visible_keypoints else 1,
        scoring=config.scoring,
    )
