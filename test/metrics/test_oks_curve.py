import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.oks_cases import NAMES, coco_numbers, make_oks_case

from keypoint_detection.metrics import oks_curve
from keypoint_detection.metrics.instance_matching import InstanceMatches
from keypoint_detection.metrics.oks_average_precision import OKSAveragePrecision, oks_average_precision
from keypoint_detection.metrics.oks_curve import OKSStatistic

pytestmark = pytest.mark.filterwarnings("ignore:.*labelled instances have area 0:UserWarning")


def statistic_of(case):
    metric = OKSAveragePrecision(case.sigmas)
    metric.update(case.preds, case.target)
    return metric.statistic()[0]


def curve(hits, num_targets, scores=None, ignored=None, image=None):
    """Return the statistic of detections that are right, or not, at every threshold and size."""
    d = len(hits)
    table = torch.tensor(hits, dtype=torch.bool)[:, None, None].expand(d, 3, 10)
    left_out = torch.tensor(ignored or [False] * d, dtype=torch.bool)[:, None, None].expand(d, 3, 10)
    scores = torch.linspace(1, 0, d, dtype=torch.float64) if scores is None else torch.tensor(scores)
    image = torch.zeros(d, dtype=torch.int64) if image is None else torch.tensor(image)
    targets = torch.tensor(num_targets)[:, None].expand(-1, 3)
    return OKSStatistic.of_matches(InstanceMatches(image, scores, table, left_out, targets))


def test_area_under_the_curve_by_hand() -> None:
    # Of 4 targets 2 are found, at precisions 1 and 2/3: recalls 0 ... 0.25 (26 levels) and 0.26 ... 0.5 (25).
    ap, ar = (26 + 25 * 2 / 3) / 101, 0.5
    value = curve([True, False, True, False], [4]).value()
    assert value.tolist() == pytest.approx([ap] * 5 + [ar] * 5, abs=1e-12)
    # The false one between the two is ignored.
    value = curve([True, False, True, False], [4], ignored=[False, True, False, False]).value()
    assert value[0] == pytest.approx(51 / 101, abs=1e-12)
    # Matched to what is ignored: neither right nor wrong.
    value = curve([True, True, True], [4], ignored=[False, True, True]).value()
    assert value[[0, 5]].tolist() == pytest.approx([26 / 101, 0.25], abs=1e-12)


def test_precision_takes_the_greatest_at_a_higher_recall() -> None:
    # Precisions 1/2 and 2/3: the second holds from recall 0 on.
    assert curve([False, True, True], [2]).value()[0] == pytest.approx(2 / 3, abs=1e-12)


@pytest.mark.parametrize("total", [1, 3, 7, 10, 29, 33, 50, 100, 101, 997])
def test_a_recall_is_reached_by_the_quotient(total: int) -> None:
    needed = oks_curve._least_hits(np.array([total]))[0]
    quotients = np.arange(total + 1) / total
    assert needed.tolist() == np.searchsorted(quotients, np.linspace(0, 1, 101)).tolist()


def test_undefined_and_empty() -> None:
    assert curve([True], [0]).value().isnan().all()
    assert curve([], [3]).value().tolist() == [0.0] * 10
    assert curve([], []).value().isnan().all()
    assert curve([True], [1])(torch.zeros(0, 1, dtype=torch.int64)).shape == (0, 10)
    assert curve([], [])(torch.zeros(3, 0, dtype=torch.int64)).isnan().all()


def test_weights_by_hand() -> None:
    # Image 0 has the false detection with the best score, image 1 a true one; a target each.
    statistic = curve([False, True], [1, 1], image=[0, 1])
    weights = torch.tensor([[1, 1], [0, 1], [1, 0], [2, 1], [0, 0], [0, 5]])
    found = statistic(weights)
    levels = [51 / 101 / 2, 1.0, 0.0, 34 / 101 / 3, np.nan, 1.0]
    assert found[:, 0].tolist() == pytest.approx(levels, abs=1e-12, nan_ok=True)
    assert found[:, 5].tolist() == pytest.approx([0.5, 1.0, 0.0, 1 / 3, np.nan, 1.0], abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_weights_count_copies_of_images(seed: int, draw: int) -> None:
    case = make_oks_case(seed, 5, 3, distinct_scores=True)
    counts = np.random.default_rng(draw).integers(0, 4, (3, 5))
    found = statistic_of(case)(torch.from_numpy(counts)).nan_to_num(-1)
    for row, numbers in zip(counts, found.numpy(), strict=True):
        copies = case.repeated(row)
        ours = oks_average_precision(copies.preds, copies.target, case.sigmas)
        assert numbers.tolist() == pytest.approx([float(ours[name]) for name in NAMES], abs=1e-12)
        np.testing.assert_allclose(numbers, coco_numbers(copies), rtol=0, atol=1e-9)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10**6))
def test_weights_of_one_give_the_value(seed: int) -> None:
    # Bit for bit, ties included, whatever else is in the batch of weights.
    case = make_oks_case(seed, 6, 2)
    statistic = statistic_of(case)
    weights = torch.ones(40, 6, dtype=torch.int64)
    weights[1::2] = torch.randint(0, 4, (20, 6), generator=torch.Generator().manual_seed(seed))
    expected = oks_average_precision(case.preds, case.target, case.sigmas)
    expected = [float(expected[name]) for name in NAMES]
    assert statistic.value().nan_to_num(-1).tolist() == expected
    assert statistic(weights)[::2].nan_to_num(-1).tolist() == [expected] * 20


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    statistic = statistic_of(make_oks_case(4, 12, 3))
    weights = torch.randint(0, 3, (9, 12), generator=torch.Generator().manual_seed(0))
    whole = statistic(weights)
    monkeypatch.setattr(oks_curve, "WEIGHTS_AT_ONCE", 1)
    assert torch.equal(statistic(weights).nan_to_num(-1), whole.nan_to_num(-1))


def test_columns_and_fields() -> None:
    statistic = curve([True], [1])
    assert statistic.columns == tuple(f"oks_{name}" for name in NAMES)
    assert all(isinstance(field, torch.Tensor) for field in vars(statistic).values())
