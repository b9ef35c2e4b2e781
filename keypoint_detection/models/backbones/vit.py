"""Plain Vision Transformers: tokens of one stride, and a light decoder to the stride of the heatmaps."""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.timm_encoder import (
    encoder_configuration,
    load_network,
    normalization,
)
from keypoint_detection.models.backbones.vit_decoder import BilinearDecoder, deconvolutions
from keypoint_detection.models.backbones.vit_positions import embed_image
from keypoint_detection.models.backbones.vit_sizes import check_google_file, load_google_weights
from keypoint_detection.registry import nearest_name

if TYPE_CHECKING:
    from timm.models import PretrainedCfg, VisionTransformer

NAMES_IN_TIMM = {
    "ViT-Ti_16": "vit_tiny_patch16_224",
    "ViT-S_16": "vit_small_patch16_224",
    "ViT-B_16": "vit_base_patch16_224",
    "ViT-B_32": "vit_base_patch32_224",
    "ViT-L_16": "vit_large_patch16_224",
    "ViT-L_32": "vit_large_patch32_224",
    "ViT-H_14": "vit_huge_patch14_224",
    "R50-ViT-B_16": "vit_base_r50_s16_224",
}
"""The names of the original publication -> timm's."""

DECODERS = ("bilinear", "deconv")
_PLAIN = re.compile(r"vit_[a-z]+_(?:patch|r\d+_s)(\d+)_\d+")


