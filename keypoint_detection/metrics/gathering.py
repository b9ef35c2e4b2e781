"""Let a process that saw no image take part when the states of all processes are gathered."""

from collections.abc import Mapping

from torch import Tensor
from torchmetrics import Metric


def fill_empty_states(metric: Metric, nothing: Mapping[str, Tensor]) -> None:
    """Put a tensor without rows into every list state that is still empty.

    torchmetrics gathers only what is there, so that one process without images would keep the others waiting.

    Args:
        metric: The metric; states that are no lists, since they are gathered already, stay.
        nothing: A tensor of 0 rows by the name of the state, of the shape and type that updates append.
    """
    for name, empty in nothing.items():
        state = getattr(metric, name)
        if isinstance(state, list) and not state:
            state.append(empty.to(metric.device))
