"""Blocks that backbones share: convolutions, residuals, upsampling that joins a skip, decoders, heatmaps."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

INITIAL_LOGIT = -4.0
"""Bias of heatmap logits: every pixel starts with a probability of 0.018, as most pixels are background."""


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


class ResidualBlock(nn.Module):
    """Add two convolutions to their input; close to the identity at first, so that deep stacks learn well.

    Args:
        n_channels: Channels of input and output.
        kernel_size: Side of the kernels in pixels, odd.
        relu: Clip the sum at zero.
    """

    def __init__(self, n_channels: int, kernel_size: int = 3, *, relu: bool = True) -> None:
        super().__init__()
        self.relu = relu
        self.first = ConvBlock(n_channels, n_channels, kernel_size)
        self.second = ConvBlock(n_channels, n_channels, kernel_size, relu=False)
        # Not exactly 0, as is common: then the first convolution would get no gradient in the first step.
        nn.init.constant_(self.second.norm.weight, 0.1)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]` to the same shape."""
        total = self.second(self.first(features)) + features
        return F.relu_(total) if self.relu else total


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


class SkipDecoder(nn.Module):
    """Decode the feature maps of an encoder to a stride, from coarse to fine, with skip connections.

    Below the encoder's finest stride the skip connection is the image, its pixels folded into channels (2x2
    pixels of 3 channels become 12), so that nothing of it is lost. The last block ends without a ReLU; the
    reason is told in `Backbone`.

    Args:
        widths: Channels of the encoder's feature maps, from fine to coarse.
        strides: Their strides; each is twice the one before.
        image_channels: Channels of the image.
        output_stride: Stride of the result, at most `strides[-1]`. Feature maps finer than that are not used.
        bottom_width: Channels that the coarsest map is first mixed to by a 1x1 convolution; None leaves it.
        fine_width: Channels below the encoder's finest stride; None takes half the width of its finest map,
            16 at least.
        width: Channels that every feature map is first mixed to by a 1x1 convolution, for a light decoder; 0
            leaves them as wide as they are.

    Raises:
        ValueError: If the strides do not double.
    """

    def __init__(
        self,
        widths: Sequence[int],
        strides: Sequence[int],
        image_channels: int,
        output_stride: int,
        *,
        bottom_width: int | None = None,
        fine_width: int | None = None,
        width: int = 0,
    ) -> None:
        super().__init__()
        if any(coarse != 2 * fine for fine, coarse in pairwise(strides)):
            raise ValueError(f"a SkipDecoder needs strides that double, got {list(strides)}.")
        fine_strides = [2**level for level in range(10, -1, -1) if output_stride <= 2**level < strides[0]]
        used = [channels for channels, stride in zip(widths, strides, strict=True) if stride >= output_stride]
        narrowing = [ConvBlock(channels, width, 1) for channels in used] if width else []
        if width:
            used, bottom_width, fine_width = [width] * len(used), None, fine_width or width
        fine_width = fine_width or max(widths[0] // 2, 16)
        inputs = [*used[:-1], bottom_width or used[-1]]
        up_blocks = [UpBlock(coarse, skip, skip) for coarse, skip in pairwise(inputs[::-1])]
        fine_blocks = [
            UpBlock(fine_width if index else inputs[0], image_channels * stride**2, fine_width)
            for index, stride in enumerate(fine_strides)
        ]
        bottom_blocks = [ConvBlock(used[-1], bottom_width, 1)] if bottom_width else []
        blocks = [*narrowing[-1:], *bottom_blocks, *up_blocks, *fine_blocks]
        if blocks:
            blocks[-1].relu = False
        self.narrowing = nn.ModuleList(narrowing)
        self.bottom = bottom_blocks[0] if bottom_blocks else nn.Identity()
        self.up_blocks = nn.ModuleList(up_blocks)
        self.fine_blocks = nn.ModuleList(fine_blocks)
        self.fine_strides = fine_strides
        self.out_channels = fine_width if fine_blocks else inputs[0]

    def forward(self, pyramid: Sequence[Tensor], image: Tensor) -> Tensor:
        """Decode.

        Args:
            pyramid: `[n, c, h / s, w / s]` for each width c and stride s, from fine to coarse.
            image: `[n, image_channels, h, w]`.

        Returns:
            `[n, out_channels, h / output_stride, w / output_stride]`.
        """
        if self.narrowing:
            used = pyramid[len(pyramid) - len(self.narrowing) :]
            pyramid = [narrow(level) for narrow, level in zip(self.narrowing, used, strict=True)]
        features = self.bottom(pyramid[-1])
        for index, up_block in enumerate(self.up_blocks):
            features = up_block(features, pyramid[-2 - index])
        for stride, fine_block in zip(self.fine_strides, self.fine_blocks, strict=True):
            features = fine_block(features, F.pixel_unshuffle(image, stride))
        return features


class HeatmapConv(nn.Conv2d):
    """Predict heatmap logits by one convolution that starts near a low, constant probability.

    Args:
        in_channels: Channels of the features.
        n_heatmaps: Heatmaps.
        kernel_size: Side of the kernel in pixels, odd.
    """

    def __init__(self, in_channels: int, n_heatmaps: int, kernel_size: int = 3) -> None:
        super().__init__(in_channels, n_heatmaps, kernel_size, padding=kernel_size // 2)
        nn.init.normal_(self.weight, std=0.01)
        nn.init.constant_(self.bias, INITIAL_LOGIT)  # pyright: ignore[reportArgumentType]
