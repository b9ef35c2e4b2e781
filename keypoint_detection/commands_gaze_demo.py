"""The command `gaze demo`."""

from keypoint_detection.command_flags import command_parser, count_or_none, quiet_lightning


def run_demo(argv: list[str]) -> int:
    """Run the demo of gaze following."""
    parser = command_parser(
        "gaze demo",
        "Draw scenes whose geometry says where people look, train a direct decoder and a diffusion, and "
        "score both on scenes that they have not seen: a few minutes on two cores.",
    )
    parser.add_argument(
        "--output",
        default="gaze-demo",
        help="folder for everything; what an earlier demo left there is replaced",
    )
    parser.add_argument("--seed", type=count_or_none, default=9, help="seed of scenes and trainings")
    parser.add_argument(
        "--ambiguous",
        action="store_true",
        help="draw scenes in which two targets are equally right, and say how often each is found",
    )
    args = parser.parse_args(argv)
    from keypoint_detection.gaze.demo import run

    quiet_lightning()
    run(args.output, args.seed, ambiguous=args.ambiguous)
    return 0
