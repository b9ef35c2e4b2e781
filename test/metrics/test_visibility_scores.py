import math

import pytest
import torch

from keypoint_detection.metrics.visibility_scores import VisibilityTable, visibility_pairs

NAN = math.nan


def scene() -> tuple[torch.Tensor, ...]:
    """Return two images of two channels: detections, signed scores, targets and flags."""
    preds = torch.tensor(
        [[[[5.0, 5], [30, 30], [9, 9]], [[NAN, NAN]] * 3], [[[7.0, 7]] + [[NAN, NAN]] * 2] * 2]
    )
    scores = torch.tensor([[[-0.9, 0.8, 0.1], [0.0, 0, 0]], [[0.4, 0, 0], [-0.3, 0, 0]]])
    target = torch.tensor([[[[30.0, 31], [5, 6]], [[8.0, 8], [NAN, NAN]]], [[[7.0, 7], [NAN, NAN]]] * 2])
    visibility = torch.tensor([[[2, 1], [2, 0]], [[1, 0], [1, 0]]], dtype=torch.uint8)
    return preds, scores, target, visibility


def test_pairs_by_hand() -> None:
    pairs = visibility_pairs(*scene())
    # channel 1 of image 1 has no detection; its target has no pair
    assert pairs.scores.tolist() == pytest.approx([0.8, -0.9, 0.4, -0.3])
    assert pairs.visible.tolist() == [True, False, False, False]
    assert pairs.num_pairs.tolist() == [[2, 0], [1, 1]]


def test_the_magnitude_ranks_whatever_the_sign() -> None:
    preds, target = torch.tensor([[[[0.0, 0], [50, 50]]]]), torch.tensor([[[[0.0, 0]]]])
    pairs = visibility_pairs(preds, torch.tensor([[[0.5, -0.9]]]), target, torch.tensor([[[2]]]))
    assert pairs.scores.tolist() == pytest.approx([-0.9])


def test_ignored_targets_have_no_pair() -> None:
    preds, scores, target, visibility = scene()
    pairs = visibility_pairs(preds, scores, target, visibility, ignored=visibility == 1)
    assert pairs.scores.tolist() == pytest.approx([0.8])
    assert pairs.num_pairs.tolist() == [[1, 0], [0, 0]]


def test_nothing_found_gives_no_pairs() -> None:
    _, _, target, visibility = scene()
    pairs = visibility_pairs(torch.zeros(2, 2, 0, 2), torch.zeros(2, 2, 0), target, visibility)
    assert pairs.scores.shape == (0,)
    assert pairs.num_pairs.tolist() == [[0, 0], [0, 0]]


def test_batches_add_up_and_reset_forgets() -> None:
    table, parts = VisibilityTable(2), scene()
    for row in range(2):
        table.update(*(part[row : row + 1] for part in parts))
    together = visibility_pairs(*parts)
    for found in (table.compute(), table.pairs()):
        assert all(torch.equal(one, other) for one, other in zip(found, together, strict=True))
    table.reset()
    assert [tuple(part.shape) for part in table.compute()] == [(0,), (0,), (0, 2)]


def test_one_pair_alone_keeps_its_shape() -> None:
    table = VisibilityTable(1)
    table.update(
        torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), -0.5), torch.zeros(1, 1, 1, 2), torch.tensor([[[1]]])
    )
    assert [tuple(part.shape) for part in table.compute()] == [(1,), (1,), (1, 1)]


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected num_channels >= 1, got 0"):
        VisibilityTable(0)
    with pytest.raises(ValueError, match=r"expected preds \[n, 3, k, 2\], got \[2, 2, 3, 2\]"):
        VisibilityTable(3).update(*scene())
