"""The direct decoder: one heatmap from the same tokens as the denoiser's, without noise or samples."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.denoiser import Step, check_map, check_tokens
from keypoint_detection.gaze.denoiser_attention import MapTransformer, TokenOverlay
from keypoint_detection.gaze.denoiser_blocks import Double, TimedResidual, group_norm
from keypoint_detection.models.backbones.base_backbone import check_at_least
from keypoint_detection.models.backbones.decoder import INITIAL_LOGIT


class DirectDecoder(nn.Module):
    """Draw heatmap logits from the tokens: the way up of the denoiser, from a map that is learned.

    It is the baseline that tells what the diffusion is worth, so it takes the same options and sees nothing
    but the same tokens.

    Args:
        map_hw: Height and width of the map: one number for both, or two; multiples of the coarsest stride.
        base_width: Channels at full size, a multiple of 4.
        multipliers: Channels of each level, in multiples of `base_width`; each level halves the size.
        n_blocks: Residual blocks per level.
        attention_strides: Map pixels per pixel of the levels with attention; the coarsest always has it.
        heads: Attention heads.
        transformer_layers: Layers of each transformer.
        context_dim: Channels of the tokens.
        dropout: Probability of leaving out a value in training.
        token_grid_hw: Rows and columns of the tokens of the scene.
        overlay: Also add the tokens of the scene to the map where they lie, at every level.

    Raises:
        ValueError: If a value is out of its range, or some do not fit together.
    """

    def __init__(
        self,
        *,
        map_hw: int | tuple[int, int] = 64,
        base_width: int = 8,
        multipliers: Sequence[int] = (1, 2, 3, 4),
        n_blocks: int = 1,
        attention_strides: Sequence[int] = (2, 4, 8),
        heads: int = 4,
        transformer_layers: int = 1,
        context_dim: int = 1024,
        dropout: float = 0.0,
        token_grid_hw: tuple[int, int] = (7, 7),
        overlay: bool = False,
    ) -> None:
        super().__init__()
        check_at_least("DirectDecoder", 1, n_blocks=n_blocks, transformer_layers=transformer_layers)
        self.map_hw = check_map("DirectDecoder", map_hw, base_width, multipliers, attention_strides)
        self.context_dim = context_dim
        self._token_grid_hw = (int(token_grid_hw[0]), int(token_grid_hw[1]))
        widths = [base_width * multiplier for multiplier in multipliers]
        coarsest = 2 ** (len(widths) - 1)
        self.start = nn.Parameter(
            torch.randn(1, widths[-1], self.map_hw[0] // coarsest, self.map_hw[1] // coarsest)
        )
        self._attention = {"heads": heads, "layers": transformer_layers, "dropout": dropout}
        self.levels, self.doubling, self.overlays = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        current = widths[-1]
        for level in reversed(range(len(widths))):
            if overlay:
                self.overlays.append(TokenOverlay(context_dim, current, self._token_grid_hw))
            attend = 2**level in attention_strides or level == len(widths) - 1
            self.levels.append(
                nn.ModuleList(
                    self._step(width, widths[level], level, attend=attend)
                    for width in [current, *[widths[level]] * (n_blocks - 1)]
                )
            )
            current = widths[level]
            if level:
                self.doubling.append(Double(current))
        self.leave_norm = group_norm(current)
        self.leave = nn.Conv2d(current, 1, 3, padding=1)
        nn.init.normal_(self.leave.weight, std=0.01)
        nn.init.constant_(self.leave.bias, INITIAL_LOGIT)  # pyright: ignore[reportArgumentType]

    def _step(self, in_channels: int, out_channels: int, level: int, *, attend: bool) -> Step:
        """Build a residual block without time, with attention where it is asked for."""
        transformer = None
        if attend:
            level_hw = (self.map_hw[0] // 2**level, self.map_hw[1] // 2**level)
            transformer = MapTransformer(
                out_channels, level_hw, self.context_dim, self._token_grid_hw, **self._attention
            )
        dropout = self._attention["dropout"]
        return Step(TimedResidual(in_channels, out_channels, dropout=dropout, scale_shift=False), transformer)

    def forward(self, tokens: Tensor) -> Tensor:
        """Draw.

        Args:
            tokens: `[n, s, context_dim]`; those of the scene come first.

        Returns:
            Heatmap logits `[n, 1, h, w]`.

        Raises:
            ValueError: If the tokens have another shape.
        """
        check_tokens("DirectDecoder", tokens, tokens.shape[0], self.context_dim)
        features = self.start.expand(tokens.shape[0], -1, -1, -1)
        for index, steps in enumerate(self.levels):
            if self.overlays:
                features = self.overlays[index](features, tokens)
            for step in steps:  # pyright: ignore[reportGeneralTypeIssues]  a ModuleList
                features = step(features, None, tokens)
            if index < len(self.doubling):
                features = self.doubling[index](features)
        return self.leave(F.silu(self.leave_norm(features)))
