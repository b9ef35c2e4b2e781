import math

import pytest
import torch

from keypoint_detection.metrics.pck_rule import (
    PCKRule,
    box_diagonal,
    box_side,
    head_size,
    image_diagonal,
    reference_length,
)


def test_lengths_by_hand() -> None:
    boxes = torch.tensor([[[1.0, 2.0, 3.0, 4.0]], [[0.0, 0.0, 12.0, 5.0]]])
    assert box_diagonal(boxes).tolist() == [[5.0], [13.0]]
    assert box_side(boxes).tolist() == [[4.0], [12.0]]
    assert head_size(boxes).tolist() == [[0.6 * 5.0], [0.6 * 13.0]]
    assert image_diagonal(torch.tensor([[3, 4], [5, 12]])).tolist() == [5.0, 13.0]
    assert image_diagonal(torch.tensor([300, 400])).dtype == torch.float64
    nothing = torch.full((2, 4), torch.nan)
    assert all(bool(length(nothing).isnan().all()) for length in (box_diagonal, box_side, head_size))
    assert box_diagonal(boxes.half()).tolist() == [[5.0], [13.0]]


def test_reference_length_needs_both_points() -> None:
    target = torch.tensor([[[[0.0, 0.0], [9.0, 9.0]], [[1.0, 1.0], [3.0, 4.0]]]]).repeat(3, 1, 1, 1)
    present = torch.tensor([[[True, False], [False, True]]]).repeat(3, 1, 1)
    present[1, 0, 0] = False
    length = reference_length(target.masked_fill(~present[..., None], torch.nan), present, (1, 0))
    assert length.nan_to_num(-1).tolist() == [5.0, -1.0, 5.0]


def test_reference_length_of_two_points_in_one_image_is_refused() -> None:
    present = torch.ones(2, 2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"got 2 in one; take other channels"):
        reference_length(torch.zeros(2, 2, 2, 2), present, (0, 1))


def test_different_rules_have_different_numbers() -> None:
    rules = [
        PCKRule.create(alpha, normalizer, visible_only)
        for alpha in (0.1, 0.2, [0.1, 0.2])
        for normalizer in ("pixels", "scale", "box_side", (0, 1), (1, 0), (1, 2))
        for visible_only in (False, True)
    ]
    assert len({tuple(rule.numbers()) for rule in rules}) == len(rules)
    assert PCKRule.create(1, [3, 4], False).normalizer == (3, 4)


def test_table_adds_up() -> None:
    rule = PCKRule.create([0.5, 2], "scale", False)
    preds = torch.tensor([[[[0.0, 1.0]], [[0.0, 0.0]]], [[[0.0, 3.0]], [[torch.nan, torch.nan]]]])
    batch = preds, torch.ones(2, 2, 1), torch.zeros(2, 2, 1, 2), torch.full((2, 2, 1), 2)
    scale = torch.tensor([[[1.0], [math.inf]], [[2.0], [2.0]]])
    table = rule.table(*batch, scale=scale, ignored=None)
    # Correct at 0.5 and 2; found, missed, undefined; closeness 0.5 + 0.25 in two parts.
    assert table.tolist() == [[0, 2, 2, 0, 0, 0, 3 * 2**38], [0, 0, 0, 1, 1, 0, 0]]
    parts = [
        rule.table(*(part[rows] for part in batch), scale=scale[rows], ignored=None)
        for rows in (slice(0, 1), slice(1, 2))
    ]
    assert torch.equal(parts[0] + parts[1], table)
    assert float(rule.summary(table)["auc"]) == 0.25
