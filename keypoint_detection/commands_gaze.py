"""The command `gaze`: its own commands, which tell where people in images look."""

import sys
from collections.abc import Callable

from keypoint_detection.commands_gaze_demo import run_demo
from keypoint_detection.commands_gaze_eval import run_eval
from keypoint_detection.commands_gaze_predict import run_export, run_predict
from keypoint_detection.commands_gaze_train import run_train
from keypoint_detection.registry import nearest_name
from keypoint_detection.train.cli import UsageError

COMMANDS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "train": (run_train, "train on people and where they look, and score on those held out"),
    "eval": (run_eval, "score a checkpoint on people, beside chance and centre bias"),
    "predict": (run_predict, "where people in images or a video look, given the boxes of their heads"),
    "export": (run_export, "write what runs once per person as ONNX or for torch.export"),
    "demo": (run_demo, "draw scenes, train both decoders, and look at people they have not seen"),
}


def run_gaze(argv: list[str]) -> int:
    """Run one of the commands about where people look."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage(), file=sys.stdout if argv else sys.stderr)
        if not argv:
            return 2
        raise SystemExit(0)
    if argv[0] not in COMMANDS:
        raise UsageError(f"unknown command gaze {argv[0]!r}.{nearest_name(argv[0], COMMANDS)}")
    return COMMANDS[argv[0]][0](argv[1:])


def _usage() -> str:
    lines = [f"  {name:16}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: keypoint-detection gaze COMMAND [--help] ...",
            "",
            "Where is this person looking? Heatmaps over the scene are drawn from noise, so that several of",
            "them tell how sure the answer is.",
            "",
            *lines,
            "",
            "keypoint-detection gaze COMMAND --help lists its flags.",
        ]
    )
