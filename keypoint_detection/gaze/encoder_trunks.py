"""The trunks of the encoders: images of sides in multiples of a stride in, features of that stride out."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.backbones.base_backbone import IMAGENET_MEAN, IMAGENET_STD, check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm, ConvBlock, ResidualBlock
from keypoint_detection.models.backbones.timm_encoder import create_encoder

LEAK = 0.1
"""Slope for negative values of the leaky ReLU that ends the features of a backbone."""

STEM_STRIDE = 4
"""Image pixels per pixel of the light trunk's first stage."""


class Trunk(nn.Module):
    """Hold what an encoder needs to know about a trunk.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the features.
        stride: Image pixels per feature pixel.
        mean: Mean of the colours in [0, 1] to subtract; None: ImageNet's.
        std: Their standard deviation, to divide by; None: ImageNet's.
    """

    OPTIONS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.stride = in_channels, out_channels, stride
        colours = 3 if in_channels >= 3 else 0
        n_others = in_channels - colours  # masks and depth: 0 means nothing there, so it stays 0
        self.image_mean = [*(mean or IMAGENET_MEAN)[:colours], *[0.0] * n_others]
        self.image_std = [*(std or IMAGENET_STD)[:colours], *[1.0] * n_others]


class Bottleneck(nn.Module):
    """Add 1x1, 3x3 and 1x1 convolutions to the input, or to its projection where the widths differ.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        planes = out_channels // 4
        self.reduce = ConvBlock(in_channels, planes, 1)
        self.mix = ConvBlock(planes, planes)
        self.expand = ConvBlock(planes, out_channels, 1, relu=False)
        self.skip = nn.Identity()
        if in_channels != out_channels:
            self.skip = ConvBlock(in_channels, out_channels, 1, relu=False)
        nn.init.constant_(self.expand.norm.weight, 0.1)  # close to the skip at first; the reason for not 0
        # is told in ResidualBlock

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h, w]`."""
        return F.relu(self.expand(self.mix(self.reduce(features))) + self.skip(features))


class FifthStageTrunk(Trunk):
    """Encode by a ResNet, and by a fifth stage of two bottlenecks that keeps its stride of 32.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the features, a multiple of 4.
        trunk: Name of a ResNet in timm.
        pretrained: Start the ResNet from timm's weights.

    Raises:
        ValueError: If a value is out of its range, or timm has no such ResNet.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable.
    """

    OPTIONS = ("out_channels", "trunk", "pretrained")

    def __init__(
        self, in_channels: int, *, out_channels: int = 1024, trunk: str = "resnet50", pretrained: bool = False
    ) -> None:
        name = "resnet50_fifth_stage"
        check_at_least(name, 4, width=out_channels)
        if out_channels % 4:
            raise ValueError(f"{name} needs a width in multiples of 4, got {out_channels}.")
        made = create_encoder(
            name, trunk, in_channels, pretrained=pretrained, finest_stride=32, family="resnet*"
        )
        normalization: Any = made.normalization
        super().__init__(
            in_channels,
            out_channels,
            made.strides[-1],
            mean=normalization["image_mean"],
            std=normalization["image_std"],
        )
        self.encoder = made.network
        self.fifth_stage = nn.Sequential(
            Bottleneck(made.widths[-1], out_channels), Bottleneck(out_channels, out_channels)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h / 32, w / 32]`."""
        return self.fifth_stage(self.encoder(image)[-1])


class LightTrunk(Trunk):
    """Encode by few convolutions, for a training of minutes on a CPU: each stage halves the size.

    Every halving takes whole patches, so that features lie symmetrically about the pixels that they see.

    Args:
        in_channels: Channels of the image.
        stride: Image pixels per feature pixel: 4, 8 or 16.
        widths: Channels of the stages of stride 4, 8 and 16; those beyond the stride are not used.

    Raises:
        ValueError: If the stride has another value, or there are too few widths.
    """

    OPTIONS = ("stride", "widths")

    def __init__(self, in_channels: int, *, stride: int = 16, widths: Sequence[int] = (24, 32, 64)) -> None:
        if stride not in {4, 8, 16}:
            raise ValueError(f"gaze encoder 'light' needs a stride of 4, 8 or 16, got {stride}.")
        n_stages = stride.bit_length() - 2
        if len(widths) < n_stages or min(widths) < 1:
            raise ValueError(
                f"gaze encoder 'light' needs {n_stages} widths >= 1 for a stride of {stride}, got "
                f"{list(widths)}."
            )
        used = list(widths[:n_stages])
        super().__init__(in_channels, used[-1], stride)
        blocks: list[nn.Module] = [
            PatchConv(in_channels, used[0], STEM_STRIDE),
            ConvBlock(used[0], used[0]),
        ]
        for fine, coarse in pairwise(used):
            blocks += [PatchConv(fine, coarse, 2), ResidualBlock(coarse)]
        if n_stages == 2:
            blocks.append(ResidualBlock(used[-1]))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, image: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h / stride, w / stride]`."""
        return self.blocks(image)


class PatchConv(nn.Module):
    """Turn each patch into one pixel: convolution without overlap, batch normalisation, ReLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        patch_px: Side of a patch.
    """

    def __init__(self, in_channels: int, out_channels: int, patch_px: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, patch_px, stride=patch_px, bias=False)
        self.norm = BatchNorm(out_channels)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h / patch_px, w / patch_px]`."""
        return F.relu(self.norm(self.conv(features)))


class RegistryTrunk(Trunk):
    """Encode by a backbone of the registry.

    Args:
        in_channels: Channels of the image.
        name: Its name in the registry.
        options: Its options; `output_stride` saves most of the time where there is one.

    Raises:
        ValueError: If there is no such backbone or option.
    """

    def __init__(self, in_channels: int, name: str, options: Mapping[str, Any]) -> None:
        backbone = create_backbone(name, **{**options, "n_channels_in": in_channels})
        known = backbone.image_mean[:3], backbone.image_std[:3]
        mean, std = known if in_channels == 3 else (None, None)
        super().__init__(in_channels, backbone.out_channels, backbone.stride, mean=mean, std=std)
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        """Map `[n, in_channels, h, w]` to `[n, out_channels, h / stride, w / stride]`."""
        # Features of a backbone end without a ReLU; without one their averages over a cell would cancel.
        return F.leaky_relu(self.backbone(image), LEAK)
