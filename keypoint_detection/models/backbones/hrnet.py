"""HRNet from timm: fine and coarse maps side by side through the whole network, pretrained if wanted."""

import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import SkipDecoder
from keypoint_detection.models.backbones.timm_encoder import create_encoder


@register_backbone(
    "HRNet",
    presets={
        "HRNet-W18": {"encoder": "hrnet_w18"},
        "HRNet-W32": {"encoder": "hrnet_w32"},
        "HRNet-W48": {"encoder": "hrnet_w48"},
    },
)
class HRNet(Backbone):
    """Keep four branches of the strides 4 to 32 that exchange features, and mix them all at stride 4.

    The representation is that of HRNetV2: all branches upsampled to stride 4, concatenated, and mixed by a
    1x1 convolution. Two things differ: upsampling is nearest-neighbour, as between HRNet's branches, and
    there is no ReLU at the end; the reason is told in `Backbone`. Below stride 4 blocks join the image, as in
    `SkipDecoder`.

    Source: Wang et al., Deep High-Resolution Representation Learning for Visual Recognition, 2020.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of an HRNet in timm, such as hrnet_w18_small, hrnet_w18, hrnet_w32 or hrnet_w48;
            `name.tag` chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "keeps fine detail all the way; known from pose; wants a GPU"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "hrnet_w32",
        output_stride: int = 4,
    ) -> None:
        check_at_least("HRNet", 1, n_channels_in=n_channels_in)
        check_output_stride("HRNet", output_stride, largest=4)
        made = create_encoder(
            "HRNet",
            encoder,
            n_channels_in,
            pretrained=pretrained,
            finest_stride=4,
            family="hrnet*",
            timm_arguments={"feature_location": ""},  # the branches, without the classifier's layers
        )
        width = sum(made.widths)
        decoder = SkipDecoder(
            [width], [4], n_channels_in, output_stride, bottom_width=width, fine_width=made.widths[0]
        )
        super().__init__(
            n_channels_in, decoder.out_channels, output_stride, made.strides[-1], **made.normalization
        )
        self.encoder = made.network
        self.decoder = decoder

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        finest, *coarser = self.encoder(image)
        upsampled = [
            F.interpolate(branch, scale_factor=2 ** (1 + index), mode="nearest")
            for index, branch in enumerate(coarser)
        ]
        return self.decoder([torch.cat([finest, *upsampled], dim=1)], image)
