"""The denoiser: a small U-Net that tells from a noisy map, the time and the tokens what the map was."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.denoiser_attention import MapTransformer, TokenOverlay
from keypoint_detection.gaze.denoiser_blocks import Double, Halve, TimedResidual, TimeEmbedding, group_norm
from keypoint_detection.models.backbones.base_backbone import check_at_least


class Denoiser(nn.Module):
    """Predict the clean map, the noise or the velocity from a noisy map; which one is the training's choice.

    The last convolution starts at zero, so that an untrained network predicts zero.

    Args:
        map_hw: Height and width of the map: one number for both, or two; multiples of the coarsest stride.
        base_width: Channels at full size, a multiple of 4.
        multipliers: Channels of each level, in multiples of `base_width`; each level halves the size.
        n_blocks: Residual blocks per level on the way down; there is one more on the way up.
        attention_strides: Map pixels per pixel of the levels with attention; the middle always has it.
        heads: Attention heads.
        transformer_layers: Layers of each transformer.
        context_dim: Channels of the tokens.
        dropout: Probability of leaving out a value in training.
        scale_shift: Let the time scale and shift normalised features; False: add it before.
        token_grid_hw: Rows and columns of the tokens of the scene.
        overlay: Also add the tokens of the scene to the map where they lie, at every level on the way down.

    Raises:
        ValueError: If a value is out of its range, or some do not fit together.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, 2021, with the transformers of
    Rombach et al., High-Resolution Image Synthesis with Latent Diffusion Models, 2022.
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
        scale_shift: bool = True,
        token_grid_hw: tuple[int, int] = (7, 7),
        overlay: bool = False,
    ) -> None:
        super().__init__()
        self.map_hw = check_map("Denoiser", map_hw, base_width, multipliers, attention_strides)
        check_at_least("Denoiser", 1, n_blocks=n_blocks, transformer_layers=transformer_layers)
        self.context_dim, self.attention_strides = context_dim, tuple(attention_strides)
        self._attention = {"heads": heads, "layers": transformer_layers, "dropout": dropout}
        self._token_grid_hw = (int(token_grid_hw[0]), int(token_grid_hw[1]))
        self._residual = {"time_width": 4 * base_width, "dropout": dropout, "scale_shift": scale_shift}
        widths = [base_width * multiplier for multiplier in multipliers]
        self.time = TimeEmbedding(base_width, 4 * base_width)
        self.enter = nn.Conv2d(1, base_width, 3, padding=1)
        self.overlays = nn.ModuleList(
            TokenOverlay(context_dim, width, self._token_grid_hw)
            for width in ([base_width, *widths[:-1]] if overlay else [])
        )
        skips = self._build_down(base_width, widths, n_blocks)
        self.middle = nn.ModuleList(
            [self._step(widths[-1], widths[-1], len(widths) - 1, attend=True), self._plain(widths[-1])]
        )
        self._build_up(skips, widths, n_blocks)
        self.leave_norm = group_norm(widths[0])
        self.leave = nn.Conv2d(widths[0], 1, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        assert self.leave.bias is not None
        nn.init.zeros_(self.leave.bias)

    def _build_down(self, base_width: int, widths: Sequence[int], n_blocks: int) -> list[int]:
        """Build the way down; return the channels of all that it leaves for the way up."""
        self.down, self.halving = nn.ModuleList(), nn.ModuleList()
        skips, current = [base_width], base_width
        for level, width in enumerate(widths):
            steps = nn.ModuleList()
            for _ in range(n_blocks):
                steps.append(self._step(current, width, level))
                current = width
                skips.append(current)
            self.down.append(steps)
            if level < len(widths) - 1:
                self.halving.append(Halve(current))
                skips.append(current)
        return skips

    def _build_up(self, skips: list[int], widths: Sequence[int], n_blocks: int) -> None:
        """Build the way up, which takes what the way down left, the latest first."""
        self.up, self.doubling = nn.ModuleList(), nn.ModuleList()
        remaining, current = list(skips), widths[-1]
        for level in reversed(range(len(widths))):
            steps = nn.ModuleList()
            for _ in range(n_blocks + 1):
                steps.append(self._step(current + remaining.pop(), widths[level], level))
                current = widths[level]
            self.up.append(steps)
            if level:
                self.doubling.append(Double(current))

    def _step(self, in_channels: int, out_channels: int, level: int, *, attend: bool = False) -> "Step":
        """Build a residual block, with attention where the level or the caller asks for it."""
        stride = 2**level
        transformer = None
        if attend or stride in self.attention_strides:
            level_hw = (self.map_hw[0] // stride, self.map_hw[1] // stride)
            transformer = MapTransformer(
                out_channels, level_hw, self.context_dim, self._token_grid_hw, **self._attention
            )
        return Step(TimedResidual(in_channels, out_channels, **self._residual), transformer)

    def _plain(self, width: int) -> "Step":
        return Step(TimedResidual(width, width, **self._residual), None)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        """Predict.

        Args:
            x: Noisy maps `[n, 1, h, w]`, as the network is to see them (standardised if the training was).
            t: Steps of the noise schedule `[n]`, whole numbers or floats.
            tokens: `[n, s, context_dim]`; those of the scene come first.

        Returns:
            `[n, 1, h, w]`.

        Raises:
            ValueError: If an input has another shape.
        """
        self._check(x, t, tokens)
        time = self.time(t)
        features, skips = self._go_down(self.enter(x), time, tokens)
        for step in self.middle:
            features = step(features, time, tokens)
        features = self._go_up(features, skips, time, tokens)
        return self.leave(F.silu(self.leave_norm(features)))

    def _go_down(self, features: Tensor, time: Tensor, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features of the coarsest level, and all that is left for the way up."""
        skips = [features]
        for level, steps in enumerate(self.down):
            if self.overlays:
                features = self.overlays[level](features, tokens)
            for step in steps:  # pyright: ignore[reportGeneralTypeIssues]  a ModuleList
                features = step(features, time, tokens)
                skips.append(features)
            if level < len(self.halving):
                features = self.halving[level](features)
                skips.append(features)
        return features, skips

    def _go_up(self, features: Tensor, skips: list[Tensor], time: Tensor, tokens: Tensor) -> Tensor:
        """Return the features of the finest level."""
        for level, steps in enumerate(self.up):
            for step in steps:  # pyright: ignore[reportGeneralTypeIssues]  a ModuleList
                features = step(torch.cat([features, skips.pop()], dim=1), time, tokens)
            if level < len(self.doubling):
                features = self.doubling[level](features)
        return features

    def _check(self, x: Tensor, t: Tensor, tokens: Tensor) -> None:
        n = x.shape[0]  # len() would fix the batch of an export
        height, width = self.map_hw
        if x.shape != (n, 1, height, width) or t.shape != (n,):
            raise ValueError(
                f"Denoiser needs maps of shape [n, 1, {height}, {width}] and steps [n], got "
                f"{list(x.shape)} and {list(t.shape)}."
            )
        check_tokens("Denoiser", tokens, n, self.context_dim)


class Step(nn.Module):
    """Apply a residual block, and attention if there is any.

    Args:
        residual: The block.
        transformer: The attention, or None.
    """

    def __init__(self, residual: TimedResidual, transformer: MapTransformer | None) -> None:
        super().__init__()
        self.residual, self.transformer = residual, transformer

    def forward(self, features: Tensor, time: Tensor | None, tokens: Tensor) -> Tensor:
        """Map `[n, c, h, w]`, a time `[n, d]` and tokens `[n, s, e]` to `[n, out_channels, h, w]`."""
        features = self.residual(features, time)
        return features if self.transformer is None else self.transformer(features, tokens)


def check_tokens(network: str, tokens: Tensor, n: int, context_dim: int) -> None:
    """Check the shape of tokens.

    Raises:
        ValueError: It is another one than `[n, s, context_dim]`.
    """
    if tokens.ndim != 3 or tokens.shape[0] != n or tokens.shape[2] != context_dim:
        raise ValueError(
            f"{network} needs tokens of shape [{n}, s, {context_dim}], got {list(tokens.shape)}; repeat the "
            "conditioning for several samples of an image."
        )


def check_map(
    network: str,
    map_hw: int | tuple[int, int],
    base_width: int,
    multipliers: Sequence[int],
    attention_strides: Sequence[int],
) -> tuple[int, int]:
    """Check the sizes of a network that draws maps.

    Returns:
        Height and width of the map.

    Raises:
        ValueError: If a level is missing or has no whole number of pixels, or a width is no multiple of 4.
    """
    height, width = (map_hw, map_hw) if isinstance(map_hw, int) else (int(map_hw[0]), int(map_hw[1]))
    check_at_least(network, 1, levels=len(multipliers), smallest_multiplier=min(multipliers, default=0))
    coarsest = 2 ** (len(multipliers) - 1)
    if min(height, width) < 1 or height % coarsest or width % coarsest:
        raise ValueError(
            f"{network} needs a map_hw in multiples of {coarsest} (it has {len(multipliers)} levels), got "
            f"{height}x{width}."
        )
    if base_width < 4 or base_width % 4:
        raise ValueError(f"{network} needs a base_width that is a multiple of 4, got {base_width}.")
    levels = [2**level for level in range(len(multipliers))]
    unknown = [stride for stride in attention_strides if stride not in levels]
    if unknown:
        raise ValueError(
            f"{network} has levels of stride {', '.join(map(str, levels))}, got attention_strides "
            f"{', '.join(map(str, unknown))} beside them."
        )
    return height, width
