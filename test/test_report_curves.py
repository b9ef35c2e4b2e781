"""The curves of a report: edges, envelopes and thinning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.average_precision import area_under_curve

from keypoint_detection.report_curves import MOST_CURVE_POINTS, error_edges, precision_envelope


def area(recall: list[float], precision: list[float]) -> float:
    return float(np.trapezoid(precision, recall)) if recall else 0.0


def test_an_envelope_by_hand() -> None:
    # precision 1, 1/2, 2/3 at recalls 1/4, 1/4, 2/4
    recall, precision = precision_envelope(np.array([0.9, 0.8, 0.7]), np.array([True, False, True]), 4)
    assert recall == [0.0, 0.25, 0.25, 0.5]
    assert precision == pytest.approx([1.0, 1.0, 2 / 3, 2 / 3])


def test_nothing_to_find_or_nothing_found_is_no_curve() -> None:
    none = np.zeros(0)
    assert precision_envelope(none, none.astype(bool), 3) == ([], [])
    assert precision_envelope(np.ones(2), np.zeros(2, bool), 3) == ([], [])
    assert precision_envelope(np.ones(2), np.ones(2, bool), 0) == ([], [])


@given(
    found=st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=60),
    lost=st.integers(0, 9),
)
def test_the_area_is_the_average_precision(found: list[tuple[int, bool]], lost: int) -> None:
    targets = sum(hit for _, hit in found) + lost
    scores, hits = np.array([float(s) for s, _ in found]), np.array([hit for _, hit in found])
    recall, precision = precision_envelope(scores, hits, targets)
    expected = area_under_curve(found, targets) if targets else 0.0
    assert area(recall, precision) == pytest.approx(expected, abs=1e-12)
    assert sorted(recall) == recall
    assert sorted(precision, reverse=True) == precision


def test_a_long_curve_is_thinned_and_keeps_its_area_and_shape() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20000)
    hits = rng.random(20000) < scores
    recall, precision = precision_envelope(scores, hits, int(hits.sum()) + 500)
    assert len(recall) == len(precision) <= MOST_CURVE_POINTS
    assert len(recall) > MOST_CURVE_POINTS / 2
    expected = area_under_curve(list(zip(scores.tolist(), hits.tolist(), strict=True)), int(hits.sum()) + 500)
    assert area(recall, precision) == pytest.approx(expected, abs=1e-12)
    assert np.abs(np.diff(precision)).max() < 0.03
    assert sorted(precision, reverse=True) == precision


@given(st.lists(st.floats(0, 1e5), max_size=40))
def test_edges_are_even_and_hold_what_they_should(distances: list[float]) -> None:
    values = np.array(distances, float)
    edges = error_edges(values)
    assert edges[0] == 0
    assert np.diff(edges) == pytest.approx(np.full(len(edges) - 1, edges[1]), rel=1e-6)
    assert 2 <= len(edges) <= 43
    if len(values):
        assert edges[-1] >= np.quantile(values, 0.99) * (1 - 1e-9)


def test_edges_are_round() -> None:
    edges = error_edges(np.linspace(0, 10, 1001))
    assert edges.tolist() == [0.25 * index for index in range(41)]
    assert error_edges(np.zeros(0)).tolist() == error_edges(np.zeros(5)).tolist()
