import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.average_precision import average_precision
from reference.keypoint_cases import cases, make_case

from keypoint_detection.metrics import KeypointAveragePrecision
from keypoint_detection.metrics.average_precision_statistic import AveragePrecisionStatistic
from keypoint_detection.metrics.image_statistics import ImageStatistic

THRESHOLDS = [1.0, 4.0]
NAMES = ("ap@1px", "ap@4px")


def scored(case, interpolation="all") -> KeypointAveragePrecision:
    metric = KeypointAveragePrecision(case.scores.shape[1], THRESHOLDS, interpolation=interpolation)
    metric.update(*case.tensors(), **case.ignoring())
    return metric


def statistic_of(metric: KeypointAveragePrecision) -> AveragePrecisionStatistic:
    names = tuple(f"c{index}" for index in range(metric.num_channels))
    return AveragePrecisionStatistic(*metric.matches(), metric.interpolation, names, NAMES)


def test_columns() -> None:
    statistic: ImageStatistic = statistic_of(scored(make_case(0, (2, 2, 3, 3))))
    assert statistic.columns == (
        *("map", "ap@1px", "ap@4px"),
        *("c0/map", "c0/ap@1px", "c0/ap@4px"),
        *("c1/map", "c1/ap@1px", "c1/ap@4px"),
    )


def test_by_hand() -> None:
    # Channel 0: image 0 a hit within 4 px alone, image 1 nothing found; channel 1: targets in image 1 alone.
    preds = torch.tensor([[[[0.0, 0.0]], [[0.0, 0.0]]], [[[torch.nan] * 2], [[9.0, 9.0]]]])
    target = torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[9.0, 9.0]]]])
    visibility = torch.tensor([[[2], [0]], [[2], [2]]])
    metric = KeypointAveragePrecision(2, THRESHOLDS)
    metric.update(preds, torch.tensor([[[0.5], [0.9]], [[0.0], [0.8]]]), target, visibility)
    statistic = statistic_of(metric)
    value = {"map": 0.375, "ap@1px": 0.25, "ap@4px": 0.5, "c0/map": 0.25, "c0/ap@1px": 0.0}
    value |= {"c0/ap@4px": 0.5, "c1/map": 0.5, "c1/ap@1px": 0.5, "c1/ap@4px": 0.5}
    assert dict(zip(statistic.columns, statistic.value().tolist(), strict=True)) == value
    # Image 0 alone: channel 1 has no target and is left out of the means.
    weighted = statistic(torch.tensor([[2, 0], [1, 1], [0, 0]]))
    assert weighted.dtype == torch.float64
    assert weighted[0].nan_to_num(-1).tolist() == [0.5, 0.0, 1.0, 0.5, 0.0, 1.0, -1.0, -1.0, -1.0]
    assert weighted[1].tolist() == statistic.value().tolist()
    assert weighted[2].isnan().all()


@pytest.mark.parametrize("interpolation", ["all", "101"])
@given(case=cases(), counts=st.lists(st.integers(0, 3), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_weights_equal_the_slow_reference_on_repeated_images(interpolation: str, case, counts) -> None:
    counts = counts[: len(case.scores)]
    channels = case.scores.shape[1]
    row = statistic_of(scored(case, interpolation))(torch.tensor([counts], dtype=torch.int64).reshape(1, -1))[
        0
    ]
    repeated = case.repeated(counts)
    table = average_precision(
        *repeated[:4],
        THRESHOLDS,
        interpolation=interpolation,
        ignored=repeated.ignored,
        regions=repeated.regions,
    )
    np.testing.assert_array_equal(row[3:].reshape(channels, 3)[:, 1:], table)
    again = scored(repeated, interpolation).compute()
    np.testing.assert_array_equal(again["ap"], table)
    np.testing.assert_allclose(row[0], again["map"], rtol=1e-14)
    np.testing.assert_allclose(row[1:3], again["ap"].nanmean(0), rtol=1e-14)
    np.testing.assert_allclose(row[3::3], again["ap"].mean(1), rtol=1e-14)


def test_value_is_what_the_metric_computes_in_any_order() -> None:
    case = make_case(7, (6, 3, 5, 4))
    metric = scored(case)
    value = statistic_of(metric).value()
    assert float(value[0]) == float(metric.compute()["map"])
    assert value[3:].reshape(3, 3)[:, 1:].tolist() == metric.compute()["ap"].tolist()
    assert statistic_of(scored(case.shuffled(3))).value().tolist() == value.tolist()


def test_without_images() -> None:
    statistic = statistic_of(KeypointAveragePrecision(1, THRESHOLDS))
    assert statistic.value().isnan().all()
    assert statistic(torch.zeros(3, 0, dtype=torch.int64)).shape == (3, 6)


def test_fields_are_tensors_and_texts() -> None:
    statistic = statistic_of(scored(make_case(1, (3, 2, 3, 3)), "101"))
    assert [name for name, field in vars(statistic).items() if not isinstance(field, torch.Tensor)] == [
        *("interpolation", "channel_names", "threshold_names")
    ]
    assert all(
        field.device.type == "cpu" for field in vars(statistic).values() if isinstance(field, torch.Tensor)
    )


def test_names_that_do_not_fit() -> None:
    matches = scored(make_case(1, (3, 2, 3, 3))).matches()
    with pytest.raises(ValueError, match="names of 2 channels and 2 thresholds, got 1 and 2"):
        AveragePrecisionStatistic(*matches, "all", ("one",), NAMES)
