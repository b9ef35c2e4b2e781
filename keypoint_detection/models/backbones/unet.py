"""A small residual U-Net of constant width: the default backbone, fast enough to train on a CPU."""

from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import ConvBlock, ResidualBlock, UpBlock


@register_backbone("Unet")
class Unet(Backbone):
    """Go down by max-pooling, through residual blocks at the bottom, and up again with skip connections.

    Max-pooling comes before the convolution of a level, so only the stem and the last upsampling block work
    at full resolution. With an output stride above 1 the upsampling stops early: blocks that are not needed
    do not exist, and the levels whose skip connections are not needed pool right after their convolution.

    Args:
        n_channels_in: Channels of the image.
        n_channels: Channels of every layer and of the features.
        n_resnet_blocks: Residual blocks at the bottom.
        n_downsampling_layers: How many times the size is halved; each one more doubles the context that a
            point is judged by.
        kernel_size: Side of all kernels in pixels, odd.
        output_stride: Image pixels per feature pixel: a power of two up to 2 ** n_downsampling_layers.

    Raises:
        ValueError: If an option is out of its range.
    """

    when_to_use = "the default: small, fast on a CPU, from random weights"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        n_channels: int = 32,
        n_resnet_blocks: int = 3,
        n_downsampling_layers: int = 2,
        kernel_size: int = 3,
        output_stride: int = 1,
    ) -> None:
        check_at_least("Unet", 1, n_channels_in=n_channels_in, n_channels=n_channels, kernel_size=kernel_size)
        check_at_least(
            "Unet", 0, n_resnet_blocks=n_resnet_blocks, n_downsampling_layers=n_downsampling_layers
        )
        if kernel_size % 2 == 0:
            raise ValueError(
                f"Unet needs an odd kernel_size, got {kernel_size}; use --kernel_size {kernel_size + 1}."
            )
        check_output_stride("Unet", output_stride, largest=2**n_downsampling_layers)
        super().__init__(n_channels_in, n_channels, output_stride, size_multiple=2**n_downsampling_layers)
        self.output_level = output_stride.bit_length() - 1
        widths = [n_channels_in] + [n_channels] * n_downsampling_layers
        down_blocks = [
            ConvBlock(width, n_channels, kernel_size, pool=level < self.output_level)
            for level, width in enumerate(widths)
        ]
        residual_blocks = [ResidualBlock(n_channels, kernel_size) for _ in range(n_resnet_blocks)]
        up_blocks = [
            UpBlock(n_channels, n_channels, n_channels, kernel_size)
            for _ in range(self.output_level, n_downsampling_layers)
        ]
        [*down_blocks, *residual_blocks, *up_blocks][-1].relu = False  # the reason is told in Backbone
        self.down_blocks = nn.ModuleList(down_blocks)
        self.residual_blocks = nn.Sequential(*residual_blocks)
        self.up_blocks = nn.ModuleList(up_blocks)

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h / output_stride, w / output_stride]`."""
        features, skips = image, []
        for level, down_block in enumerate(self.down_blocks):
            if level > self.output_level:
                skips.append(features)
                features = F.max_pool2d(features, 2)
            features = down_block(features)
        features = self.residual_blocks(features)
        for up_block in self.up_blocks:
            features = up_block(features, skips.pop())
        return features
