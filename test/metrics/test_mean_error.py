import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.keypoint_cases import cases
from reference.keypoint_errors import keypoint_errors

from keypoint_detection.metrics import KeypointMeanError, keypoint_mean_error


def example():
    """Two images and three channels: errors 5 and 1 in the first, 2 and one missed in the second."""
    nan = torch.nan
    preds = [[[[3.0, 4.0]], [[0.0, 2.0]], [[7.0, 7.0]]], [[[1.0, 0.0]], [[nan, nan]], [[nan, nan]]]]
    target = torch.zeros(2, 3, 1, 2)
    visibility = torch.tensor([[[2], [1], [0]], [[2], [2], [0]]])
    return torch.tensor(preds), torch.full((2, 3, 1), 0.5), target, visibility


def test_by_hand() -> None:
    error = keypoint_mean_error(*example())
    assert float(error["value"]) == (5 + 1 + 2) / 3
    assert error["per_channel"][:2].tolist() == [3.0, 2.0]
    assert bool(error["per_channel"][2].isnan())  # no target
    assert (error["count"], error["missed"]) == (3, 1)
    assert isinstance(error["missed"], int)


def test_a_channel_whose_targets_are_all_missed_is_nan_and_counted() -> None:
    nan = torch.full((1, 1, 2, 2), torch.nan)
    error = keypoint_mean_error(nan, torch.ones(1, 1, 2), torch.ones(1, 1, 3, 2), torch.ones(1, 1, 3))
    assert math.isnan(error["value"])
    assert (error["count"], error["missed"]) == (0, 3)


@given(case=cases(grid=0, score_levels=0))
@settings(max_examples=30, deadline=None)
def test_equals_slow_reference(case) -> None:
    error = keypoint_mean_error(*case.tensors())
    distances, missed = keypoint_errors(case.preds, case.scores, case.target, case.visibility)
    for value, expected in zip(error["per_channel"].tolist(), distances, strict=True):
        mean = math.fsum(expected) / len(expected) if expected else math.nan
        assert value == pytest.approx(mean, rel=1e-12, abs=1e-12, nan_ok=True)
    everything = [distance for channel in distances for distance in channel]
    mean = math.fsum(everything) / len(everything) if everything else math.nan
    assert float(error["value"]) == pytest.approx(mean, rel=1e-12, abs=1e-12, nan_ok=True)
    assert (error["count"], error["missed"]) == (len(everything), sum(missed))


@given(case=cases(), seed=st.integers(0, 999), batch=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_batches_and_order_change_no_bit(case, seed: int, batch: int) -> None:
    assume(len(case.scores) > 0)
    metric = KeypointMeanError(case.scores.shape[1])
    for part in zip(*(tensor.split(batch) for tensor in case.shuffled(seed).tensors()), strict=True):
        metric.update(*part)
    together, batched = keypoint_mean_error(*case.tensors()), metric.compute()
    for key in ("value", "per_channel"):
        assert torch.equal(together[key].nan_to_num(-1), batched[key].nan_to_num(-1))
    assert (together["count"], together["missed"]) == (batched["count"], batched["missed"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_input_is_computed_in_float64(dtype: torch.dtype) -> None:
    metric = KeypointMeanError(3)
    preds, scores, target, visibility = example()
    metric.update(preds.to(dtype), scores.to(dtype), target.to(dtype), visibility)
    value = metric.compute()["value"]
    assert value.dtype == torch.float64
    assert float(value) == 8 / 3


def test_one_channel_keeps_its_axis() -> None:
    metric = KeypointMeanError(1)
    metric.update(*(tensor[:, :1] for tensor in example()))
    assert metric.compute()["per_channel"].tolist() == [3.0]


def test_wrong_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"expected preds \[n, 2, k, 2\], got \[2, 3, 1, 2\]"):
        KeypointMeanError(2).update(*example())
    with pytest.raises(ValueError, match="num_channels >= 1"):
        KeypointMeanError(0)


def test_ignored_target_takes_its_detection_and_does_not_count() -> None:
    # The better detection is on the excluded point: counted, it is 0 px off; unlabelled, the other is 9 px.
    preds, scores = torch.tensor([[[[9.0, 0.0], [1.0, 0.0]]]]), torch.tensor([[[0.9, 0.8]]])
    target, visibility = torch.tensor([[[[0.0, 0.0], [9.0, 0.0]]]]), torch.tensor([[[2, 1]]])
    arguments, ignored = (preds, scores, target, visibility), torch.tensor([[[False, True]]])
    metric = KeypointMeanError(1)
    metric.update(*arguments, ignored=ignored)
    for error in (keypoint_mean_error(*arguments, ignored=ignored), metric.compute()):
        assert (float(error["value"]), error["count"], error["missed"]) == (1.0, 1, 0)
    assert float(keypoint_mean_error(*arguments)["value"]) == pytest.approx(0.5)
    assert float(keypoint_mean_error(preds, scores, target, visibility - 1)["value"]) == 9.0
    nothing = keypoint_mean_error(preds * torch.nan, scores, target, visibility, ignored=ignored)
    assert (nothing["count"], nothing["missed"]) == (0, 1)
