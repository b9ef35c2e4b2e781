from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.average_precision import true_positives
from reference.keypoint_cases import make_case

from keypoint_detection.metrics import matching
from keypoint_detection.metrics.matching import (
    check_shapes,
    lexicographic_order,
    match_detections,
    present_detections,
    sortable_bits,
)


def match(preds, scores, target, limits):
    """Match one group given as lists; returns `[k][t]` booleans."""
    tensors = (torch.tensor(side, dtype=torch.float64)[None, None] for side in (preds, scores, target))
    return match_detections(*tensors, limits)[0, 0].tolist()


def test_takes_the_nearest_not_the_first() -> None:
    # The better detection stands at 4; target 0 at 0 is in range but target 1 at 5 is nearer.
    assert match([[4, 0], [1, 0]], [0.9, 0.8], [[0, 0], [5, 0]], [4.5]) == [[True], [True]]


def test_a_target_is_taken_once_and_by_the_better_score() -> None:
    assert match([[0, 0], [1, 0]], [0.3, 0.9], [[0, 0]], [2]) == [[False], [True]]


def test_a_detection_turns_to_the_next_free_target() -> None:
    assert match([[0, 0], [1, 0]], [0.9, 0.8], [[0, 0], [3, 0]], [1, 2, 3]) == [
        [True, True, True],
        [False, True, True],
    ]


def test_greedy_is_not_the_greatest_matching() -> None:
    # The better detection takes the middle target, although only it could have taken the far one.
    assert match([[0, 0], [3, 0]], [0.9, 0.8], [[1, 0], [-2, 0]], [2]) == [[True], [False]]


def test_limit_is_inclusive_in_float64() -> None:
    assert match([[3, 4]], [1.0], [[0, 0]], [5.0, np.nextafter(5.0, 0)]) == [[True, False]]
    root = 13**0.5
    assert root**2 < 13  # the comparison is of distances, not of their squares
    assert match([[2, 3]], [1.0], [[0, 0]], [root]) == [[True]]


def test_equal_scores_take_turns_by_distance() -> None:
    for order in ([0, 1], [1, 0]):
        preds = [[[2.0, 0.0], [1.0, 0.0]][i] for i in order]
        hits = match(preds, [0.5, 0.5], [[0, 0]], [3])
        assert hits[order.index(1)] == [True]  # the nearer one
        assert hits[order.index(0)] == [False]


@pytest.mark.parametrize("pairs_at_once", [1, 40, 2**18])
@given(seed=st.integers(0, 10**6), k=st.integers(0, 7), m=st.integers(0, 7), grid=st.sampled_from([0, 3, 9]))
@settings(max_examples=25, deadline=None)
def test_equals_slow_reference(pairs_at_once: int, seed: int, k: int, m: int, grid: int) -> None:
    case = make_case(seed, (3, 2, k, m), grid=grid)
    target = np.where((case.visibility > 0)[..., None], case.target, np.nan)
    limits = [0.5, 2.0, 4.0, 100.0]
    tensors = (torch.from_numpy(array) for array in (case.preds, case.scores, target))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(matching.PAIRS_AT_ONCE, "cpu", pairs_at_once)
        matched = match_detections(*tensors, limits).numpy()
    for image, channel in np.ndindex(3, 2):
        kept = np.isfinite(case.preds[image, channel]).all(-1)
        there = np.isfinite(target[image, channel]).all(-1)
        for column, limit in enumerate(limits):
            expected = true_positives(
                case.preds[image, channel][kept].tolist(),
                case.scores[image, channel][kept].tolist(),
                target[image, channel][there].tolist(),
                -limit,
            )
            hits = matched[image, channel, :, column]
            found = zip(case.scores[image, channel][kept].tolist(), hits[kept].tolist(), strict=True)
            assert sorted(found) == sorted(expected)
            assert not hits[~kept].any()


def test_many_rounds_of_rivals() -> None:
    # Every detection prefers the same target, then the same next one: the worst case, one a round.
    preds = [[0.0, 0.0]] * 12
    scores = [1 - i / 20 for i in range(12)]
    target = [[float(i), 0.0] for i in range(8)]
    hits = match(preds, scores, target, [7.0, 3.0])
    assert [row[0] for row in hits] == [True] * 8 + [False] * 4
    assert [row[1] for row in hits] == [True] * 4 + [False] * 8


def test_similarity_scales_with_variance() -> None:
    # Target 0 is nearer in pixels, target 1 in units of its size.
    preds, target = torch.tensor([[[[4.0, 0.0]]]]), torch.tensor([[[[1.0, 0.0], [8.0, 0.0]]]])
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    variance = torch.tensor([[[1.0, 100.0]]], dtype=torch.float64)
    limits = [0.159, 0.161]  # 4^2 / 100 = 0.16; 3^2 / 1 = 9
    hits = match_detections(preds.double(), one, target.double(), limits, variance=variance)
    assert hits.flatten().tolist() == [False, True]


def test_sortable_bits_keep_the_order() -> None:
    values = [-torch.inf, -1e300, -2.5, -1e-300, -0.0, 0.0, 5e-324, 1.0, 1e300, torch.inf]
    bits = sortable_bits(torch.tensor(values, dtype=torch.float64)).tolist()
    assert bits == sorted(bits)
    assert [a == b for a, b in pairwise(bits)] == [i == 4 for i in range(9)]


def test_lexicographic_order_by_hand() -> None:
    keys = [torch.tensor([2, 1, 2, 1]), torch.tensor([0, 5, 0, 3])]
    assert lexicographic_order(keys).tolist() == [3, 1, 0, 2]


def test_a_score_that_is_nan() -> None:
    preds, scores = torch.zeros(1, 1, 2, 2), torch.tensor([[[0.5, torch.nan]]])
    with pytest.raises(ValueError, match="NaN for 1"):
        present_detections(preds, scores)
    preds[0, 0, 1] = torch.nan
    assert present_detections(preds, scores).tolist() == [[[True, False]]]


@pytest.mark.parametrize("wrong", range(4))
def test_shapes_that_do_not_fit(wrong: int) -> None:
    tensors = [torch.zeros(2, 1, 3, 2), torch.zeros(2, 1, 3), torch.zeros(2, 1, 4, 2), torch.zeros(2, 1, 4)]
    check_shapes(*tensors)
    tensors[wrong] = tensors[wrong][:, :, :1]
    with pytest.raises(ValueError, match="expected preds"):
        check_shapes(*tensors)
