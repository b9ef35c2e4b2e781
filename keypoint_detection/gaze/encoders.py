"""Encoders of scene, head and depth: an image of any size in, features on a fixed grid of tokens out."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.gaze.encoder_trunks import FifthStageTrunk, LightTrunk, RegistryTrunk, Trunk
from keypoint_detection.models.backbones.backbone_factory import list_backbones
from keypoint_detection.models.backbones.base_backbone import check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm
from keypoint_detection.registry import nearest_name

FIFTH_STAGE, LIGHT = "resnet50_fifth_stage", "light"


class GridEncoder(nn.Module):
    """Turn images of any size into features on a grid whose cells are equal parts of the image.

    The image is first resized to the nearest multiple of grid and stride (224 px stay 224 px for a grid of 7
    and a stride of 32; 193 px become 224, 257 px too), and the features are averaged over cells of a whole
    number of pixels. So a token always sees the same share of the image, wherever its size came from; padding
    would have moved the cells.

    Args:
        trunk: What computes the features.
        grid_hw: Rows and columns of the grid.
        width: Channels of the result; None: those of the trunk, without a projection.

    Attributes:
        in_channels: Channels of the image.
        out_channels: Channels of the features.
        grid_hw: Rows and columns of the grid.
    """

    image_mean: Tensor
    image_std: Tensor

    def __init__(self, trunk: Trunk, grid_hw: tuple[int, int], width: int | None) -> None:
        super().__init__()
        self.in_channels, self.grid_hw = trunk.in_channels, grid_hw
        self.out_channels = width or trunk.out_channels
        self.trunk = trunk
        projection = [] if width is None else [nn.Conv2d(trunk.out_channels, width, 1, bias=False)]
        norm = [] if width is None else [BatchNorm(width)]
        self.project = nn.Sequential(*projection, *norm)
        for name, values in (("image_mean", trunk.image_mean), ("image_std", trunk.image_std)):
            grey_levels = 255.0 * torch.tensor(values).view(-1, 1, 1)
            self.register_buffer(name, grey_levels, persistent=False)  # kept by the options

    def forward(self, image: Tensor) -> Tensor:
        """Encode.

        Args:
            image: uint8 or float `[n, in_channels, h, w]`, grey levels 0..255.

        Returns:
            `[n, out_channels, rows, columns]`.

        Raises:
            ValueError: If the image has another shape.
        """
        if image.ndim != 4 or image.shape[1] != self.in_channels or 0 in image.shape[2:]:
            raise ValueError(
                f"{type(self.trunk).__name__} needs images of shape [n, {self.in_channels}, h, w], got "
                f"{list(image.shape)}."
            )
        image = fit_to_grid((image - self.image_mean) / self.image_std, self.grid_hw, self.trunk.stride)
        if image.device.type == "cpu":  # convolutions are much faster in that memory
            image = image.contiguous(memory_format=torch.channels_last)
        return self.project(pool_to_grid(self.trunk(image), self.grid_hw))


def fit_to_grid(image: Tensor, grid_hw: tuple[int, int], stride: int) -> Tensor:
    """Resize an image to the nearest height and width that a grid of cells of whole strides fits in.

    Args:
        image: Float `[n, c, h, w]`.
        grid_hw: Rows and columns of the grid.
        stride: Pixels that a side of a cell is a multiple of.

    Returns:
        `[n, c, rows * i * stride, columns * j * stride]` with whole i and j from 1; the image itself where
        that is its size.
    """
    wanted = []
    for side, cells in zip(image.shape[-2:], grid_hw, strict=True):
        unit = cells * stride
        wanted.append(max(1, (2 * side + unit) // (2 * unit)) * unit)
    if tuple(wanted) == tuple(image.shape[-2:]):
        return image
    return F.interpolate(image, size=wanted, mode="bilinear", align_corners=False)


def pool_to_grid(features: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Average features `[n, c, h, w]` over the cells of a grid that divides them: `[n, c, rows, columns]`."""
    cell = (features.shape[-2] // grid_hw[0], features.shape[-1] // grid_hw[1])
    return features if cell == (1, 1) else F.avg_pool2d(features, cell)


def encoder(
    name: str,
    in_channels: int,
    *,
    grid_hw: tuple[int, int] = (7, 7),
    width: int = 1024,
    options: Mapping[str, Any] | None = None,
) -> GridEncoder:
    """Build an encoder by its name.

    Args:
        name: `resnet50_fifth_stage` (28.1 million parameters for a width of 1024), `light` (for a CPU), or a
            backbone of the registry, whose features are pooled and projected.
        in_channels: Channels of the image; the first three are its colours.
        grid_hw: Rows and columns of the grid of tokens.
        width: Channels of the features.
        options: Of the trunk: `trunk` and `pretrained` of the fifth stage, `stride` and `widths` of the light
            one, or those of the backbone.

    Raises:
        ValueError: If the name or an option is unknown, or a value out of its range.
        FileNotFoundError: If pretrained weights are neither on disk nor downloadable.
    """
    check_at_least(f"encoder {name}", 1, in_channels=in_channels, width=width, grid=min(grid_hw))
    known = [FIFTH_STAGE, LIGHT, *list_backbones()]
    if name not in known:
        raise ValueError(
            f"unknown gaze encoder {name!r}; known: {', '.join(known)}.{nearest_name(name, known)}"
        )
    given = dict(options or {})
    if name == FIFTH_STAGE:
        trunk = _build(name, FifthStageTrunk, in_channels, {"out_channels": width, **given})
        return GridEncoder(trunk, grid_hw, None)
    if name == LIGHT:
        return GridEncoder(_build(name, LightTrunk, in_channels, given), grid_hw, width)
    return GridEncoder(RegistryTrunk(in_channels, name, given), grid_hw, width)


def _build(name: str, trunk: Callable[..., Trunk], in_channels: int, options: Mapping[str, Any]) -> Trunk:
    """Build a trunk; an option that it does not have is a ValueError that names those that it has."""
    known = getattr(trunk, "OPTIONS", ())
    for option in options:
        if option not in known:
            raise ValueError(
                f"gaze encoder {name!r} has no option {option!r}; its options: {', '.join(known)}."
                f"{nearest_name(option, known)}"
            )
    return trunk(in_channels, **options)
