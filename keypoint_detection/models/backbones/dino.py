"""DINOv2 and DINOv3: self-supervised Vision Transformers whose features suit keypoints even when frozen."""

import math
import re
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.timm_encoder import (
    encoder_configuration,
    load_network,
    normalization,
)
from keypoint_detection.models.backbones.vit_decoder import BilinearDecoder
from keypoint_detection.models.backbones.vit_positions import embed_image

if TYPE_CHECKING:
    from timm.models import Eva, VisionTransformer

N_LAST_BLOCKS = 4
"""Blocks whose tokens the decoder sees, the last ones of the encoder."""


@register_backbone("DinoV2Up")
class DinoV2Up(Backbone):
    """Join the patch tokens of the last four blocks of a DINO encoder and upsample them step by step.

    Made for `--pretrained --freeze_backbone`, where only the decoder learns. All four go through the final
    norm of the encoder. DINOv2's position embeddings are resampled to the grid of the image; DINOv3 computes
    them for any grid. For direct regression there is no decoder: the features are the class token.

    Source: Oquab et al., DINOv2, 2023 (four last blocks as in its linear segmentation); Siméoni et al.,
    DINOv3, 2025.

    Args:
        n_channels_in: Channels of the image.
        encoder: Name of a DINOv2 or DINOv3 in timm, such as vit_small_patch14_dinov2,
            vit_base_patch14_reg4_dinov2 or vit_small_patch16_dinov3; `name.tag` chooses among its weights.
        pretrained: Start from timm's weights for the encoder; without them it has nothing of DINO.
        n_channels: Channels of the decoder and of the features.
        output_stride: Image pixels per feature pixel: a power of two up to the side of a patch.
        class_token: Give the class token `[n, width, 1, 1]` instead of a map, for direct regression.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    when_to_use = "few labels: frozen self-supervised features, a small decoder"
    pretrained_sources = "timm"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        encoder: str = "vit_small_patch14_dinov2",
        pretrained: bool = False,
        n_channels: int = 128,
        output_stride: int = 4,
        class_token: bool = False,
    ) -> None:
        check_at_least("DinoV2Up", 1, n_channels_in=n_channels_in, n_channels=n_channels)
        configuration = encoder_configuration("DinoV2Up", encoder, "vit_*_patch*_dinov[23]*")
        patch = int(re.findall(r"_patch(\d+)_", encoder)[0])
        check_output_stride("DinoV2Up", output_stride, largest=patch)
        arguments = {"in_chans": n_channels_in, "num_classes": 0, "dynamic_img_size": True}
        network: Any = load_network(encoder, configuration, pretrained, **arguments)
        stride = patch if class_token else output_stride
        super().__init__(
            n_channels_in,
            network.embed_dim if class_token else n_channels,
            stride,
            math.lcm(patch, stride),
            **normalization(configuration, n_channels_in),
        )
        self.patch_size = patch
        self.has_rotary_positions = "dinov3" in encoder
        self.encoder: VisionTransformer | Eva = network
        self.decoder: BilinearDecoder | None = None
        if not class_token:
            width = N_LAST_BLOCKS * network.embed_dim
            self.decoder = BilinearDecoder(width, n_channels, patch, stride, progressive=True)

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h / output_stride, w / output_stride]`, or the class token."""
        layers = self._last_tokens(image)
        if self.decoder is None:
            return layers[-1][:, 0, :, None, None]
        grid_hw = [side // self.patch_size for side in image.shape[-2:]]
        n_prefix = self.encoder.num_prefix_tokens
        maps = [tokens[:, n_prefix:].transpose(1, 2).unflatten(2, grid_hw) for tokens in layers]
        return self.decoder(torch.cat(maps, dim=1))

    def _last_tokens(self, image: Tensor) -> list[Tensor]:
        """Return the tokens of the last blocks after the final norm, each `[n, prefix + patches, width]`."""
        if self.has_rotary_positions:
            layers: Any = self.encoder.forward_intermediates(
                image,
                N_LAST_BLOCKS,
                return_prefix_tokens=True,
                norm=True,
                output_fmt="NLC",
                intermediates_only=True,
            )
            return [torch.cat([prefix, patches], dim=1) for patches, prefix in layers]
        encoder = cast("VisionTransformer", self.encoder)
        tokens, kept = embed_image(encoder, image), []
        first = len(encoder.blocks) - N_LAST_BLOCKS
        for index, block in enumerate(encoder.blocks):
            tokens = block(tokens)
            if index >= first:
                kept.append(encoder.norm(tokens))
        return kept
