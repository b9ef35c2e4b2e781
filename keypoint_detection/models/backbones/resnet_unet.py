"""A U-Net with a ResNet encoder from timm: a common baseline, and able to start from ImageNet weights."""

from torch import Tensor

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import SkipDecoder
from keypoint_detection.models.backbones.timm_encoder import create_encoder


@register_backbone("ResNetUnet")
class ResNetUnet(Backbone):
    """Encode by ResNet (strides 2 to 32) and decode with skip connections.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016; skip connections after Ronneberger
    et al., U-Net, 2015.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of a ResNet in timm, such as resnet10t, resnet18, resnet34 or resnet50; `name.tag`
            chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.
        decoder_width: Channels of a light decoder, such as 32; 0: as many as the maps of the encoder have.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "pretrained and well understood; a common baseline"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "resnet18",
        output_stride: int = 1,
        decoder_width: int = 0,
    ) -> None:
        check_at_least("ResNetUnet", 1, n_channels_in=n_channels_in)
        check_at_least("ResNetUnet", 0, decoder_width=decoder_width)
        check_output_stride("ResNetUnet", output_stride, largest=4)
        made = create_encoder("ResNetUnet", encoder, n_channels_in, pretrained=pretrained, family="resnet*")
        decoder = SkipDecoder(made.widths, made.strides, n_channels_in, output_stride, width=decoder_width)
        super().__init__(
            n_channels_in, decoder.out_channels, output_stride, made.strides[-1], **made.normalization
        )
        self.encoder = made.network
        self.decoder = decoder

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        return self.decoder(self.encoder(image), image)
