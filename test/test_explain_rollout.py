"""Rollout against a slow reference, hand-worked numbers, and what holds for any attention."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference.rollout import rollout_matrix

from keypoint_detection.explain_rollout import (
    HEAD_FUSIONS,
    discard_lowest,
    fuse_heads,
    patch_map,
    positive_contributions,
    rollout,
    token_weights,
)
from keypoint_detection.models.attention import TokenGrid


def attention(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(2 * torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("head_fusion", HEAD_FUSIONS)
@pytest.mark.parametrize("discard_ratio", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_equals_the_slow_reference(head_fusion: str, discard_ratio: float, n_prefix: int) -> None:
    blocks = list(attention(3, 4, 11 + n_prefix, 11 + n_prefix))
    rows = torch.eye(11 + n_prefix, dtype=torch.float64)
    options = {"head_fusion": head_fusion, "discard_ratio": discard_ratio, "n_prefix": n_prefix}
    ours = rollout(blocks, rows, **options)
    reference = rollout_matrix([block.numpy() for block in blocks], **options)
    np.testing.assert_allclose(ours, reference, atol=1e-12)
    np.testing.assert_allclose(ours.sum(1), 1.0, atol=1e-12)


def test_by_hand() -> None:
    first = torch.tensor([[[0.2, 0.8], [0.4, 0.6]]])
    second = torch.tensor([[[1.0, 0.0], [0.5, 0.5]]])
    # (A + I) / 2: [[.6, .4], [.2, .8]] first, [[1, 0], [.25, .75]] second; row 1 of their product
    found = rollout([first, second], torch.tensor([0.0, 1.0]))
    assert found.tolist() == pytest.approx([0.25 * 0.6 + 0.75 * 0.2, 0.25 * 0.4 + 0.75 * 0.8])


def test_fusions_by_hand() -> None:
    heads = torch.tensor([[[0.1, 0.9]], [[0.7, 0.3]]])
    assert fuse_heads(heads, "mean").tolist()[0] == pytest.approx([0.4, 0.6])
    assert fuse_heads(heads, "max").tolist()[0] == pytest.approx([0.7, 0.9])
    assert fuse_heads(heads, "min").tolist()[0] == pytest.approx([0.1, 0.3])


def test_the_lowest_of_each_row_go_but_never_the_class_token() -> None:
    rows = torch.tensor([[0.01, 0.3, 0.1, 0.2, 0.39], [0.02, 0.1, 0.58, 0.2, 0.1]]).repeat(3, 1)[:5]
    cut = discard_lowest(rows, 0.5, 1)
    assert cut[0].tolist() == pytest.approx([0.01, 0.3, 0, 0, 0.39])
    assert cut[1].tolist() == pytest.approx([0.02, 0, 0.58, 0.2, 0])
    assert rows[0, 2] > 0  # the argument is as it was
    assert torch.equal(discard_lowest(rows, 0.0, 1), rows)
    assert discard_lowest(rows, 0.5, 0)[0].tolist() == pytest.approx([0, 0.3, 0, 0.2, 0.39])


def test_ratios_are_shares_not_binary_fractions() -> None:
    rows = torch.arange(1.0, 101.0)[None]
    assert [int((discard_lowest(rows, ratio, 0) == 0).sum()) for ratio in (0.29, 0.57, 0.999)] == [29, 57, 99]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_a_ratio_out_of_range_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"discard_ratio from 0 to below 1, got"):
        discard_lowest(torch.eye(3), ratio, 0)


def test_an_empty_row_is_the_residual_alone() -> None:
    block = torch.tensor([[[0.0, 0.0], [0.5, 0.0]]])
    assert rollout([block], torch.eye(2)).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@given(st.integers(0, 1000), st.sampled_from(HEAD_FUSIONS), st.floats(0, 0.99), st.integers(0, 2))
def test_rows_sum_to_one_for_any_gradients(seed: int, fusion: str, ratio: float, n_prefix: int) -> None:
    weights = attention(2, 3, 7, 7, seed=seed)
    gradients = torch.randn(weights.shape, dtype=torch.float64) * 1e-6
    blocks = [positive_contributions(*pair) for pair in zip(weights, gradients, strict=True)]
    options = {"head_fusion": fusion, "discard_ratio": ratio, "n_prefix": n_prefix}
    rows = rollout(blocks, torch.eye(7, dtype=torch.float64), **options)
    assert float(rows.min()) >= 0
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-9)
    scaled = rollout([1e5 * block for block in blocks], torch.eye(7, dtype=torch.float64), **options)
    np.testing.assert_allclose(scaled, rows, atol=1e-9)


def test_negative_contributions_are_cut() -> None:
    weights, gradient = torch.tensor([[[0.5, 0.25, 0.25]]]), torch.tensor([[[2.0, -8.0, 0.0]]])
    assert positive_contributions(weights, gradient).tolist() == [[[1.0, 0.0, 0.0]]]


def test_token_weights_are_lengths() -> None:
    assert token_weights(torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -15.0]])).tolist() == [0.25, 0.0, 0.75]
    assert token_weights(torch.zeros(4, 2)).tolist() == [0.25] * 4


def test_the_map_is_the_patches_in_row_order() -> None:
    grid = TokenGrid(n_prefix=2, rows=2, columns=3, patch_px=16)
    row = torch.tensor([0.3, 0.2, 0.05, 0.1, 0.05, 0.1, 0.1, 0.1])
    expected = torch.tensor([[0.1, 0.2, 0.1], [0.2, 0.2, 0.2]])
    torch.testing.assert_close(patch_map(row, grid), expected)
    only_prefix = torch.tensor([0.5, 0.5, *[0.0] * 6])
    torch.testing.assert_close(patch_map(only_prefix, grid), torch.full((2, 3), 1 / 6))
