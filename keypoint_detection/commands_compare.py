"""The command `compare`."""

from pathlib import Path

from keypoint_detection.command_flags import command_parser, count, count_or_none, coverage
from keypoint_detection.commands_scores import check_resamples
from keypoint_detection.figures import check_suffix
from keypoint_detection.train.cli import UsageError


def run_compare(argv: list[str]) -> int:
    """Compare the scores of runs with those of the first one."""
    parser = command_parser(
        "compare", "Compare runs that were scored on the same images, image by image, with the first one."
    )
    parser.add_argument("a", help="folder that eval wrote, of a run that has one, or of a cross-validation")
    parser.add_argument("b", help="the other one")
    parser.add_argument("more", nargs="*", default=[], help="further ones; each is compared with the first")
    parser.add_argument("--level", type=coverage, default=0.95, help="coverage of the intervals")
    parser.add_argument("--seed", type=count_or_none, default=0, help="seed of the resamples")
    parser.add_argument("--n_resamples", type=count, default=1000, help="bootstrap resamples")
    parser.add_argument("--per_channel", action="store_true", help="also a row for every channel")
    parser.add_argument("--output", help="JSON file to write as well")
    parser.add_argument("--figure", help=".png, .svg or .pdf to draw all runs in, a panel per metric")
    args = parser.parse_intermixed_args(argv)  # further runs may follow a flag
    check_resamples(args.n_resamples, args.level)
    _check_figure(args.figure)
    from keypoint_detection.compare import compare_with_first
    from keypoint_detection.compare_table import comparison_tables, write_comparisons
    from keypoint_detection.fold_scores import Resampling

    paths = [Path(path) for path in (args.a, args.b, *args.more)]
    resampling = Resampling(args.n_resamples, args.level, seed=args.seed)
    comparisons = compare_with_first(paths, resampling)
    print(comparison_tables(comparisons, per_channel=args.per_channel))
    if args.figure:
        from keypoint_detection.compare_figure import draw_runs

        draw_runs(paths, Path(args.figure), resampling)
        print(f"drawn: {args.figure}")
    if args.output:
        write_comparisons(comparisons, Path(args.output))
        print(f"written: {args.output}")
    return 0


def _check_figure(path: str | None) -> None:
    """Refuse a figure that cannot be drawn before anything is computed."""
    try:
        if path:
            check_suffix(Path(path))
    except ValueError as error:
        raise UsageError(f"--figure: {error}") from None
