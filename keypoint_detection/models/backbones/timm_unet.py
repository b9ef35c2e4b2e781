"""A U-Net with any encoder from timm that gives feature maps: for what has no backbone of its own here."""

from torch import Tensor

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import SkipDecoder
from keypoint_detection.models.backbones.timm_encoder import check_pyramid, create_encoder


@register_backbone("TimmUnet")
class TimmUnet(Backbone):
    """Encode by any network from timm whose maps halve step by step, and decode with skip connections.

    Source: Wightman, PyTorch Image Models, 2019, for the encoders; skip connections after Ronneberger et al.,
    U-Net, 2015.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of an encoder in timm, such as efficientnet_b0, regnety_004 or fastvit_t8, that takes
            images of any size; `name.tag` chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.
        decoder_width: Channels of a light decoder, such as 32; 0: as many as the maps of the encoder have.

    Raises:
        ValueError: If an option is out of its range, timm has no such encoder, its maps do not halve step by
            step, or it takes images of one size only.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "any other convolutional encoder of timm, to try it out"
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
        check_at_least("TimmUnet", 1, n_channels_in=n_channels_in)
        check_at_least("TimmUnet", 0, decoder_width=decoder_width)
        check_output_stride("TimmUnet", output_stride, largest=4)
        check_pyramid("TimmUnet", encoder)
        made = create_encoder(
            "TimmUnet", encoder, n_channels_in, pretrained=pretrained, finest_stride=output_stride
        )
        decoder = SkipDecoder(made.widths, made.strides, n_channels_in, output_stride, width=decoder_width)
        super().__init__(
            n_channels_in, decoder.out_channels, output_stride, made.strides[-1], **made.normalization
        )
        self.encoder = made.network
        self.decoder = decoder

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        return self.decoder(self.encoder(image), image)
