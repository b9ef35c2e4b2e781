import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import binary_classification as reference

from keypoint_detection.metrics import binary_classification_auroc as module
from keypoint_detection.metrics.binary_classification_auroc import area_under_roc, rank_points

ONCE = np.array([[1]])


def area(scores: list[float], labels: list[int]) -> float:
    return float(area_under_roc(rank_points(np.array(scores), np.array(labels, np.uint8)), ONCE)[0])


def test_ties_count_half() -> None:
    assert area([1.0, 1.0], [0, 1]) == 0.5
    assert area([1.0, 1.0, 1.0, 2.0, 0.0], [0, 0, 1, 1, 1]) == (0.5 + 0.5 + 2 + 0) / 6
    assert area([3.0, 2.0, 1.0], [1, 0, 0]) == 1.0
    assert area([3.0, 2.0, 1.0], [0, 1, 1]) == 0.0


@pytest.mark.parametrize("labels", [[], [1, 1], [0]])
def test_undefined_without_both_classes(labels: list[int]) -> None:
    assert np.isnan(area([0.5] * len(labels), labels))


@given(
    points=st.lists(st.tuples(st.integers(-2, 2), st.booleans(), st.integers(0, 3)), min_size=1, max_size=30),
    rows=st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=4),
    chunk=st.sampled_from([1, 2**20]),
)
def test_weights_are_repeated_points(points: list, rows: list[list[int]], chunk: int) -> None:
    """A point that counts k times is one that is listed k times: exactly, whatever the chunks."""
    scores, labels, unit = (np.array(column) for column in zip(*points, strict=True))
    ranks = rank_points(scores.astype(float), labels.astype(np.uint8), unit.astype(np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_NUMBERS", chunk)
        found = area_under_roc(ranks, np.array(rows))
    for number, weights in zip(found.tolist(), rows, strict=True):
        repeated = [(s, y) for s, y, u in points for _ in range(weights[u])]
        expected = reference.auroc([s for s, _ in repeated], [y for _, y in repeated])
        assert number == pytest.approx(expected, abs=1e-15, nan_ok=True)


def test_no_weighting_gives_nothing() -> None:
    ranks = rank_points(np.array([1.0, 2.0]), np.array([0, 1], np.uint8))
    assert area_under_roc(ranks, np.zeros((0, 1), np.int64)).shape == (0,)
