"""The names of the losses, read from the source of their registries: `--help` needs no torch."""

import ast
import functools
from pathlib import Path

from keypoint_detection import models
from keypoint_detection.registry import nearest_name

_REGISTRIES = {
    "heatmap": ("losses.py", "LOSSES"),
    "signed": ("losses_signed.py", "SIGNED_LOSSES"),
    "regression": ("point_losses.py", "POINT_LOSSES"),
}
_DEFAULTS = {"heatmap": "BCE", "signed": "MSE", "regression": "SmoothL1"}


@functools.cache
def loss_names(head: str) -> tuple[str, ...]:
    """Return the losses of a head, in the order of their definition.

    Args:
        head: `heatmap`, `regression`, or `signed` for signed heatmaps.
    """
    file, registry = _REGISTRIES[head]
    tree = ast.parse((Path(models.__path__[0]) / file).read_text(encoding="utf-8"))
    decorators = [
        one for node in tree.body if isinstance(node, ast.FunctionDef) for one in node.decorator_list
    ]
    calls = [one for one in decorators if isinstance(one, ast.Call)]
    return tuple(
        ast.literal_eval(one.args[0]) for one in calls if ast.unparse(one.func) == f"{registry}.register"
    )


def loss_help() -> str:
    """Return the description of `--loss_function`."""
    listed = {head: f"{', '.join(loss_names(head))} ({_DEFAULTS[head]}" for head in _REGISTRIES}
    return (
        f"{listed['heatmap']} when none is given); for --occlusion signed {listed['signed']}); for --head "
        f"regression {listed['regression']})"
    )


def check_loss(name: str | None, head: str, occlusion: str = "ignore") -> None:
    """Raise a ValueError that names the nearest loss of a head, if it has none of this name.

    With `--occlusion signed`, the losses of other heatmaps have a message of their own.
    """
    known = loss_names(head)
    if (head, occlusion) == ("heatmap", "signed") and name not in known:
        known, head = loss_names("signed"), "heatmap --occlusion signed"
    if name is not None and name not in known:
        raise ValueError(
            f"--loss_function: expected one of {', '.join(known)} for --head {head}, got {name!r}."
            f"{nearest_name(name, known)}"
        )
