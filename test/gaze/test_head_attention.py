"""Attention by the place of the head."""

import pytest
import torch

from keypoint_detection.gaze.head_attention import FINENESS, HeadAttention, pooled_mask


def masks(rows: int, columns: int, cell_px: int) -> torch.Tensor:
    """Return one mask for each cell of a grid, bright in that cell."""
    drawn = torch.zeros(rows * columns, 1, rows * cell_px, columns * cell_px, dtype=torch.uint8)
    for index in range(rows * columns):
        top, left = index // columns * cell_px, index % columns * cell_px
        drawn[index, 0, top : top + cell_px, left : left + cell_px] = 255
    return drawn


def test_the_published_size() -> None:
    # 28x28 mask pixels and 1024 channels of the head to 49 cells, with a bias each
    layer = HeadAttention(1024, (7, 7))
    assert sum(parameter.numel() for parameter in layer.parameters()) == (784 + 1024) * 49 + 49


@pytest.mark.parametrize("mask_hw", [(224, 224), (193, 257), (65, 97)])
def test_weights_sum_to_one(mask_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = HeadAttention(8, (7, 7))
    mask = torch.randint(0, 256, (3, 1, *mask_hw), dtype=torch.uint8)
    weights = layer.weights(torch.randn(3, 8, 7, 7), mask)
    assert weights.shape == (3, 1, 7, 7)
    torch.testing.assert_close(weights.sum((1, 2, 3)), torch.ones(3))
    assert (weights >= 0).all()


def test_weights_can_peak_at_the_head() -> None:
    rows, columns, layer = 3, 4, HeadAttention(5, (3, 4))
    with torch.no_grad():
        layer.score.weight.zero_()
        layer.score.bias.zero_()
        for cell in range(rows * columns):
            row, column = cell // columns, cell % columns
            place = torch.zeros(FINENESS * rows, FINENESS * columns)
            place[FINENESS * row : FINENESS * (row + 1), FINENESS * column : FINENESS * (column + 1)] = 1.0
            layer.score.weight[cell, : place.numel()] = place.flatten()
        weights = layer.weights(torch.zeros(12, 5, 2, 2), masks(rows, columns, 16)).flatten(1)
    assert torch.equal(weights.argmax(1), torch.arange(12))
    assert (weights.diagonal() > 0.99).all()


def test_weights_learn_to_peak_at_the_head() -> None:
    torch.manual_seed(0)
    layer, mask, target = HeadAttention(5, (3, 4)), masks(3, 4, 16), torch.arange(12)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    for _ in range(60):
        weights = layer.weights(torch.zeros(12, 5, 2, 2), mask).flatten(1)
        loss = -weights[target, target].log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (weights.argmax(1) == target).all()


def test_equal_weights_change_nothing() -> None:
    layer = HeadAttention(5, (3, 4))
    torch.nn.init.zeros_(layer.score.weight)
    torch.nn.init.zeros_(layer.score.bias)
    scene = torch.randn(2, 6, 3, 4)
    mask = torch.randint(0, 256, (2, 1, 30, 40), dtype=torch.uint8)
    torch.testing.assert_close(layer(scene, torch.randn(2, 5, 3, 3), mask), scene)


def test_a_head_of_one_pixel_is_seen() -> None:
    mask = torch.zeros(1, 1, 224, 224, dtype=torch.uint8)
    mask[0, 0, 100, 37] = 255
    pooled = pooled_mask(mask, (7, 7))
    assert pooled.shape == (1, 1, 28, 28)
    assert pooled.sum() == 1.0
    assert pooled[0, 0, 100 // 8, 37 // 8] == 1.0
