"""BackboneMagnificationNet: any backbone of the registry on each magnification, one logit out."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import create_backbone
from keypoint_detection.models.backbones.base_backbone import check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm
from keypoint_detection.visibility.network import (
    LEAK,
    check_dropout,
    check_patches,
    encode_levels,
    make_classifier,
)


class PooledBackbone(nn.Module):
    """Average the features of a backbone over the patch, and narrow or widen them to a number of channels.

    Args:
        num_channels: Channels of the patch.
        backbone_type: Name in the backbone registry.
        backbone_options: Options of that backbone.
        size_hidden: Channels of the result.
        dropout: Probability of leaving a channel out in training, in [0, 1).
    """

    def __init__(
        self,
        num_channels: int,
        backbone_type: str,
        backbone_options: Mapping[str, Any],
        size_hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone_type, **{**backbone_options, "n_channels_in": num_channels})
        self.project = nn.Conv2d(self.backbone.out_channels, size_hidden, 1)
        self.norm = BatchNorm(size_hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Map `[n, num_channels, p, p]` to `[n, size_hidden, 1, 1]`."""
        # Features of a backbone end without a ReLU; without one their average could not tell how much of the
        # patch has a texture, as its ups and downs would cancel.
        pooled = F.leaky_relu(self.backbone(image), LEAK).mean((2, 3), keepdim=True)
        return self.dropout(F.leaky_relu(self.norm(self.project(pooled)), LEAK))


class BackboneMagnificationNet(nn.Module):
    """Tell whether a point is visible as `MultiMagnificationNet`, with a backbone as the encoder of a level.

    A coarse stride (option `output_stride` of most backbones) saves most of the time, since the features are
    averaged anyway. Patches may have any size here.

    Args:
        num_levels: Magnifications.
        num_channels: Channels per level.
        backbone_type: Name in the backbone registry.
        backbone_options: Options of that backbone; `n_channels_in` is set here.
        size_hidden: Channels that each level is encoded to, and of the hidden layer of the MLP.
        share_weights: Encode all levels by the same backbone, in one batch.
        use_mlp: Classify by one hidden layer; False: linearly.
        patch_px: Side of the patches.
        dropout: Probability of leaving out a channel of an encoding in training, in [0, 1).

    Raises:
        ValueError: If there is no such backbone or option, or a value is out of its range.
    """

    def __init__(
        self,
        num_levels: int = 5,
        num_channels: int = 4,
        backbone_type: str = "MobileNetV3",
        backbone_options: Mapping[str, Any] | None = None,
        size_hidden: int = 128,
        *,
        share_weights: bool = True,
        use_mlp: bool = True,
        patch_px: int = 128,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        counts = {"num_levels": num_levels, "num_channels": num_channels, "patch_px": patch_px}
        check_at_least(name, 1, **counts, size_hidden=size_hidden)
        check_dropout(name, dropout)
        self.num_levels, self.num_channels, self.patch_px = num_levels, num_channels, patch_px
        options = dict(backbone_options or {})
        self.encoders = nn.ModuleList(
            PooledBackbone(num_channels, backbone_type, options, size_hidden, dropout)
            for _ in range(1 if share_weights else num_levels)
        )
        self.classifier = make_classifier(num_levels * size_hidden, size_hidden, dropout, use_mlp=use_mlp)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify points; arguments, result and errors are those of `MultiMagnificationNet.forward`."""
        check_patches(patches, type(self).__name__, self.num_levels, self.num_channels, self.patch_px)
        return self.classifier(encode_levels(self.encoders, patches, self.num_levels)).flatten()
