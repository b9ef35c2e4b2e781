import math

import pytest
import torch

from keypoint_detection.metrics.error_sums import (
    ErrorSums,
    fixed_point,
    floating_point,
    mean_errors,
    sum_errors,
)


def test_by_hand() -> None:
    errors = torch.tensor([[[1.25, torch.nan], [torch.nan, torch.nan]], [[2.5, 0.75], [4.0, torch.nan]]])
    missed = torch.tensor([[[False, True], [False, False]], [[False, False], [False, True]]])
    sums = sum_errors(errors.double(), missed)
    assert sums.count.tolist() == [3, 1]
    assert sums.missed.tolist() == [1, 1]
    value, per_channel = mean_errors(sums)
    assert float(value) == 8.5 / 4
    assert per_channel.tolist() == [1.5, 4.0]


def test_nothing_is_nan() -> None:
    value, per_channel = mean_errors(sum_errors(torch.zeros(3, 2, 0).double(), torch.zeros(3, 2, 0).bool()))
    assert per_channel.isnan().tolist() == [True, True]
    assert bool(value.isnan())


def test_same_bits_in_any_order_and_grouping() -> None:
    errors = torch.rand(997, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e6
    missed = torch.zeros(997, 1, 1, dtype=torch.bool)
    whole = sum_errors(errors, missed)
    parts = [sum_errors(part, missed[: len(part)]) for part in errors.flip(0).split(100)]
    total = ErrorSums(*(torch.stack(field).sum(0) for field in zip(*parts, strict=True)))
    assert torch.equal(mean_errors(whole)[1], mean_errors(total)[1])
    expected = math.fsum(errors.flatten().tolist()) / 997
    assert float(mean_errors(whole)[0]) == pytest.approx(expected, rel=1e-15, abs=1e-12)


def test_fixed_point_by_hand() -> None:
    values = torch.tensor([[2.75, torch.nan], [0.0, 2.0**-40]], dtype=torch.float64)
    parts = fixed_point(values)
    assert parts.tolist() == [[[2, 3 * 2**38], [0, 0]], [[0, 0], [0, 1]]]
    assert floating_point(parts).tolist() == [[2.75, 0.0], [0.0, 2.0**-40]]
