"""Stacked hourglasses: each goes down to a few pixels and up again, and corrects the heatmaps of the last."""

from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least, check_output_stride
from keypoint_detection.models.backbones.decoder import ConvBlock, HeatmapConv, ResidualBlock

BOTTLENECK = 4


class BottleneckBlock(nn.Module):
    """Add a 3x3 convolution, done in a quarter of the channels, to the input.

    The sum is not clipped. A ReLU after every sum of so deep a network loses what the skip connections carry:
    in bfloat16 the error of the features is then three times as large.

    Source: He et al., Deep Residual Learning for Image Recognition, 2016, figure 5, for the
    bottleneck; He et al., Identity Mappings in Deep Residual Networks, 2016, for the plain sum.

    Args:
        n_channels: Channels of input and output, at least 4.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        inner = n_channels // BOTTLENECK
        self.layers = nn.Sequential(
            ConvBlock(n_channels, inner, 1),
            ConvBlock(inner, inner),
            ConvBlock(inner, n_channels, 1, relu=False),
        )
        # Close to the identity at first, as `ResidualBlock`.
        nn.init.constant_(self.layers[-1].norm.weight, 0.1)  # pyright: ignore

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]` to the same shape."""
        return self.layers(features) + features


class HourglassLevel(nn.Module):
    """Process features at their own size and at half of it, in twice the channels, and add both.

    Args:
        n_channels: Channels of input and output.
        depth: Halvings from here to the bottom, at least 1.
    """

    def __init__(self, n_channels: int, depth: int) -> None:
        super().__init__()
        self.skip = BottleneckBlock(n_channels)
        self.widen = ConvBlock(n_channels, 2 * n_channels, 1)
        self.before = BottleneckBlock(2 * n_channels)
        self.inner = (
            HourglassLevel(2 * n_channels, depth - 1) if depth > 1 else BottleneckBlock(2 * n_channels)
        )
        self.narrow = ConvBlock(2 * n_channels, n_channels, 1, relu=False)
        self.after = BottleneckBlock(n_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map `[n, n_channels, h, w]`, h and w multiples of `2 ** depth`, to the same shape."""
        lower = self.widen(F.max_pool2d(features, 2))
        lower = self.narrow(self.inner(self.before(lower)))
        upsampled = F.interpolate(lower, scale_factor=2, mode="nearest")
        return self.after(self.skip(features) + upsampled)


class FeedBack(nn.Module):
    """Predict heatmaps and add them, with the features they came from, to what the next stage starts from.

    Args:
        n_channels: Channels of the features.
        n_heatmaps: Heatmaps.
    """

    def __init__(self, n_channels: int, n_heatmaps: int) -> None:
        super().__init__()
        self.head = HeatmapConv(n_channels, n_heatmaps, kernel_size=1)
        self.from_features = nn.Conv2d(n_channels, n_channels, 1)
        self.from_heatmaps = nn.Conv2d(n_heatmaps, n_channels, 1, bias=False)

    def forward(self, start: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the start of the next stage, shaped as this one's, and logits `[n, n_heatmaps, h, w]`."""
        logits = self.head(features)
        return start + self.from_features(features) + self.from_heatmaps(logits.sigmoid()), logits


@register_backbone("Hourglass")
class Hourglass(Backbone):
    """Stack hourglasses; every one but the last predicts heatmaps that the next one starts from.

    A stage is a residual block, an hourglass, a residual block and a 1x1 convolution. Channels double with
    each halving inside an hourglass, where blocks work in a quarter of them; the outer blocks use all.

    Source: Newell et al., Stacked Hourglass Networks for Human Pose Estimation, 2016; the doubling widths and
    the bottleneck of a quarter are ours.

    Args:
        n_channels_in: Channels of the image.
        n_channels: Channels of the features, at least 4; doubled with each halving below.
        n_hourglasses: Stages; each one more corrects the one before.
        n_hg_blocks: Halvings in each hourglass; one more makes the network four times as large.
        output_stride: Image pixels per feature pixel: 1, 2 or 4.
        n_heatmaps: Heatmaps that the stages before the last predict.

    Raises:
        ValueError: If an option is out of its range.
    """

    when_to_use = "body-like keypoints that need the context of the whole object"

    def __init__(
        self,
        *,
        n_channels_in: int = 3,
        n_channels: int = 56,
        n_hourglasses: int = 1,
        n_hg_blocks: int = 4,
        output_stride: int = 4,
        n_heatmaps: int = 1,
    ) -> None:
        check_at_least("Hourglass", 1, n_channels_in=n_channels_in, n_hourglasses=n_hourglasses)
        check_at_least("Hourglass", 1, n_hg_blocks=n_hg_blocks, n_heatmaps=n_heatmaps)
        check_at_least("Hourglass", BOTTLENECK, n_channels=n_channels)
        check_output_stride("Hourglass", output_stride, largest=4)
        super().__init__(n_channels_in, n_channels, output_stride, output_stride * 2**n_hg_blocks)
        self.stem = nn.Sequential(
            ConvBlock(n_channels_in, n_channels, pool=output_stride > 1),
            ConvBlock(n_channels, n_channels, pool=output_stride > 2),
        )
        self.stages = nn.ModuleList(
            nn.Sequential(
                ResidualBlock(n_channels, relu=False),
                HourglassLevel(n_channels, n_hg_blocks),
                ResidualBlock(n_channels, relu=False),
                ConvBlock(n_channels, n_channels, 1, relu=False),  # the reason is told in Backbone
            )
            for _ in range(n_hourglasses)
        )
        self.feed_backs = nn.ModuleList(FeedBack(n_channels, n_heatmaps) for _ in range(n_hourglasses - 1))

    def stage_outputs(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute features of the last hourglass, and the heatmap logits of each one before."""
        start, earlier = self.stem(image), []
        *stages, last = self.stages
        for stage, feed_back in zip(stages, self.feed_backs, strict=True):
            start, logits = feed_back(start, stage(start))
            earlier.append(logits)
        return last(start), earlier

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h / output_stride, w / output_stride]`."""
        return self.stage_outputs(image)[0]
