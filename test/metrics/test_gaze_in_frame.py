import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keypoint_detection.metrics.bootstrap import bootstrap_statistics
from keypoint_detection.metrics.gaze_in_frame import (
    GazeInFrame,
    InFrameStatistic,
    in_frame_average_precision,
    why_undefined,
)
from keypoint_detection.metrics.resampling import resample_weights

NAN = math.nan


def slow_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """Return the average precision one threshold after another."""
    if len(set(labels.tolist())) < 2:
        return NAN
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        told = labels[scores >= threshold]
        now = told.sum() / labels.sum()
        area += (now - recall) * told.mean()
        recall = now
    return area


def people(n: int = 40, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    label = rng.integers(-1, 2, n)
    logits = np.round(label + rng.normal(0, 1.2, n), 1)
    return torch.from_numpy(logits), torch.from_numpy(label).to(torch.int8)


def test_by_hand() -> None:
    found = in_frame_average_precision(torch.tensor([3.0, 2.0, 2.0, 1.0]), torch.tensor([1.0, 0, 1, 1]))
    # recall 1/3 at precision 1, then 2/3 at 2/3 (a tie enters together), then 1 at 3/4
    assert float(found) == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from([-1, 0, 1])), max_size=25))
def test_equals_a_slow_reference(rows: list[tuple[int, int]]) -> None:
    logits, label = np.array([row[0] for row in rows], float), np.array([row[1] for row in rows], np.int64)
    found = float(in_frame_average_precision(torch.from_numpy(logits), torch.from_numpy(label)))
    expected = slow_average_precision(logits[label >= 0], label[label >= 0])
    assert found == pytest.approx(expected, nan_ok=True)


def test_equals_other_libraries() -> None:
    from torchmetrics.functional.classification import binary_average_precision

    logits, label = people()
    known = label >= 0
    found = float(in_frame_average_precision(logits, label))
    # torchmetrics takes numbers outside of [0, 1] for logits
    assert found == pytest.approx(
        float(binary_average_precision(logits[known], label[known].long())), abs=1e-6
    )
    metrics = pytest.importorskip("sklearn.metrics")
    assert found == pytest.approx(metrics.average_precision_score(label[known], logits[known]))


def test_weights_are_repeated_people() -> None:
    logits, label = people()
    weights = resample_weights(40, 30, seed=1)
    found = InFrameStatistic(logits, label)(weights)[:, 0]
    for row, number in zip(weights.numpy(), found.tolist(), strict=True):
        times = np.where(label.numpy() >= 0, row, 0)
        expected = slow_average_precision(np.repeat(logits.numpy(), times), np.repeat(label.numpy(), times))
        assert number == pytest.approx(expected, rel=1e-12)


def test_undefined_says_why() -> None:
    for label in (torch.ones(5), torch.zeros(5), torch.tensor([1.0, 1, 1, NAN, NAN])):
        assert in_frame_average_precision(torch.arange(5.0), label).isnan()
    assert in_frame_average_precision(torch.zeros(0), torch.zeros(0)).isnan()
    assert why_undefined(3, 2) is None
    assert why_undefined(0, 2) == (
        "in/out AP needs people who look inside and outside of the picture, got 0 inside and 2 outside"
    )


def test_a_resample_without_a_class_is_left_out() -> None:
    statistic = InFrameStatistic(
        torch.tensor([2.0, 1.0, 0.0]).double(), torch.tensor([1, 0, 0]).to(torch.int8)
    )
    assert statistic(torch.tensor([[1, 1, 1], [0, 2, 1], [3, 0, 0]])).isnan().flatten().tolist() == [
        False,
        True,
        True,
    ]
    interval = bootstrap_statistics([InFrameStatistic(*people(200))], n_images=200, n_resamples=200)
    assert interval["in_out_ap"].low < interval["in_out_ap"].value < interval["in_out_ap"].high


def test_metric_counts_both_classes() -> None:
    (logits, label), metric = people(), GazeInFrame()
    for rows in (slice(0, 30), slice(30, 40)):
        metric.update(logits[rows].float(), label[rows], torch.arange(40)[rows])
    found = metric.compute()
    assert float(found["in_out_ap"]) == pytest.approx(float(in_frame_average_precision(logits, label)))
    assert (found["inside"], found["outside"]) == (int((label == 1).sum()), int((label == 0).sum()))
    metric.reset()
    empty = metric.compute()
    assert math.isnan(empty["in_out_ap"])
    assert empty["inside"] == empty["outside"] == 0


def test_a_logit_of_somebody_unknown_may_be_anything() -> None:
    logits, label = torch.tensor([1.0, NAN, 0.0]), torch.tensor([1.0, NAN, 0.0])
    assert float(in_frame_average_precision(logits, label)) == 1
    with pytest.raises(ValueError, match="expected finite logits"):
        in_frame_average_precision(logits, torch.tensor([1.0, 1, 0]))


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected logits \[n\] and in_frame \[n\], got \[3, 1\] and \[3\]"):
        in_frame_average_precision(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ValueError, match=r"expected in_frame 1 \(inside\).*got \[0.0, 0.5\]"):
        in_frame_average_precision(torch.zeros(2), torch.tensor([0.5, 0.0]))
