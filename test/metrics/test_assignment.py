import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.keypoint_cases import cases, make_case
from reference.keypoint_errors import keypoint_errors, partner_distances

from keypoint_detection.metrics.assignment import assign_partners


def assign(preds, scores, target):
    """Assign one group given as lists; returns the distances and the partners."""
    tensors = [torch.tensor(side, dtype=torch.float64)[None, None] for side in (preds, scores, target)]
    partners = assign_partners(*tensors, torch.full(tensors[2].shape[:-1], 2))
    return partners.distance[0, 0].tolist(), partners.detection[0, 0].tolist()


def test_least_total_beats_greedy() -> None:
    # Nearest first would pair 0 with 1 (1 px) and leave 3 with -5 (8 px): 9 px instead of 5 + 2.
    assert assign([[0, 0], [3, 0]], [0.9, 0.8], [[1, 0], [-5, 0]]) == ([2.0, 5.0], [1, 0])


def test_only_as_many_detections_as_targets() -> None:
    # The third detection is exact, and too late: only the two best scores count.
    preds, scores = [[10, 0], [0, 1], [5, 0]], [0.9, 0.8, 0.7]
    assert assign(preds, scores, [[0, 0], [5, 0]]) == ([1.0, 5.0], [1, 0])


def test_fewer_detections_leave_targets_missed() -> None:
    partners = assign_partners(
        torch.tensor([[[[0.0, 0.0], [torch.nan, torch.nan]]]]),
        torch.tensor([[[0.9, torch.nan]]]),
        torch.tensor([[[[4.0, 0.0], [3.0, 0.0], [0.0, 1.0]]]]),
        torch.tensor([[[2, 1, 0]]]),
    )
    assert partners.detection.tolist() == [[[-1, 0, -1]]]
    assert partners.missed.tolist() == [[[True, False, False]]]
    assert float(partners.distance[0, 0, 1]) == 3.0
    assert partners.distance.isnan().tolist() == [[[True, False, True]]]


@given(case=cases(grid=0, score_levels=0))
@settings(max_examples=60, deadline=None)
def test_equals_every_permutation_tried(case) -> None:
    partners = assign_partners(*case.tensors())
    distances, missed = keypoint_errors(case.preds, case.scores, case.target, case.visibility)
    for channel, expected in enumerate(distances):
        found = partners.distance[:, channel]
        assert found[~found.isnan()].sort().values.tolist() == pytest.approx(sorted(expected), abs=1e-12)
    assert partners.missed.sum((0, 2)).tolist() == missed


@given(case=cases(), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_total_is_least_and_order_has_no_influence_with_ties(case, seed: int) -> None:
    partners = assign_partners(*case.tensors())
    for image, channel in np.ndindex(*case.scores.shape[:2]):
        kept = np.isfinite(case.preds[image, channel]).all(-1)
        there = (case.visibility[image, channel] > 0) & np.isfinite(case.target[image, channel]).all(-1)
        expected, _ = partner_distances(
            [tuple(xy) for xy in case.preds[image, channel][kept].tolist()],
            case.scores[image, channel][kept].tolist(),
            [tuple(xy) for xy in case.target[image, channel][there].tolist()],
        )
        assert float(partners.distance[image, channel].nansum()) == pytest.approx(math.fsum(expected))
    shuffled = assign_partners(*case.shuffled(seed).tensors())
    for channel in range(case.scores.shape[1]):
        before, after = (p.distance[:, channel].flatten().sort().values for p in (partners, shuffled))
        assert before.nan_to_num(-1).tolist() == after.nan_to_num(-1).tolist()


def test_one_of_several_optima_whatever_the_order_of_targets() -> None:
    # 1 + 1 + 1 or 0 + 1 + 2: the solver alone takes the first or the second as the targets come.
    preds, scores = [[2.0, 0.0], [1.0, 0.0], [3.0, 0.0]], [0.9, 0.8, 0.7]
    targets = [[0.0, 0.0], [1.0, 0.0], [4.0, 0.0]]
    found = {tuple(sorted(assign(preds, scores, list(order))[0])) for order in permutations(targets)}
    assert len(found) == 1
    assert sum(found.pop()) == 3.0


def test_partner_index_belongs_to_the_distance() -> None:
    case = make_case(3, (4, 2, 6, 5), grid=0)
    preds, _, target, _ = case.tensors()
    partners = assign_partners(*case.tensors())
    paired = partners.detection >= 0
    chosen = preds.gather(2, partners.detection.clamp(min=0)[..., None].expand(-1, -1, -1, 2))
    apart = (chosen - target).norm(dim=-1)
    torch.testing.assert_close(partners.distance[paired], apart[paired], rtol=1e-12, atol=1e-12)
    for row in partners.detection.reshape(8, 5).tolist():
        taken = [index for index in row if index >= 0]
        assert len(taken) == len(set(taken))


def test_does_not_need_a_graph() -> None:
    preds = torch.zeros(1, 1, 2, 2, requires_grad=True)
    partners = assign_partners(preds, torch.ones(1, 1, 2), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2))
    assert not partners.distance.requires_grad
    assert partners.distance.flatten().tolist() == pytest.approx([math.sqrt(2)] * 2)


