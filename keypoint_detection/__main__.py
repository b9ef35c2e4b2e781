"""The `keypoint-detection` command: dispatch, and one line for everything that goes wrong."""

import logging
import os
import sys
import warnings
from collections.abc import Callable

from keypoint_detection.commands import COMMANDS
from keypoint_detection.registry import nearest_name
from keypoint_detection.train.cli import UsageError


def _usage() -> str:
    lines = [f"  {name:16}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: keypoint-detection COMMAND [--help] ...",
            "",
            *lines,
            "",
            "keypoint-detection COMMAND --help lists its flags.",
        ]
    )


def _quiet() -> None:
    """Let our own log lines through, and keep those of the libraries for when something is wrong."""
    # Threads that spin while they wait take the cores from the loader's processes.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("keypoint_detection").setLevel(logging.INFO)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: Command and flags; default: those of the process.

    Returns:
        0; 2 when the call is wrong; 1 when the work failed; 128 + the signal when one ended a training.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0 if argv else 2
    if argv[0] == "--version":
        from keypoint_detection import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        print(f"error: unknown command {argv[0]!r}.{nearest_name(argv[0], COMMANDS)}", file=sys.stderr)
        return 2
    _quiet()
    return _run(COMMANDS[argv[0]][0], argv[1:])


def _run(command: Callable[[list[str]], int], argv: list[str]) -> int:
    """Run one command; a failure is one line on stderr, with a traceback only under `--debug`."""
    debug = "--debug" in argv
    try:
        return command(argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 1
    except BrokenPipeError:  # who reads our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"error: {text}", file=sys.stderr)
        return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
