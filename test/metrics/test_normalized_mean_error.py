import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference.keypoint_cases import cases
from reference.keypoint_errors import error_rows, mean_of

from keypoint_detection.metrics.normalized_mean_error import NormalizedMeanError, normalized_mean_error

NAN = torch.nan


def example():
    """Two images, two channels: 5 px and a miss of length 10; 2 px of length 4 and 3 px without a length."""
    preds = torch.tensor([[[[3.0, 4.0]], [[NAN, NAN]]], [[[0.0, 2.0]], [[0.0, 3.0]]]])
    scale = torch.tensor([[[10.0], [10.0]], [[4.0], [0.0]]])
    return preds, torch.full((2, 2, 1), 0.5), torch.zeros(2, 2, 1, 2), torch.full((2, 2, 1), 2), scale


def plain(values: dict) -> dict[str, list]:
    return {key: torch.as_tensor(value).nan_to_num(-1).tolist() for key, value in values.items()}


def test_by_hand() -> None:
    error = normalized_mean_error(*example())
    expected = {"value": 0.5, "per_channel": [0.5, -1.0], "missed": 1, "count": 2, "undefined": 1}
    assert plain(error) == expected
    assert isinstance(error["undefined"], int)
    *points, _ = example()
    per_image = normalized_mean_error(*points, torch.tensor([10.0, 4.0]))
    assert float(per_image["value"]) == pytest.approx((5 / 10 + 2 / 4 + 3 / 4) / 3, rel=1e-12)


def test_ignored_targets_count_nowhere() -> None:
    ignored = torch.tensor([[[True], [True]], [[False], [True]]])
    error = normalized_mean_error(*example(), ignored=ignored)
    assert plain(error) == {"value": 0.5, "per_channel": [0.5, -1], "missed": 0, "count": 1, "undefined": 0}


def drawn(case, seed: int):
    rng = np.random.default_rng(seed)
    return (
        rng.random(case.visibility.shape) < 0.3,
        rng.choice([np.nan, -1.0, 0.0, 2.0, 3.0, 5.5], case.visibility.shape),
    )


@given(case=cases(grid=0, score_levels=0), seed=st.integers(0, 999))
@settings(max_examples=30, deadline=None)
def test_equals_slow_reference(case, seed: int) -> None:
    ignored, lengths = drawn(case, seed)
    error = normalized_mean_error(
        *case.tensors(), torch.from_numpy(lengths), ignored=torch.from_numpy(ignored)
    )
    rows = error_rows(*case[:4], ignored=ignored, length=lengths)
    measured = [row for row in rows if not math.isnan(row[3])]
    for column, found in enumerate([float(error["value"]), *error["per_channel"].tolist()]):
        some = [row[2] / row[3] for row in measured if column in (0, row[1] + 1) and not math.isnan(row[2])]
        assert found == pytest.approx(mean_of(some), rel=1e-11, abs=1e-11, nan_ok=True)
    missed = sum(math.isnan(row[2]) for row in measured)
    assert (error["missed"], error["count"]) == (missed, len(measured) - missed)
    assert error["undefined"] == len(rows) - len(measured)


@given(case=cases(), seed=st.integers(0, 999), batch=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_batches_and_order_change_no_bit(case, seed: int, batch: int) -> None:
    assume(len(case.scores) > 0)
    ignored, lengths = drawn(case, seed)
    marked = case._replace(areas=np.where(ignored, -1, 1) * (np.nan_to_num(lengths) + 2))
    shuffled = marked.shuffled(seed)
    metric = NormalizedMeanError(case.scores.shape[1])
    areas = torch.from_numpy(shuffled.areas)
    for *part, area in zip(*(tensor.split(batch) for tensor in (*shuffled.tensors(), areas)), strict=True):
        metric.update(*part, area.abs() - 2, ignored=area < 0)
    scale = torch.from_numpy(np.nan_to_num(lengths))
    together = normalized_mean_error(*case.tensors(), scale, ignored=torch.from_numpy(ignored))
    assert plain(metric.compute()) == plain(together)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_input_is_computed_in_float64(dtype: torch.dtype) -> None:
    preds, scores, target, visibility, scale = example()
    metric = NormalizedMeanError(2)
    torch.nn.ModuleDict({"metric": metric}).half()
    metric.update(preds.to(dtype), scores.to(dtype), target.to(dtype), visibility, scale.to(dtype))
    assert metric.compute()["value"].dtype == torch.float64
    assert plain(metric.compute()) == plain(normalized_mean_error(*example()))


def test_pickle_reset_and_forward() -> None:
    halves = [[part[rows] for part in example()] for rows in (slice(0, 1), slice(1, 2))]
    metric = NormalizedMeanError(2)
    metric.update(*halves[1])
    metric.reset()
    assert plain(metric(*halves[0]))["per_channel"] == [0.5, -1.0]
    copy = pickle.loads(pickle.dumps(metric))
    with torch.inference_mode():
        copy.update(*halves[1])
    assert plain(copy.compute()) == plain(normalized_mean_error(*example()))


def test_one_channel_keeps_its_axis() -> None:
    metric = NormalizedMeanError(1)
    metric.update(*(part[:, :1] for part in example()))
    assert metric.compute()["per_channel"].tolist() == [0.5]


def test_wrong_arguments() -> None:
    *points, scale = example()
    with pytest.raises(ValueError, match=r"expected preds \[n, 3, k, 2\], got \[2, 2, 1, 2\]"):
        NormalizedMeanError(3).update(*points, scale)
    with pytest.raises(ValueError, match="num_channels >= 1"):
        NormalizedMeanError(0)
    with pytest.raises(ValueError, match=r"one length per image \[2\] or per target \[2, 2, 1\], got \[3\]"):
        normalized_mean_error(*points, torch.ones(3))
    with pytest.raises(ValueError, match=r"below 2\^40 lengths, got 5 px and a length of 1e-19 px"):
        normalized_mean_error(*points, scale * 1e-20)
