"""Where a map meets the tokens: attention to them and among its own places, or tokens laid over it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.attention import TransformerBlock
from keypoint_detection.gaze.denoiser_blocks import group_norm
from keypoint_detection.gaze.positions import sine_positions

TEMPERATURE = 100.0
"""Of the positions of map pixels: few channels cannot afford frequencies that never change."""


class MapTransformer(nn.Module):
    """Let the pixels of a map gather from each other and from the tokens.

    Fixed sine positions are added to the pixels, in cells of the grid of tokens. Without them a pixel of pure
    noise could not tell which tokens lie near to it; they have no parameters.

    Args:
        width: Channels of the map, a multiple of 4 and of `heads`.
        map_hw: Height and width of the map.
        context_dim: Channels of the tokens.
        token_grid_hw: Rows and columns of the tokens of the scene.
        heads: Attention heads.
        layers: Transformer layers.
        dropout: Probability of leaving out a hidden channel in training.

    Source: Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022, section 3.3.
    """

    positions: Tensor

    def __init__(
        self,
        width: int,
        map_hw: tuple[int, int],
        context_dim: int,
        token_grid_hw: tuple[int, int],
        *,
        heads: int = 4,
        layers: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm = group_norm(width)
        self.enter = nn.Linear(width, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, context_dim, heads=heads, dropout=dropout) for _ in range(layers)
        )
        self.leave = nn.Linear(width, width)
        positions = sine_positions(map_hw, width, span_hw=token_grid_hw, temperature=TEMPERATURE)
        self.register_buffer("positions", positions, persistent=False)
        with torch.no_grad():
            self.leave.weight.mul_(0.1)  # close to the identity at first

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Map `[n, width, h, w]`, and tokens `[n, t, context_dim]`, to `[n, width, h, w]`."""
        pixels = self.enter(self.norm(features).flatten(2).transpose(1, 2)) + self.positions
        for block in self.blocks:
            pixels = block(pixels, tokens)
        return features + self.leave(pixels).transpose(1, 2).unflatten(2, features.shape[-2:])


class TokenOverlay(nn.Module):
    """Lay the tokens of the scene over a map, as they cover the same area, and add them.

    Args:
        context_dim: Channels of the tokens.
        width: Channels of the map.
        token_grid_hw: Rows and columns of the tokens of the scene, which come first.
    """

    def __init__(self, context_dim: int, width: int, token_grid_hw: tuple[int, int]) -> None:
        super().__init__()
        self.token_grid_hw = token_grid_hw
        self.project = nn.Linear(context_dim, width)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Map `[n, width, h, w]`, and tokens `[n, t, context_dim]`, to `[n, width, h, w]`."""
        rows, columns = self.token_grid_hw
        grid = self.project(tokens[:, : rows * columns]).transpose(1, 2).unflatten(2, self.token_grid_hw)
        size = (features.shape[-2], features.shape[-1])
        return features + F.interpolate(grid, size=size, mode="bilinear", align_corners=False)
