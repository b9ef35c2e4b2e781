import pytest
import torch
from torch import nn

from keypoint_detection.models.backbones.vit_decoder import BilinearDecoder, deconvolutions


@pytest.mark.parametrize(
    ("patch", "stride", "n_blocks"), [(16, 4, 2), (14, 4, 2), (14, 8, 1), (14, 1, 4), (16, 16, 1), (32, 1, 5)]
)
def test_shapes_and_steps(patch: int, stride: int, n_blocks: int) -> None:
    rows, columns = stride, 2 * stride  # images of lcm sides
    for progressive in (False, True):
        decoder = BilinearDecoder(12, 8, patch, stride, progressive=progressive)
        features = decoder(torch.randn(2, 12, rows, columns))
        assert features.shape == (2, 8, rows * patch // stride, columns * patch // stride)
        assert len(decoder.blocks) == (n_blocks if progressive else 1)
        assert 0.2 < (features < 0).float().mean() < 0.8


@pytest.mark.parametrize(("patch", "stride"), [(16, 4), (14, 4), (14, 1), (32, 2)])
@pytest.mark.parametrize("progressive", [False, True])
def test_a_feature_lies_over_its_pixel(patch: int, stride: int, progressive: bool) -> None:
    """Each token holds the pixel x of its centre; a feature u must then hold (u + 0.5) * stride - 0.5."""
    decoder = BilinearDecoder(1, 1, patch, stride, progressive=progressive)
    decoder.reduce = nn.Identity()  # pyright: ignore[reportAttributeAccessIssue]
    decoder.blocks = nn.ModuleList(nn.Identity() for _ in decoder.blocks)
    decoder.last = nn.Identity()
    centres = (torch.arange(8.0) + 0.5) * patch - 0.5
    features = decoder(centres.expand(1, 1, 8, 8))[0, 0, 0]
    expected = (torch.arange(8.0 * patch / stride) + 0.5) * stride - 0.5
    inside = (expected > centres[1]) & (expected < centres[-2])
    assert inside.sum() > 4
    torch.testing.assert_close(features[inside], expected[inside], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("n_doublings", [0, 1, 2, 4])
def test_deconvolutions_double_and_end_without_relu(n_doublings: int) -> None:
    decoder = deconvolutions(12, 8, n_doublings)
    features = decoder(torch.randn(2, 12, 3, 5))
    assert features.shape == (2, 8, 3 * 2**n_doublings, 5 * 2**n_doublings)
    assert 0.2 < (features < 0).float().mean() < 0.8


def test_deconvolutions_are_symmetric_about_pixel_centres() -> None:
    torch.manual_seed(0)
    decoder, mirrored = deconvolutions(4, 4, 2).eval(), deconvolutions(4, 4, 2).eval()
    mirrored.load_state_dict(decoder.state_dict())
    for module in mirrored.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.weight.data = module.weight.data.flip(-1)
    features = torch.randn(1, 4, 3, 5)
    torch.testing.assert_close(mirrored(features.flip(-1)).flip(-1), decoder(features))


@pytest.mark.parametrize("n_doublings", [0, 2])
def test_a_single_token_in_training(n_doublings: int) -> None:
    assert deconvolutions(12, 8, n_doublings)(torch.randn(1, 12, 1, 1)).isfinite().all()
    assert BilinearDecoder(12, 8, 16, 16)(torch.randn(1, 12, 1, 1)).isfinite().all()


def test_a_map_can_peak_between_the_centres_of_patches() -> None:
    """Two peaks 10 px apart in tokens of 16 px: linear layers after them leave 15 % of this target."""
    torch.manual_seed(0)
    tokens, cells = torch.randn(1, 12, 4, 4), torch.arange(16.0)
    places = [(4.2, 3.4), (6.6, 3.4), (11.3, 9.7), (11.3, 12.1)]
    peaks = [torch.exp(-((cells - x) ** 2) - (cells[:, None] - y) ** 2) for x, y in places]
    wanted = torch.stack(peaks).sum(0)[None, None]
    decoder, head = BilinearDecoder(12, 32, 16, 4), nn.Conv2d(32, 1, 3, padding=1)
    optimizer = torch.optim.Adam([*decoder.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        loss = (head(decoder(tokens)) - wanted).square().mean()
        loss.backward()
        optimizer.step()
    assert loss < 0.03 * wanted.square().mean()