def test_ignored_targets_take_part_and_do_not_count() -> None:
    preds, scores = torch.tensor([[[[5.0, 0.0], [1.0, 0.0], [9.0, 0.0]]]]), torch.tensor([[[0.9, 0.8, 0.7]]])
    target = torch.tensor([[[[0.0, 0.0], [5.0, 0.0], [20.0, 0.0], [40.0, 0.0]]]])
    ignored = torch.tensor([[[False, True, False, True]]])
    partners = assign_partners(preds, scores, target, torch.tensor([[[2, 1, 0, 1]]]), ignored=ignored)
    assert partners.detection.tolist() == [[[1, -1, -1, -1]]]
    assert partners.distance.nan_to_num(-1).tolist() == [[[1.0, -1.0, -1.0, -1.0]]]
    assert partners.counted.tolist() == [[[True, False, False, False]]]
    assert not bool(partners.missed.any())


def test_nothing_ignored_is_as_before() -> None:
    for seed in range(20):
        tensors = make_case(seed, (4, 2, 5, 4), grid=0).tensors()
        plain = assign_partners(*tensors)
        nothing = assign_partners(*tensors, ignored=torch.zeros_like(tensors[3], dtype=torch.bool))
        for before, after in zip(plain, nothing, strict=True):
            assert torch.equal(before.double().nan_to_num(-1), after.double().nan_to_num(-1))


def test_equally_near_targets_whatever_their_order() -> None:
    # One detection halfway between two targets: the one with the lower x gets it.
    preds, target = torch.tensor([[[[5.0, 0.0]]]]), torch.tensor([[[[0.0, 0.0], [10.0, 0.0]]]])
    ignored, visibility = torch.tensor([[[True, False]]]), torch.full((1, 1, 2), 2)
    for order in ([0, 1], [1, 0]):
        placed = target[:, :, order], visibility
        partners = assign_partners(preds, torch.ones(1, 1, 1), *placed, ignored=ignored[:, :, order])
        assert int(partners.missed.sum()) == 1
        lengths = torch.tensor([[[3.0, 7.0]]])[:, :, order]
        partners = assign_partners(preds, torch.ones(1, 1, 1), *placed, length=lengths)
        assert lengths[~partners.missed].tolist() == [3.0]
    # At the same place the one that counts gets it, then the one with the lesser length.
    target = torch.zeros(1, 1, 2, 2)
    for order in ([0, 1], [1, 0]):
        partners = assign_partners(
            preds, torch.ones(1, 1, 1), target, visibility, ignored=ignored[:, :, order]
        )
        assert not bool(partners.missed.any())
        lengths = torch.tensor([[[3.0, 7.0]]])[:, :, order]
        partners = assign_partners(preds, torch.ones(1, 1, 1), target, visibility, length=lengths)
        assert lengths[~partners.missed].tolist() == [3.0]
