"""A small encoder-decoder with two skip connections, known from self-supervised semantic keypoints (S3K)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import ConvBlock, ResidualBlock

WIDTHS = (3, 16, 32)
"""Channels at full, half and quarter resolution."""


class DoubleBlock(nn.Module):
    """Double the size, smooth by a convolution, join the features of that size, and mix by another one.

    Args:
        n_channels: Channels of input and output.
        skip_channels: Channels of the features that join.
    """

    def __init__(self, n_channels: int, skip_channels: int) -> None:
        super().__init__()
        self.smooth = ConvBlock(n_channels, n_channels)
        self.mix = ConvBlock(n_channels + skip_channels, n_channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]` and `[n, skip_channels, 2h, 2w]` to `[n, n_channels, 2h, 2w]`."""
        features = self.smooth(F.interpolate(features, scale_factor=2, mode="nearest"))
        return self.mix(torch.cat([features, skip], dim=1))


@register_backbone("S3K")
class S3K(Backbone):
    """Narrow to a quarter of the size, through three residual blocks, and widen again with skip connections.

    The published network halves by strided 3x3 and doubles by transposed convolutions, neither of which is
    symmetric about pixel centres; here max-pooling and nearest-neighbour upsampling take their places, with
    as many parameters.

    Source: Vecerik et al., S3K: Self-Supervised Semantic Keypoints for Robotic Manipulation via Multi-View
    Consistency, 2020.

    Args:
        n_channels_in: Channels of the image.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.

    Raises:
        ValueError: If an option is out of its range.
    """

    when_to_use = "small objects on one scene; a light alternative to Unet"

    def __init__(self, *, n_channels_in: int = 3, output_stride: int = 1) -> None:
        check_at_least("S3K", 1, n_channels_in=n_channels_in)
        check_output_stride("S3K", output_stride, largest=4)
        fine, middle, coarse = WIDTHS
        super().__init__(n_channels_in, coarse, output_stride, size_multiple=4)
        self.stem = ConvBlock(n_channels_in, fine)
        self.down_blocks = nn.ModuleList(
            [ConvBlock(fine, middle, pool=True), ConvBlock(middle, coarse, pool=True)]
        )
        self.residual_blocks = nn.Sequential(*[ResidualBlock(coarse) for _ in range(3)])
        self.bottom = ConvBlock(coarse, coarse)
        skips = [width for width, stride in ((middle, 2), (fine, 1)) if stride >= output_stride]
        up_blocks = [DoubleBlock(coarse, width) for width in skips]
        last = up_blocks[-1].mix if up_blocks else self.bottom
        last.relu = False  # the reason is told in Backbone
        self.up_blocks = nn.ModuleList(up_blocks)

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, 32, h / output_stride, w / output_stride]`."""
        features, skips = self.stem(image), []
        for down_block in self.down_blocks:
            skips.append(features)
            features = down_block(features)
        features = self.bottom(self.residual_blocks(features))
        for up_block in self.up_blocks:
            features = up_block(features, skips.pop())
        return features
