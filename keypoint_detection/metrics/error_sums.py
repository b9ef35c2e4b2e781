"""Sums of point errors that are the same bits in whatever order and by however many processes added."""

from typing import NamedTuple

import torch
from torch import Tensor

PARTS = 2.0**40
"""Fractions are added as whole multiples of 2^-40: exact for eight million points a channel."""


class ErrorSums(NamedTuple):
    """Hold the sums of a batch per channel, all int64, so that adding them never rounds.

    Attributes:
        total: `[c, 2]`, the sum of the whole parts and the sum of the fractions in units of 2^-40.
        count: `[c]` errors added.
        missed: `[c]` targets without a partner, which have no error.
    """

    total: Tensor
    count: Tensor
    missed: Tensor


def sum_errors(errors: Tensor, missed: Tensor) -> ErrorSums:
    """Add up errors over images and targets.

    Args:
        errors: `[n, c, m]` float64, >= 0; NaN where there is none.
        missed: `[n, c, m]` bool, targets without a partner.
    """
    total = fixed_point(errors).sum(dim=(0, 2))
    return ErrorSums(total, (~errors.isnan()).sum(dim=(0, 2)), missed.sum(dim=(0, 2)))


def mean_errors(sums: ErrorSums) -> tuple[Tensor, Tensor]:
    """Return the mean over all errors, a scalar, and per channel, `[c]`; float64, NaN where none is."""
    total, count = torch.cat([sums.total.sum(0, keepdim=True), sums.total]), sums.count
    count = torch.cat([count.sum(0, keepdim=True), count])
    mean = floating_point(total) / count
    return mean[0], mean[1:]


def fixed_point(values: Tensor) -> Tensor:
    """Return float64 `values` `[...]`, >= 0, as int64 `[..., 2]`: whole part and 2^-40ths; NaN counts 0."""
    values = values.masked_fill(values.isnan(), 0.0)
    whole = values.floor()
    fraction = ((values - whole) * PARTS).round()
    return torch.stack([whole, fraction], dim=-1).long()


def floating_point(total: Tensor) -> Tensor:
    """Return sums `[..., 2]` of `fixed_point` as float64 `[...]`."""
    return total[..., 0].double() + total[..., 1].double() / PARTS
