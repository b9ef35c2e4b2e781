"""A U-Net with a MaxViT encoder from timm: convolutions, with attention over windows and the whole image."""

from typing import Any

from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import SkipDecoder
from keypoint_detection.models.backbones.timm_encoder import create_encoder


@register_backbone("MaxVitUnet", presets={"MaxVitPicoUnet": {"encoder": "maxvit_rmlp_pico_rw_256"}})
class MaxVitUnet(Backbone):
    """Encode by MaxViT (strides 2 to 32) and decode with skip connections.

    Attention cuts every map into windows and into a grid, both of as many cells as the map of stride 32 has
    in an image of the size that the encoder was made for. So heights and widths are multiples of that size
    (256 for the default), which images are padded to.

    Source: Tu et al., MaxViT: Multi-Axis Vision Transformer, 2022; the decoder is ours.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder.
        encoder: Name of a MaxViT in timm, such as maxvit_nano_rw_256, maxvit_rmlp_pico_rw_256 or
            maxvit_tiny_tf_224; the number at its end is what images are padded to a multiple of. `name.tag`
            chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.
        decoder_width: Channels of a light decoder, such as 32; 0: as many as the maps of the encoder have.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "pretrained attention, on a GPU; sides near multiples of 256"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "maxvit_nano_rw_256",
        output_stride: int = 1,
        decoder_width: int = 0,
    ) -> None:
        check_at_least("MaxVitUnet", 1, n_channels_in=n_channels_in)
        check_at_least("MaxVitUnet", 0, decoder_width=decoder_width)
        check_output_stride("MaxVitUnet", output_stride, largest=4)
        made = create_encoder("MaxVitUnet", encoder, n_channels_in, pretrained=pretrained, family="maxvit*")
        decoder = SkipDecoder(made.widths, made.strides, n_channels_in, output_stride, width=decoder_width)
        super().__init__(
            n_channels_in, decoder.out_channels, output_stride, made.image_side, **made.normalization
        )
        self.encoder = made.network
        self.decoder = decoder
        _adapt_attention(made.network)

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        return self.decoder(self.encoder(image), image)


def _adapt_attention(network: nn.Module) -> None:
    """Let attention convert to ONNX, and have no parameter that cannot learn.

    The MLPs of relative positions end by adding a constant to all logits of a head, which the softmax takes
    out again. It becomes a buffer of the same name, so that published weights still fit.
    """
    modules: list[tuple[str, Any]] = list(network.named_modules())
    for name, module in modules:
        if hasattr(module, "fused_attn"):
            module.fused_attn = False  # its conversion fails; the plain form computes the same
        if name.endswith("rel_pos.mlp.fc2") and module.bias is not None:
            constant = module.bias.detach()
            del module.bias
            module.register_buffer("bias", constant)