@register_backbone("ViT", presets={name: {"encoder": name} for name in NAMES_IN_TIMM})
class ViT(Backbone):
    """Cut the image into patches, let all of them attend to all, and decode the patch tokens.

    The position embeddings are resampled to the grid of the image, so any size works. For direct regression
    there is no decoder: the features are the class token.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; the decoders of Xu et al., ViTPose, 2022.

    Args:
        n_channels_in: Channels of the image.
        encoder: Size and side of a patch in pixels, ViT-Ti_16, ViT-S_16, ViT-B_16, ViT-B_32, ViT-L_16,
            ViT-L_32, ViT-H_14, or R50-ViT-B_16 with tokens made by a ResNet-50, or the name of a plain ViT in
            timm such as vit_base_patch16_384; `name.tag` chooses among its weights.
        pretrained: Start from timm's weights for the encoder.
        pretrained_dir: File of weights in Google's original layout (.npz) to start from; empty for none. A
            relative path starts in the working directory.
        decoder: bilinear (one resize, any stride) or deconv (doubles the size by deconvolutions).
        n_channels: Channels of the decoder and of the features.
        output_stride: Image pixels per feature pixel: a power of two up to the side of a patch.
        drop_path: Probability in [0, 1) that the last block is skipped in training, falling to 0 at the first
            one (stochastic depth).
        class_token: Give the class token `[n, width, 1, 1]` instead of a map, for direct regression.

    Raises:
        ValueError: If an option is out of its range, timm has no such encoder, or the file of weights has
            another layout or size.
        FileNotFoundError: If weights are neither on disk nor downloadable; the message says where to
            put them.
    """

    when_to_use = "sees the whole image at once; start it from pretrained weights"
    pretrained_sources = "timm, Google .npz"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        encoder: str = "ViT-B_16",
        pretrained: bool = False,
        pretrained_dir: str = "",
        decoder: str = "bilinear",
        n_channels: int = 256,
        output_stride: int = 4,
        drop_path: float = 0.0,
        class_token: bool = False,
    ) -> None:
        check_at_least("ViT", 1, n_channels_in=n_channels_in, n_channels=n_channels)
        _check_drop_path(drop_path)
        name, patch = _name_and_patch(encoder)
        _check_decoder(decoder, patch, output_stride)
        configuration = encoder_configuration("ViT", name, "vit_*")
        _check_weights(encoder, configuration, pretrained, pretrained_dir)
        arguments = {"in_chans": n_channels_in, "drop_path_rate": drop_path}
        network: Any = load_network(
            name, configuration, pretrained, num_classes=0, dynamic_img_size=True, **arguments
        )
        if not pretrained:
            _let_residual_branches_learn(network)
        if pretrained_dir:
            load_google_weights(network, Path(pretrained_dir), encoder)
        width, stride = network.embed_dim, patch if class_token else output_stride
        super().__init__(
            n_channels_in,
            width if class_token else n_channels,
            stride,
            math.lcm(patch, stride),
            **_normalization(configuration, n_channels_in),
        )
        self.patch_size = patch
        self.encoder: VisionTransformer = network
        self.decoder = None if class_token else _build_decoder(decoder, width, n_channels, patch, stride)

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h / output_stride, w / output_stride]`, or the class token."""
        encoder = self.encoder
        tokens = encoder.norm(encoder.blocks(embed_image(encoder, image)))
        if self.decoder is None:
            return tokens[:, 0, :, None, None]
        grid_hw = [side // self.patch_size for side in image.shape[-2:]]
        patches = tokens[:, encoder.num_prefix_tokens :]
        return self.decoder(patches.transpose(1, 2).unflatten(2, grid_hw))


def _name_and_patch(encoder: str) -> tuple[str, int]:
    """Return timm's name of an encoder, with the tag if there is one, and the stride of its tokens."""
    import timm

    name, dot, tag = encoder.partition(".")
    architecture = NAMES_IN_TIMM.get(name, name)
    match = _PLAIN.fullmatch(architecture)
    known = [other for other in timm.list_models("vit_*") if _PLAIN.fullmatch(other)]
    if match is None or architecture not in known:
        raise ValueError(
            f"ViT has no encoder {encoder!r}; known: {', '.join(NAMES_IN_TIMM)}, and of timm "
            f"{', '.join(known)}.{nearest_name(name, [*NAMES_IN_TIMM, *known])}"
        )
    return architecture + dot + tag, int(match[1])


def _check_drop_path(drop_path: float) -> None:
    if not 0 <= drop_path < 1:
        raise ValueError(f"ViT needs a drop_path in [0, 1), got {drop_path}; 0.1 is a usual value.")


def _check_decoder(decoder: str, patch: int, output_stride: int) -> None:
    if decoder not in DECODERS:
        raise ValueError(
            f"ViT needs a decoder of {', '.join(DECODERS)}, got {decoder!r}.{nearest_name(decoder, DECODERS)}"
        )
    check_output_stride("ViT", output_stride, largest=patch)
    if decoder == "deconv" and (patch % output_stride or (patch // output_stride).bit_count() != 1):
        raise ValueError(
            f"ViT needs the decoder bilinear for patches of {patch} pixels and an output_stride of "
            f"{output_stride}, got deconv, which can only double sizes; use --decoder bilinear."
        )


def _build_decoder(decoder: str, width: int, n_channels: int, patch: int, output_stride: int) -> nn.Module:
    if decoder == "bilinear":
        return BilinearDecoder(width, n_channels, patch, output_stride)
    return deconvolutions(width, n_channels, (patch // output_stride).bit_length() - 1)


def _check_weights(
    encoder: str, configuration: "PretrainedCfg", pretrained: bool, pretrained_dir: str
) -> None:
    """Check that at most one source of weights is asked for, and that a file fits the normalisation."""
    if not pretrained_dir:
        return
    if pretrained:
        raise ValueError(
            f"ViT needs one source of weights, got pretrained and pretrained_dir {pretrained_dir!r}; leave "
            "one of --pretrained and --pretrained_dir out."
        )
    if {*configuration.mean, *configuration.std} != {0.5}:
        raise ValueError(
            f"ViT needs an encoder with mean and standard deviation 0.5 for weights of pretrained_dir, got "
            f"{encoder!r} with {configuration.mean} and {configuration.std}; use one of "
            f"{', '.join(NAMES_IN_TIMM)}."
        )
    check_google_file(Path(pretrained_dir))


def _let_residual_branches_learn(network: nn.Module) -> None:
    """Replace the scales of 0 that timm ends a hybrid's residual branches with, which block all gradients."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.weight.data.masked_fill_(module.weight == 0, 0.1)


def _normalization(configuration: "PretrainedCfg", n_channels_in: int) -> dict[str, Any]:
    """Return `image_mean` and `image_std`; those that are equal in all channels hold for any number."""
    if len({*configuration.mean}) == len({*configuration.std}) == 1:
        mean, std = configuration.mean[:1] * n_channels_in, configuration.std[:1] * n_channels_in
        return {"image_mean": mean, "image_std": std}
    return normalization(configuration, n_channels_in)
