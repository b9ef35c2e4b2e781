"""Keep the axes of a metric's tables, which torchmetrics drops from tables with a single entry."""

import functools
from collections.abc import Callable, Mapping
from typing import Any


def keep_axes(compute: Callable[[], dict[str, Any]], axes: Mapping[str, int]) -> Callable[[], dict[str, Any]]:
    """Return a wrapped `Metric.compute` that gives tables of one entry their axes back.

    torchmetrics turns every tensor of one element into a scalar, so one channel would have another shape than
    two.

    Args:
        compute: What `Metric._wrap_compute` returned.
        axes: Number of axes by key of the computed dictionary.
    """

    @functools.wraps(compute)
    def computed() -> dict[str, Any]:
        values = dict(compute())
        for key, count in axes.items():
            if values[key].numel() == 1:
                values[key] = values[key].reshape((1,) * count)
        return values

    return computed
