import pytest
import timm
import torch
from torch.nn import functional as F

from keypoint_detection.models.backbones.vit_positions import (
    bicubic_weights,
    embed_image,
    resample_positions,
)


def test_weights_by_hand() -> None:
    cpu = torch.device("cpu")
    assert torch.equal(bicubic_weights(5, 5, cpu), torch.eye(5))
    # Twice as many samples: the new sample 3 lies at 1.25 old samples, at distances 1.25, 0.25, 0.75, 1.75.
    near, far = lambda d: 1.5 * d**3 - 2.5 * d**2 + 1, lambda d: -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    expected = torch.tensor([far(1.25), near(0.25), near(0.75), far(1.75)])
    torch.testing.assert_close(bicubic_weights(4, 8, cpu)[3], expected)


@pytest.mark.parametrize(("n_old", "n_new"), [(14, 1), (14, 5), (14, 20), (37, 16), (7, 40), (1, 3)])
def test_weights_are_those_of_antialiased_interpolation(n_old: int, n_new: int) -> None:
    samples = torch.eye(n_old)[None, :, None, :].expand(1, -1, 2, -1)
    expected = F.interpolate(samples, (2, n_new), mode="bicubic", antialias=True)[0, :, 0].T
    weights = bicubic_weights(n_old, n_new, torch.device("cpu"))
    torch.testing.assert_close(weights, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(weights.sum(1), torch.ones(n_new))


def test_the_same_grid_is_left_alone() -> None:
    positions = torch.randn(1, 1 + 12, 8)
    assert resample_positions(positions, (3, 4), (3, 4)) is positions


@pytest.mark.parametrize("n_prefix", [0, 1, 5])
def test_a_grid_is_resampled_and_the_prefix_kept(n_prefix: int) -> None:
    positions = torch.randn(1, n_prefix + 12, 8)
    resampled = resample_positions(positions, (3, 4), (5, 2))
    grid = positions[0, n_prefix:].T.reshape(1, 8, 3, 4)
    expected = F.interpolate(grid, (5, 2), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    assert torch.equal(resampled[:, :n_prefix], positions[:, :n_prefix])
    torch.testing.assert_close(resampled[:, n_prefix:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]
)
@pytest.mark.parametrize("grid_hw", [(1, 1), (2, 3), (20, 9)])
def test_tokens_are_those_of_timm(name: str, grid_hw: tuple[int, int]) -> None:
    torch.manual_seed(0)
    encoder = timm.create_model(name, dynamic_img_size=True, depth=1, num_classes=0)
    for token in (encoder.cls_token, encoder.reg_token):
        if token is not None:
            torch.nn.init.normal_(token)
    patch = encoder.patch_embed.patch_size[0]
    image = torch.randn(2, 3, grid_hw[0] * patch, grid_hw[1] * patch)
    expected = encoder._pos_embed(encoder.patch_embed(image))
    torch.testing.assert_close(embed_image(encoder, image), expected, rtol=1e-4, atol=1e-5)
