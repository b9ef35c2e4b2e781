"""The convolutional pose machine: large kernels look at the image and at the heatmaps of the stage before."""

import torch
from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm, HeatmapConv

WIDTH = 128
FIRST_WIDTH = 512
STAGE_WIDTH = 64
GROUPS = 16
NORMALIZATIONS = ("batch", "group", "instance", "none")

GELU_GAIN = 1.533
"""`1 / sqrt(E[gelu(z)^2])` for standard normal z: weights scaled by it keep the variance."""


class GroupNorm(nn.GroupNorm):
    """Normalise groups of channels; a group of a single value becomes the bias, where PyTorch raises."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise `[n, c, h, w]`."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def normalize(normalization: str, n_channels: int) -> nn.Module:
    """Return a normalisation layer for any size of image: "batch", "group", "instance" or "none"."""
    if normalization == "batch":
        return BatchNorm(n_channels)
    if normalization == "group":
        return GroupNorm(GROUPS, n_channels)
    if normalization == "instance":
        return GroupNorm(n_channels, n_channels)
    return nn.Identity()


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    normalization: str,
    *,
    pool: bool = False,
    gelu: bool = True,
) -> nn.Sequential:
    """Return a convolution with optional 2x2 max-pooling, a normalisation and, by default, a GELU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of 16.
        kernel_size: Side of the kernel in pixels, odd.
        normalization: As for `normalize`.
        pool: Halve height and width, which must be even.
        gelu: Apply a GELU.
    """
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=normalization == "none"
    )
    nn.init.normal_(layer.weight, std=GELU_GAIN / (in_channels * kernel_size**2) ** 0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return nn.Sequential(layer, *pooling, normalize(normalization, out_channels), *[nn.GELU()] * gelu)


def image_trunk(n_channels_in: int, normalization: str, dropout: float) -> nn.Sequential:
    """Return three 9x9 convolutions that each halve the size: `[n, c, h, w]` to `[n, 128, h / 8, w / 8]`."""
    return nn.Sequential(
        convolution(n_channels_in, WIDTH, 9, normalization, pool=True),
        convolution(WIDTH, WIDTH, 9, normalization, pool=True),
        convolution(WIDTH, WIDTH, 9, normalization, pool=True),
        nn.Dropout(dropout),
    )


class RefiningStage(nn.Module):
    """Judge image features together with the heatmaps of the stage before.

    Args:
        n_heatmaps: Heatmaps of the stage before.
        normalization: As for `normalize`.
    """

    def __init__(self, n_heatmaps: int, normalization: str) -> None:
        super().__init__()
        self.reduce = convolution(WIDTH, STAGE_WIDTH, 5, normalization)
        self.layers = nn.Sequential(
            convolution(STAGE_WIDTH + n_heatmaps, WIDTH, 11, normalization),
            convolution(WIDTH, WIDTH, 11, normalization),
            convolution(WIDTH, WIDTH, 11, normalization),
            convolution(WIDTH, WIDTH, 1, normalization, gelu=False),
        )

    def forward(self, trunk: Tensor, beliefs: Tensor) -> Tensor:
        """Map `[n, 128, h, w]` and probabilities `[n, n_heatmaps, h, w]` to features `[n, 128, h, w]`."""
        return self.layers(torch.cat([self.reduce(trunk), beliefs], dim=1))


@register_backbone("CPM")
class CPM(Backbone):
    """Predict heatmaps from the image, then refine them in stages that see the image and the last heatmaps.

    The first stage has image features of its own; those of all later stages are computed once. A feature of
    the first stage sees 160x160 pixels, and each later stage adds 240 through the heatmaps. A stage ends
    without a GELU, before its heatmaps are predicted; the reason is told in `Backbone`.

    Source: Wei et al., Convolutional Pose Machines, 2016; the widths are those of a common later form, here
    with pooling symmetric about pixel centres.

    Args:
        n_channels_in: Channels of the image.
        n_stages: Stages; the last one's features are returned.
        normalization: After each convolution: batch, group (16 groups), instance or none.
        dropout: Share of image features that are dropped in training, in [0, 1); heatmaps are left alone.
        n_heatmaps: Heatmaps that the stages before the last predict.

    Raises:
        ValueError: If an option is out of its range.
    """

    when_to_use = "skeletons whose points hide one another; heavy, wants a GPU"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        n_stages: int = 7,
        normalization: str = "batch",
        dropout: float = 0.0,
        n_heatmaps: int = 1,
    ) -> None:
        check_at_least("CPM", 1, n_channels_in=n_channels_in, n_stages=n_stages, n_heatmaps=n_heatmaps)
        _check_regularization(normalization, dropout)
        super().__init__(n_channels_in, FIRST_WIDTH if n_stages == 1 else WIDTH, stride=8, size_multiple=8)
        self.first_stage = nn.Sequential(
            image_trunk(n_channels_in, normalization, dropout),
            convolution(WIDTH, 32, 5, normalization),
            convolution(32, FIRST_WIDTH, 9, normalization),
            convolution(FIRST_WIDTH, FIRST_WIDTH, 1, normalization, gelu=False),
        )
        widths = [FIRST_WIDTH] + [WIDTH] * (n_stages - 2)
        self.shared_trunk = (
            image_trunk(n_channels_in, normalization, dropout) if n_stages > 1 else nn.Identity()
        )
        self.heads = nn.ModuleList(
            HeatmapConv(width, n_heatmaps, kernel_size=1) for width in widths[: n_stages - 1]
        )
        self.later_stages = nn.ModuleList(
            RefiningStage(n_heatmaps, normalization) for _ in range(n_stages - 1)
        )

    def stage_outputs(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute features of the last stage, and the heatmap logits of each one before."""
        features, trunk, earlier = self.first_stage(image), self.shared_trunk(image), []
        for head, stage in zip(self.heads, self.later_stages, strict=True):
            logits = head(features)
            features = stage(trunk, logits.sigmoid())
            earlier.append(logits)
        return features, earlier

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, 128, h / 8, w / 8]`, of 512 channels if there is only one stage."""
        return self.stage_outputs(image)[0]


def _check_regularization(normalization: str, dropout: float) -> None:
    if normalization not in NORMALIZATIONS:
        raise ValueError(
            f"CPM needs a normalization of {', '.join(NORMALIZATIONS)}, got {normalization!r}; "
            "use --normalization batch."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"CPM needs a dropout in [0, 1), got {dropout}; use --dropout 0 to switch it off.")
