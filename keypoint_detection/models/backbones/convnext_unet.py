"""A U-Net with a ConvNeXt encoder from timm: larger than `Unet`, and able to start from ImageNet weights."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import UpBlock
from keypoint_detection.registry import nearest_name

if TYPE_CHECKING:
    from timm.models import PretrainedCfg

ENCODER_STRIDES = (4, 8, 16, 32)


@register_backbone("ConvNeXtUnet")
class ConvNeXtUnet(Backbone):
    """Encode by ConvNeXt (strides 4 to 32) and decode with skip connections.

    Below the encoder's stride of 4 the skip connection is the image, its pixels folded into channels (2x2
    pixels of 3 channels become 12), so that nothing of it is lost.

    Args:
        n_channels_in: Channels of the image.
        pretrained: Start from timm's weights for the encoder: from the file that `pretrained_file` names if
            it exists, else from the model hub.
        encoder: Name of a ConvNeXt in timm, such as convnext_atto, convnext_femto, convnext_nano,
            convnext_tiny or convnextv2_femto; `name.tag` chooses among its weights.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.

    Raises:
        ValueError: If an option is out of its range, or timm has no such encoder.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable; the message says where
            to put them.
    """

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        pretrained: bool = False,
        encoder: str = "convnext_femto",
        output_stride: int = 1,
    ) -> None:
        check_at_least("ConvNeXtUnet", 1, n_channels_in=n_channels_in)
        check_output_stride("ConvNeXtUnet", output_stride, largest=ENCODER_STRIDES[0])
        configuration = encoder_configuration(encoder)
        network, widths = _create_encoder(encoder, configuration, n_channels_in, pretrained)
        is_rgb = n_channels_in == len(configuration.mean)
        fine_strides = [stride for stride in (2, 1) if stride >= output_stride]
        fine_width = max(widths[0] // 2, 16)
        super().__init__(
            n_channels_in,
            fine_width if fine_strides else widths[0],
            output_stride,
            size_multiple=ENCODER_STRIDES[-1],
            image_mean=configuration.mean if is_rgb else None,
            image_std=configuration.std if is_rgb else None,
        )
        up_blocks = [UpBlock(width, skip, skip) for width, skip in pairwise(widths[::-1])]
        fine_blocks = [
            UpBlock(widths[0] if stride == 2 else fine_width, n_channels_in * stride**2, fine_width)
            for stride in fine_strides
        ]
        [*up_blocks, *fine_blocks][-1].relu = False  # the reason is told in Backbone
        self.encoder = network
        self.up_blocks = nn.ModuleList(up_blocks)
        self.fine_blocks = nn.ModuleList(fine_blocks)
        self.fine_strides = fine_strides

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, out_channels, h / output_stride, w / output_stride]`."""
        *skips, features = self.encoder(image)
        for up_block in self.up_blocks:
            features = up_block(features, skips.pop())
        for stride, fine_block in zip(self.fine_strides, self.fine_blocks, strict=True):
            features = fine_block(features, F.pixel_unshuffle(image, stride))
        return features


def encoder_configuration(encoder: str) -> "PretrainedCfg":
    """Return timm's description of an encoder's weights: where they are, and the normalisation they expect.

    Args:
        encoder: Name of a ConvNeXt in timm, optionally with the tag of its weights (`name.tag`).

    Raises:
        ValueError: If timm has no such ConvNeXt or no such tag.
    """
    import timm

    architecture, _, tag = encoder.partition(".")
    known = timm.list_models("convnext*")
    if architecture not in known:
        raise ValueError(
            f"ConvNeXtUnet has no encoder {encoder!r}; known: {', '.join(known)}."
            f"{nearest_name(architecture, known)}"
        )
    configuration = timm.get_pretrained_cfg(architecture)
    known_tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{architecture}.*")]
    if tag:
        if tag not in known_tags:
            raise ValueError(
                f"encoder {architecture!r} has no weights {tag!r}; known: {', '.join(known_tags) or 'none'}."
                f"{nearest_name(tag, known_tags)}"
            )
        configuration = timm.get_pretrained_cfg(encoder)
    assert configuration is not None
    return configuration


def pretrained_file(encoder: str) -> Path:
    """Return the file that an encoder's weights are read from if it exists, before the model hub is asked."""
    configuration = encoder_configuration(encoder)
    name = f"{configuration.architecture}.{configuration.tag}.safetensors"
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _create_encoder(
    encoder: str, configuration: "PretrainedCfg", n_channels_in: int, pretrained: bool
) -> tuple[nn.Module, list[int]]:
    """Return the encoder, which gives a list of four feature maps, and the channels of each."""
    import timm

    weights_file = pretrained_file(encoder)
    local_weights = {"file": str(weights_file)} if pretrained and weights_file.is_file() else None
    try:
        network = timm.create_model(
            encoder,
            pretrained=pretrained,
            features_only=True,
            in_chans=n_channels_in,
            pretrained_cfg_overlay=local_weights,
        )
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise FileNotFoundError(
            f"no pretrained weights of encoder {encoder!r}: downloading model.safetensors of "
            f"https://huggingface.co/{configuration.hf_hub_id} failed ({type(error).__name__}); save it as "
            f"{weights_file}, or train without --pretrained."
        ) from error
    return network, network.feature_info.channels()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
