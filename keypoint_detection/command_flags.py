"""What the commands share: the types of their flags, their parser, and the device they run on."""

import argparse
import logging
from pathlib import Path

from keypoint_detection.train.cli import UsageParser
from keypoint_detection.train.values import parse_size


def size(text: str) -> tuple[int, int]:
    """Read HEIGHTxWIDTH in pixels."""
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; got {text!r}") from None


def count(text: str, least: int = 1) -> int:
    """Read a whole number from `least`."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}; got {text!r}")
    return int(text)


def count_or_none(text: str) -> int:
    """Read a whole number from 0."""
    return count(text, least=0)


def numbers(text: str) -> list[float]:
    """Read numbers above 0, split by spaces or commas."""
    try:
        values = [float(part) for part in text.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or min(values) <= 0:
        raise argparse.ArgumentTypeError(f"expected numbers above 0 such as '2 4'; got {text!r}")
    return values


def share(text: str) -> float:
    """Read a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1; got {text!r}")
    return value


def coverage(text: str) -> float:
    """Read a number between 0 and 1, both left out."""
    value = share(text)
    if value in (0.0, 1.0):
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1 such as 0.95; got {text!r}")
    return value


def output_folder(text: str) -> str:
    """Read the path of a folder to write to, which need not be there."""
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"expected a folder, got the file {text}")
    return text


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Show defaults, but not that of a flag whose help says what happens without it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        is_open = action.default is None or action.default is False  # 0 is a default to show
        return action.help if is_open else super()._get_help_string(action)


def command_parser(command: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a command, with `--debug`."""
    parser = UsageParser(
        prog=f"keypoint-detection {command}",
        description=description,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="show a traceback when something fails")
    return parser


def torch_device(name: str) -> str:
    """Return the torch device for `auto`, `cpu` or `gpu`."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return {"gpu": "cuda"}.get(name, name)


def quiet_lightning() -> None:
    """Keep what Lightning tells about itself to warnings: its import has just turned everything on."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
