"""Attention among tokens against a slow reference."""

import math

import pytest
import torch

from keypoint_detection.gaze.attention import Attention, TokenMixing, TransformerBlock


def slow_attention(layer: Attention, tokens: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
    """Compute one head, one query after the other."""
    query, key, value = layer.query(tokens), layer.key(context), layer.value(context)
    size = query.shape[-1] // layer.heads
    gathered = torch.zeros_like(query)
    for item in range(len(tokens)):
        for head in range(layer.heads):
            part = slice(head * size, (head + 1) * size)
            for index in range(tokens.shape[1]):
                scores = [
                    float(query[item, index, part] @ row) / math.sqrt(size) for row in key[item, :, part]
                ]
                weights = torch.tensor(scores, dtype=torch.float64).softmax(0)
                gathered[item, index, part] = (weights[:, None] * value[item, :, part]).sum(0).float()
    return layer.out(gathered)


@torch.no_grad()
@pytest.mark.parametrize("context_width", [None, 20])
def test_attention_equals_a_slow_reference(context_width: int | None) -> None:
    torch.manual_seed(0)
    layer, tokens = Attention(12, context_width, heads=3), torch.randn(2, 5, 12)
    context = None if context_width is None else torch.randn(2, 7, context_width)
    expected = slow_attention(layer, tokens, tokens if context is None else context)
    torch.testing.assert_close(layer(tokens, context), expected, rtol=1e-4, atol=1e-5)


def test_a_width_that_the_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiples of its heads"):
        Attention(10, heads=4)


def test_a_block_without_context_has_no_cross_attention() -> None:
    plain, crossed = TransformerBlock(8, heads=2), TransformerBlock(8, 12, heads=2)
    assert not any("cross" in name for name, _ in plain.named_parameters())
    assert any("cross" in name for name, _ in crossed.named_parameters())


@torch.no_grad()
def test_mixing_lets_every_token_reach_every_other_and_does_not_care_about_order() -> None:
    torch.manual_seed(0)
    mixing, tokens = TokenMixing(8, 1, heads=2), torch.randn(1, 6, 8)
    changed = tokens.clone()
    changed[0, 5] = 3.0 * torch.randn(8)
    assert ((mixing(changed) - mixing(tokens)).abs().amax(2) > 1e-5).all()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    torch.testing.assert_close(mixing(tokens[:, order]), mixing(tokens)[:, order])
