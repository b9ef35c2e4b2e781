"""The command `visibility`: its own commands, which tell whether points can be seen."""

import sys
from collections.abc import Callable

from keypoint_detection.commands_visibility_compare import run_compare, run_cross_validate, run_demo
from keypoint_detection.commands_visibility_predict import run_eval, run_predict
from keypoint_detection.commands_visibility_train import run_make_dataset, run_train
from keypoint_detection.registry import nearest_name
from keypoint_detection.train.cli import UsageError

COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "make-dataset": (run_make_dataset, "sample points of scenes, or take those of a COCO file"),
    "train": (run_train, "train a classifier on points, and score it on views that it has not seen"),
    "eval": (run_eval, "score a checkpoint on points"),
    "predict": (run_predict, "what can be seen in images, and how far"),
    "cross-validate": (run_cross_validate, "train and score on folds of views"),
    "compare": (run_compare, "compare runs and groups of them in one figure"),
    "demo": (run_demo, "draw hazy terrain, train, and look at unseen views"),
}


def run_visibility(argv: list[str]) -> int:
    """Run one of the commands about the visibility of points."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        if not argv:
            return 2
        raise SystemExit(0)
    if argv[0] not in COMMANDS:
        raise UsageError(f"unknown command visibility {argv[0]!r}.{nearest_name(argv[0], COMMANDS)}")
    return COMMANDS[argv[0]][0](argv[1:])


def _usage() -> str:
    lines = [f"  {name:16}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: keypoint-detection visibility COMMAND [--help] ...",
            "",
            "Is this point visible? Points are classified from concentric patches at several magnifications.",
            "",
            *lines,
            "",
            "keypoint-detection visibility COMMAND --help lists its flags.",
        ]
    )
