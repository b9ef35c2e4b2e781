"""Position embeddings of Vision Transformers on a grid of patches of any size."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from timm.models import VisionTransformer


def embed_image(encoder: "VisionTransformer", image: Tensor) -> Tensor:
    """Turn an image into the tokens that the first block of a Vision Transformer takes.

    timm's own embedding resizes by antialiased bicubic interpolation, which ONNX computes differently; here
    it is two matrix products, which are the same everywhere.

    Args:
        encoder: From timm, built with `dynamic_img_size=True`.
        image: Float `[n, channels, h, w]`, sides in multiples of the patch.

    Returns:
        Class token, registers if there are any, and patches in row order:
        `[n, prefix + (h / patch) * (w / patch), width]`.
    """
    patches = encoder.patch_embed(image)
    grid_hw = (patches.shape[1], patches.shape[2])
    assert encoder.pos_embed is not None
    positions = resample_positions(encoder.pos_embed, encoder.patch_embed.grid_size, grid_hw)
    prefix = [
        token.expand(len(image), -1, -1)
        for token in (encoder.cls_token, encoder.reg_token)
        if token is not None
    ]
    if encoder.no_embed_class:
        return torch.cat([*prefix, patches.flatten(1, 2) + positions], dim=1)
    return torch.cat([*prefix, patches.flatten(1, 2)], dim=1) + positions


def resample_positions(positions: Tensor, old_hw: tuple[int, int], new_hw: tuple[int, int]) -> Tensor:
    """Resize the position embeddings of a grid by antialiased bicubic interpolation.

    Args:
        positions: `[1, prefix + old_h * old_w, width]`; the prefix, of any length, is kept as it is.
        old_hw: Height and width of the grid in patches.
        new_hw: Height and width wanted; if it is the old one, the embeddings are returned untouched.

    Returns:
        `[1, prefix + new_h * new_w, width]`.
    """
    if tuple(old_hw) == tuple(new_hw):
        return positions
    n_prefix = positions.shape[1] - old_hw[0] * old_hw[1]
    grid = positions[0, n_prefix:].unflatten(0, old_hw)
    rows, columns = (
        bicubic_weights(old, new, positions.device).to(positions.dtype)
        for old, new in zip(old_hw, new_hw, strict=True)
    )
    narrowed = torch.matmul(columns, grid)  # [old_h, new_w, width]
    resized = torch.matmul(rows, narrowed.flatten(1))  # [new_h, new_w * width]
    return torch.cat([positions[:, :n_prefix], resized.view(1, new_hw[0] * new_hw[1], -1)], dim=1)


def bicubic_weights(n_old: int, n_new: int, device: torch.device) -> Tensor:
    """Compute the weights of old samples in new ones along an axis, both covering the same length.

    Where samples get fewer the kernel is widened, so that none is skipped.

    Source: Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981, equation 15 (a = -1/2).

    Args:
        n_old: Samples given.
        n_new: Samples wanted.
        device: Where the result is made.

    Returns:
        Float `[n_new, n_old]`, rows that sum to 1.
    """
    scale = n_old / n_new
    centres = (torch.arange(n_new, device=device) + 0.5) * scale
    samples = torch.arange(n_old, device=device) + 0.5
    distance = (samples - centres[:, None]).abs() / max(scale, 1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
    return weights / weights.sum(1, keepdim=True)
