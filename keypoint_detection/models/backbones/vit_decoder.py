"""Light decoders that turn the patch tokens of a plain Vision Transformer into finer features."""

from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.decoder import BatchNorm, ConvBlock


class BilinearDecoder(nn.Module):
    """Reduce the channels, resize bilinearly to the output stride, and convolve after each resize.

    All maps cover the whole image, so a resize between strides whose ratio is no whole number, such as 14 to
    4, keeps every point in its place. The last convolution ends without a ReLU; the reason is told in
    `Backbone`. One resize is followed by a ReLU and one more convolution, of 1x1: without them everything
    after the tokens would be linear, and maps could only peak near the centres of patches.

    Source: the simple decoder of Xu et al., ViTPose, 2022; the second convolution is ours.

    Args:
        in_channels: Channels of the tokens.
        n_channels: Channels of every layer and of the result.
        patch_size: Stride of the tokens.
        output_stride: Stride of the result; `patch_size` divided by it may be any number from 1 on.
        progressive: Double the size step by step with a convolution in between, instead of one resize.
    """

    def __init__(
        self,
        in_channels: int,
        n_channels: int,
        patch_size: int,
        output_stride: int,
        *,
        progressive: bool = False,
    ) -> None:
        super().__init__()
        n_resizes = max(1, (-(-patch_size // output_stride) - 1).bit_length()) if progressive else 1
        self.patch_size = patch_size
        self.output_stride = output_stride
        self.reduce = ConvBlock(in_channels, n_channels, 1)
        self.blocks = nn.ModuleList(
            ConvBlock(n_channels, n_channels, relu=left > 0 or not progressive)
            for left in reversed(range(n_resizes))
        )
        self.last = nn.Identity() if progressive else ConvBlock(n_channels, n_channels, 1, relu=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, in_channels, h / patch, w / patch]` to `[n, n_channels, h / stride, w / stride]`."""
        sides = features.shape[-2:]
        sizes = [[side * 2**step for side in sides] for step in range(1, len(self.blocks))]
        sizes.append([side * self.patch_size // self.output_stride for side in sides])
        features = self.reduce(features)
        for block, size in zip(self.blocks, sizes, strict=True):
            features = block(F.interpolate(features, size, mode="bilinear", align_corners=False))
        return self.last(features)


def deconvolutions(in_channels: int, n_channels: int, n_doublings: int) -> nn.Sequential:
    """Build the classic decoder: deconvolutions 4x4 of stride 2, normalised, with a ReLU between them.

    Without a doubling it is a 1x1 convolution. It ends without a ReLU; the reason is told in `Backbone`.

    Source: Xiao et al., Simple Baselines for Human Pose Estimation and Tracking, 2018.

    Args:
        in_channels: Channels of the tokens.
        n_channels: Channels of every layer and of the result.
        n_doublings: How many times height and width are doubled.

    Returns:
        A module that maps `[n, in_channels, h, w]` to `[n, n_channels, h * 2**n_doublings, w * ...]`.
    """
    if n_doublings == 0:
        return nn.Sequential(ConvBlock(in_channels, n_channels, 1, relu=False))
    layers: list[nn.Module] = []
    for step in range(n_doublings):
        width = n_channels if step else in_channels
        deconvolution = nn.ConvTranspose2d(width, n_channels, 4, stride=2, padding=1, bias=False)
        layers += [deconvolution, BatchNorm(n_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])
