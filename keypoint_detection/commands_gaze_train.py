"""The command `gaze train`."""

from keypoint_detection.command_flags import command_parser, quiet_lightning
from keypoint_detection.command_flags_config import add_config_flags, config_of_flags
from keypoint_detection.gaze.train_config import SECTIONS, GazeTrainConfig, config_to_yaml


def run_train(argv: list[str]) -> int:
    """Train on people and where they look."""
    parser = command_parser(
        "gaze train", "Train on people and where they look, and score the last weights on those held out."
    )
    add_config_flags(parser, SECTIONS)
    args = parser.parse_args(argv)
    config = config_of_flags(args, GazeTrainConfig)
    if args.print_config:
        print(config_to_yaml(config), end="")
        return 0
    from keypoint_detection.gaze.train import EVAL_FOLDER, train

    quiet_lightning()
    result = train(config)
    if result.metrics is not None:
        from keypoint_detection.gaze.evaluate_run import scores_text

        print(f"last weights on the people held out:\n{scores_text(result.metrics)}")
        print(f"page: {result.run_dir / EVAL_FOLDER / 'report.html'}")
    print(f"run: {result.run_dir}\nlast checkpoint: {result.last_checkpoint}")
    return 0
