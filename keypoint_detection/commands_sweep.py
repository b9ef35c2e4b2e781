"""The command `sweep`."""

from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, count_or_none, quiet_lightning
from keypoint_detection.train.sweep_plan import read_plan


def run_sweep(argv: list[str]) -> int:
    """Train with other flags each time, as the file of a sweep says."""
    parser = command_parser(
        "sweep",
        "Train with other flags each time, as a file in the format of wandb's sweeps says; no account is "
        "needed. All flags of keypoint-detection train are taken as well, for every training.",
    )
    parser.add_argument("file", help="YAML file such as scripts/sweep.yaml")
    parser.add_argument(
        "--count", type=count, help="trials in total; default: run_cap of the file, or the grid"
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=1,
        help="trainings at a time, each with its share of the cores and one GPU",
    )
    parser.add_argument(
        "--output",
        help="folder for everything; default: sweeps/ and the name of the file. The same command goes on with"
        " what a killed one has left there",
    )
    parser.add_argument("--seed_of_sweep", type=count_or_none, default=0, help="seed of the search")
    args, training = parser.parse_known_args(argv)
    path = Path(args.file)
    plan = read_plan(path, training)
    from keypoint_detection.train.sweep import CSV_FILE, PAGE_FILE, run_trials
    from keypoint_detection.train.sweep_table import sweep_text

    quiet_lightning()
    output = Path(args.output) if args.output else Path("sweeps") / path.stem
    study = run_trials(plan, output, count=args.count, jobs=args.jobs, seed=args.seed_of_sweep)
    print(sweep_text(study))
    print(f"written: {output / CSV_FILE}, {output / PAGE_FILE}")
    return 0 if study.best() is not None else 1
