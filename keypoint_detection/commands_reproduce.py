"""The command `reproduce`."""

from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, coverage, quiet_lightning

WHERE_FLAGS = {
    "json_dataset_path": "where the training file is now",
    "json_validation_dataset_path": "where the validation file is now",
    "json_test_dataset_path": "where the test file is now",
    "accelerator": "auto, cpu, gpu, ...",
    "devices": "number of devices, a list such as '0,1', or auto",
    "num_workers": "loader processes",
}
"""Settings of the training that may be others than in the old run."""


def run_reproduce(argv: list[str]) -> int:
    """Repeat a run and say whether its numbers come out again."""
    parser = command_parser(
        "reproduce",
        "Train a finished run again in a new folder, and score both runs on the validation images.",
    )
    parser.add_argument("run", help="folder of the run, with run.json in it")
    parser.add_argument("--output", help="folder of the new run; default: beside it, with -reproduced")
    parser.add_argument("--force", action="store_true", help="go on where the data have changed")
    parser.add_argument("--level", type=coverage, default=0.95, help="coverage of the intervals")
    parser.add_argument("--n_resamples", type=count, default=1000, help="bootstrap resamples")
    for name, text in WHERE_FLAGS.items():
        parser.add_argument(f"--{name}", help=f"{text}; default: as in the old run")
    args = parser.parse_args(argv)
    from keypoint_detection.train.reproduce import plan_reproduction, reproduce, reproduction_text
    from keypoint_detection.train.utils import free_path

    quiet_lightning()
    run = Path(args.run)
    resolved = run.resolve()
    beside = resolved.with_name(f"{resolved.name}-reproduced")
    output = Path(args.output) if args.output else free_path(beside)
    given = {name: getattr(args, name) for name in WHERE_FLAGS if getattr(args, name) is not None}
    plan = plan_reproduction(run, output, given, force=args.force)
    for note in plan.notes:
        print(f"note: {note}")
    found = reproduce(plan, n_resamples=args.n_resamples, level=args.level)
    print(reproduction_text(found, args.level))
    return 0 if found.succeeded else 1
