"""Simple Baselines: a ResNet from timm and three deconvolutions, the plainest of the known pose networks."""

import math
from itertools import pairwise

from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm
from keypoint_detection.models.backbones.timm_encoder import create_encoder


def deconvolution(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """Return a layer that doubles the size, by a 4x4 kernel that lies symmetrically about pixel centres."""
    layer = nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1, bias=False)
    # Each output pixel sums 2x2 taps of every input channel: He et al.'s deviation for what goes in.
    nn.init.normal_(layer.weight, std=math.sqrt(2 / (4 * in_channels)))
    return layer


@register_backbone("ResNetDeconv")
class ResNetDeconv(Backbone):
    """Encode by ResNet to stride 32, and return to stride 4 by three deconvolutions without skip connections.

    As in the paper, but for the ReLU after the last deconvolution; the reason is told in `Backbone`.

    Source: Xiao et al., Simple Baselines for Human Pose Estimation and Tracking, 2018.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of a ResNet in timm, such as resnet18, resnet50, resnet101 or resnet152; `name.tag`
            chooses among its weights.
        n_channels: Channels of every deconvolution and of the features.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "the published baseline of pose estimation, to compare with"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "resnet50",
        n_channels: int = 256,
    ) -> None:
        check_at_least("ResNetDeconv", 1, n_channels_in=n_channels_in, n_channels=n_channels)
        made = create_encoder(
            "ResNetDeconv",
            encoder,
            n_channels_in,
            pretrained=pretrained,
            finest_stride=32,
            family="resnet*",
        )
        super().__init__(n_channels_in, n_channels, 4, made.strides[-1], **made.normalization)
        widths = [made.widths[-1]] + [n_channels] * 3
        layers = [
            layer
            for width, next_width in pairwise(widths)
            for layer in (deconvolution(width, next_width), BatchNorm(next_width), nn.ReLU(inplace=True))
        ]
        self.encoder = made.network
        self.deconvolutions = nn.Sequential(*layers[:-1])

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h / 4, w / 4]`."""
        return self.deconvolutions(self.encoder(image)[-1])
