"""A plain stack of dilated convolutions at full resolution: the simplest backbone, without any pooling."""

from itertools import pairwise

from torch import Tensor, nn

from keypoint_detection.models.backbones.backbone_factory import register_backbone
from keypoint_detection.models.backbones.base_backbone import Backbone, check_at_least

DILATIONS = (1, 1, 2, 4, 8, 16, 1, 2, 4, 8, 16, 1)
LEAK = 0.01


@register_backbone("DilatedCnn")
class DilatedCnn(Backbone):
    """Apply twelve 3x3 convolutions whose dilation doubles, twice over, with a leaky ReLU between them.

    A feature sees 129x129 pixels. Nothing is normalised and nothing is resized, so the cost per pixel is high
    for the few parameters.

    Source: Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions, 2016, for the idea; the
    widths and dilations are those of common small keypoint detectors.

    Args:
        n_channels_in: Channels of the image.
        n_channels: Channels of every layer and of the features.

    Raises:
        ValueError: If an option is out of its range.
    """

    when_to_use = "a plain baseline: few weights, no pooling, slow on large images"

    def __init__(self, *, n_channels_in: int = 3, n_channels: int = 32) -> None:
        check_at_least("DilatedCnn", 1, n_channels_in=n_channels_in, n_channels=n_channels)
        super().__init__(n_channels_in, n_channels, stride=1, size_multiple=1)
        widths = [n_channels_in] + [n_channels] * len(DILATIONS)
        layers: list[nn.Module] = []
        for dilation, (width, next_width) in zip(DILATIONS, pairwise(widths), strict=True):
            convolution = nn.Conv2d(width, next_width, 3, padding=dilation, dilation=dilation)
            # Nothing normalises later: the weights have to keep the variance. The image was not rectified.
            rectified = "leaky_relu" if layers else "linear"
            nn.init.kaiming_normal_(convolution.weight, a=LEAK, nonlinearity=rectified)
            nn.init.zeros_(convolution.bias)  # pyright: ignore[reportArgumentType]
            layers += [convolution, nn.LeakyReLU(LEAK, inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])  # the reason for leaving out the last is told in Backbone

    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features `[n, n_channels, h, w]`."""
        return self.layers(image)
