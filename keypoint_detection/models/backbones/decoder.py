"""Blocks that the U-shaped backbones share: a convolution block, and one that upsamples and joins a skip."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class BatchNorm(nn.BatchNorm2d):
    """Normalise by batch statistics, or by the running ones where a batch holds a single value per channel.

    One small image at the bottom of a deep U-Net is a single pixel, which has no variance; PyTorch's layer
    refuses it.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[n, c, h, w]`."""
        if self.training and input.shape[0] * input.shape[2] * input.shape[3] == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(input)


class ConvBlock(nn.Module):
    """Apply convolution, batch normalisation and, by default, ReLU; optionally halve the size by max-pooling.

    Pooling comes right after the convolution, so that what follows runs on a quarter of the pixels. The
    window of 2x2 pixels lies symmetrically about the centre of the new pixel, as `u = (x + 0.5) / 2 - 0.5`
    asks.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel in pixels, odd.
        pool: Halve height and width, which must be even.
        relu: Clip the output at zero.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        pool: bool = False,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm(out_channels)
        self.pool = pool
        self.relu = relu
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h, w]`, or to half that size with pooling."""
        if self.pool:
            features = self.norm(F.max_pool2d(self.conv(features), 2))
        elif self.training:
            features = self.norm(self.conv(features))
        else:
            features = self._folded(features)
        return F.relu_(features) if self.relu else features

    def _folded(self, features: Tensor) -> Tensor:
        """Apply convolution and normalisation as one convolution: one pass less over a full-size map."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        weight = self.conv.weight * scale[:, None, None, None]
        return F.conv2d(features, weight, norm.bias - norm.running_mean * scale, padding=self.conv.padding)


class UpBlock(ConvBlock):
    """Double the size, join the features of that size (the skip connection), and mix both by a `ConvBlock`.

    Upsampling is nearest-neighbour: every pixel becomes 2x2 equal ones, symmetric about its centre,
    deterministic on every device, and smoothed by the convolution that follows.

    Args:
        in_channels: Channels of the input.
        skip_channels: Channels of the skip connection.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel in pixels, odd.
    """

    def __init__(self, in_channels: int, skip_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(in_channels + skip_channels, out_channels, kernel_size)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Map `[n, in_channels, h, w]` and `[n, skip_channels, 2h, 2w]` to `[n, out_channels, 2h, 2w]`."""
        upsampled = F.interpolate(features, scale_factor=2, mode="nearest")
        return super().forward(torch.cat([upsampled, skip], dim=1))
