"""The direct decoder."""

import pytest
import torch

from keypoint_detection.gaze.direct_decoder import DirectDecoder

SMALL = {
    "map_hw": 16,
    "base_width": 8,
    "multipliers": (1, 2),
    "attention_strides": (2,),
    "context_dim": 12,
    "token_grid_hw": (4, 4),
}


def small(**options) -> DirectDecoder:
    torch.manual_seed(0)
    return DirectDecoder(**{**SMALL, **options})


@pytest.mark.parametrize("options", [{}, {"overlay": True}, {"n_blocks": 2, "attention_strides": ()}])
def test_every_parameter_learns_from_the_tokens(options: dict) -> None:
    decoder, tokens = small(**options), torch.randn(2, 20, 12, requires_grad=True)
    logits = decoder(tokens)
    assert logits.shape == (2, 1, 16, 16)
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 1e-9 for p in decoder.parameters())
    assert tokens.grad is not None
    assert (tokens.grad.abs().amax(2) > 0).all()  # it sees every token of scene and head


def test_most_pixels_start_as_background() -> None:
    probabilities = small()(torch.randn(4, 20, 12)).sigmoid()
    assert probabilities.mean() < 0.05


def test_the_published_size_and_a_batch_of_one() -> None:
    assert DirectDecoder()(torch.randn(1, 98, 1024)).shape == (1, 1, 64, 64)


def test_maps_that_are_not_square() -> None:
    assert small(map_hw=(16, 24))(torch.randn(1, 20, 12)).shape == (1, 1, 16, 24)


@torch.no_grad()
def test_the_export_takes_any_batch() -> None:
    decoder = small(overlay=True).eval()
    shapes = {"tokens": {0: torch.export.Dim("n", min=1, max=512)}}
    exported = torch.export.export(decoder, (torch.randn(4, 20, 12),), dynamic_shapes=shapes).module()
    for n in (1, 5):
        tokens = torch.randn(n, 20, 12)
        torch.testing.assert_close(exported(tokens), decoder(tokens), rtol=1e-4, atol=1e-5)


def test_bf16_autocast() -> None:
    decoder, tokens = small(overlay=True), torch.randn(2, 20, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        halved = decoder(tokens)
    assert (halved.float() - decoder(tokens)).abs().max() < 0.05


def test_it_learns_which_token_is_bright() -> None:
    """Sixteen places, sixteen maps: the place of a token has to come through."""
    torch.manual_seed(0)
    decoder, tokens = small(overlay=True), torch.zeros(16, 20, 12)
    tokens[torch.arange(16), torch.arange(16)] = torch.randn(12)
    cells = torch.arange(16)
    optimizer = torch.optim.Adam(decoder.parameters(), lr=1e-2)
    for _ in range(60):
        scores = torch.nn.functional.avg_pool2d(decoder(tokens), 4).flatten(1)
        loss = torch.nn.functional.cross_entropy(scores, cells)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (scores.argmax(1) == cells).all()


def test_tokens_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="DirectDecoder needs tokens"):
        small()(torch.randn(2, 20, 11))
