"""A U-Net with a MobileNetV3 encoder from timm: light, and able to start from ImageNet weights."""

from torch import Tensor

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import SkipDecoder
from keypoint_detection.models.backbones.timm_encoder import create_encoder


@register_backbone("MobileNetV3")
class MobileNetV3(Backbone):
    """Encode by MobileNetV3 (strides 2 to 32) and decode with skip connections.

    The encoder's last map is several times wider than the one before (960 channels, then 112), so a 1x1
    convolution narrows it first; otherwise half of all parameters would sit in the first decoder block.

    Source: Howard et al., Searching for MobileNetV3, 2019; the decoder is ours.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of a MobileNetV3 in timm, such as mobilenetv3_large_100 or mobilenetv3_small_100;
            `name.tag` chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.
        decoder_width: Channels of a light decoder, such as 32; 0: as many as the maps of the encoder have.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "pretrained and light: training and inference on a CPU"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "mobilenetv3_large_100",
        output_stride: int = 1,
        decoder_width: int = 0,
    ) -> None:
        check_at_least("MobileNetV3", 1, n_channels_in=n_channels_in)
        check_at_least("MobileNetV3", 0, decoder_width=decoder_width)
        check_output_stride("MobileNetV3", output_stride, largest=4)
        made = create_encoder(
            "MobileNetV3", encoder, n_channels_in, pretrained=pretrained, family="mobilenetv3*"
        )
        decoder = SkipDecoder(
            made.widths, made.strides, n_channels_in, output_stride, bottom_width=128, width=decoder_width
        )
        super().__init__(
            n_channels_in, decoder.out_channels, output_stride, made.strides[-1], **made.normalization
        )
        self.encoder = made.network
        self.decoder = decoder

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        return self.decoder(self.encoder(image), image)
