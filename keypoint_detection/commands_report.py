"""The command `report`: write the page of an evaluation again."""

from pathlib import Path

from keypoint_detection.command_flags import command_parser, torch_device


def run_report(argv: list[str]) -> int:
    """Write `report.html` of an evaluation again, from its files."""
    parser = command_parser(
        "report", "Write report.html of an evaluation again, from its files and the data set."
    )
    parser.add_argument(
        "folder", help="folder that eval wrote, its metrics.json, or folder of a run or fold that has one"
    )
    parser.add_argument("--json_dataset_path", required=True, help="COCO keypoint file that was scored")
    parser.add_argument(
        "--checkpoint",
        help="the .ckpt file that was scored; without it the page has no heatmaps, nor, where the folder is "
        "not in that of its run, the configuration and the curves of the training",
    )
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"], help="where to run")
    args = parser.parse_args(argv)
    from keypoint_detection.report import known_run, run_folder_of, write_report
    from keypoint_detection.utils.load_checkpoints import load_model

    folder = _evaluation_folder(Path(args.folder))
    detector, run_folder = None, known_run(folder.absolute().parent)
    if args.checkpoint:
        detector = load_model(args.checkpoint, torch_device(args.accelerator))
        run_folder = run_folder_of(args.checkpoint)
    path = write_report(
        folder,
        args.json_dataset_path,
        detector=detector,
        checkpoint=args.checkpoint,
        run_folder=run_folder,
    )
    print(f"written: {path}")
    return 0


def _evaluation_folder(path: Path) -> Path:
    """Return the folder of the evaluation that a path leads to; what is missing in it is said later."""
    from keypoint_detection.fold_scores_record import is_cross_validation, read_record
    from keypoint_detection.report_files import METRICS_FILE

    if path.name == METRICS_FILE and path.is_file():
        return path.parent
    if is_cross_validation(path):
        fold = path / read_record(path).folds[0].name
        raise ValueError(
            f"{path} is a cross-validation, and a page is of one evaluation; give one of its folds, such as "
            f"keypoint-detection report {fold} --json_dataset_path {fold / 'validation.json'}"
        )
    inner = path / "eval"
    has_inner = not (path / METRICS_FILE).is_file() and (inner / METRICS_FILE).is_file()
    return inner if has_inner else path
