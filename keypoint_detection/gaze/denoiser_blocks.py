"""The blocks of the denoiser: time embedding, residual blocks, and steps between sizes of a map."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_GROUPS = 8
"""Groups of a normalisation; fewer where a group would hold a single channel."""

LONGEST_PERIOD = 10000.0
"""In steps of the noise schedule."""


def group_norm(n_channels: int) -> nn.GroupNorm:
    """Normalise in up to 8 groups of at least two channels.

    A group of one channel would take away whatever is added to the channel as a whole, such as a bias, or the
    time embedding where it is added.
    """
    largest = max(1, min(MOST_GROUPS, n_channels // 2))
    groups = next(groups for groups in range(largest, 0, -1) if n_channels % groups == 0)
    return nn.GroupNorm(groups, n_channels)


class TimeEmbedding(nn.Module):
    """Embed the step of the noise schedule.

    Args:
        width: Sines and cosines together, an even number.
        out_width: Channels of the embedding.

    Source: Ho et al., Denoising Diffusion Probabilistic Models, 2020, appendix B.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.width = width
        self.first = nn.Linear(width, out_width)
        self.second = nn.Linear(out_width, out_width)

    def forward(self, t: Tensor) -> Tensor:
        """Map steps `[n]`, whole numbers or floats, to `[n, out_width]`."""
        half = self.width // 2
        steps = torch.arange(half, device=t.device, dtype=torch.float32)
        angles = t.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) / half * steps)
        return self.second(F.silu(self.first(torch.cat([angles.cos(), angles.sin()], dim=1))))


class TimedResidual(nn.Module):
    """Add two convolutions, told about the time, to the input, or to its projection where the widths differ.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        time_width: Channels of the time embedding; 0: there is none.
        dropout: Probability of leaving out a value in training.
        scale_shift: Let the time scale and shift the normalised features; False: add it before.

    Source: Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, 2021, section 3.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        time_width: int = 0,
        *,
        dropout: float = 0.0,
        scale_shift: bool = True,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.first_norm = group_norm(in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        n_numbers = 2 * out_channels if scale_shift else out_channels
        self.time = nn.Linear(time_width, n_numbers) if time_width else None
        self.second_norm = group_norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        with torch.no_grad():
            self.second.weight.mul_(0.1)  # close to the skip at first, but not 0: all learn at once

    def forward(self, features: Tensor, time: Tensor | None = None) -> Tensor:
        """Map `[n, in_channels, h, w]`, and a time `[n, time_width]`, to `[n, out_channels, h, w]`."""
        hidden = self.first(F.silu(self.first_norm(features)))
        if self.time is None or time is None:
            hidden = self.second_norm(hidden)
        elif self.scale_shift:
            scale, shift = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
            hidden = self.second_norm(hidden) * (1 + scale) + shift
        else:
            hidden = self.second_norm(hidden + self.time(F.silu(time))[:, :, None, None])
        return self.skip(features) + self.second(self.dropout(F.silu(hidden)))


class Halve(nn.Module):
    """Halve height and width by averaging 2x2 pixels, which is symmetric about pixel centres, and mix."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]` to `[n, n_channels, h / 2, w / 2]`."""
        return self.conv(F.avg_pool2d(features, 2))


class Double(nn.Module):
    """Double height and width by repeating pixels, and mix."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(n_channels, n_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]` to `[n, n_channels, 2 h, 2 w]`."""
        return self.conv(F.interpolate(features, scale_factor=2, mode="nearest"))
