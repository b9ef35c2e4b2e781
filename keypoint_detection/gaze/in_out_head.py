"""The in/out head: does the person look at something inside the image?"""

from torch import Tensor, nn

from keypoint_detection.models.backbones.decoder import ConvBlock


class InOutHead(nn.Module):
    """Predict one logit from the joined features of scene and head.

    Nothing follows the convolution to one channel but the linear layer: a ReLU there would let a cell speak
    for one side only, and a normalisation would take away how sure it is.

    Args:
        in_channels: Channels of the features.
        grid_hw: Rows and columns of the features.
        n_hidden: Channels of the hidden layer; None: a quarter of `in_channels`.
    """

    def __init__(self, in_channels: int, grid_hw: tuple[int, int], *, n_hidden: int | None = None) -> None:
        super().__init__()
        n_hidden = n_hidden or max(in_channels // 4, 1)
        self.hidden = ConvBlock(in_channels, n_hidden, 1)
        self.narrow = nn.Conv2d(n_hidden, 1, 1)
        self.out = nn.Linear(grid_hw[0] * grid_hw[1], 1)

    def forward(self, features: Tensor) -> Tensor:
        """Predict.

        Args:
            features: `[n, in_channels, rows, columns]`.

        Returns:
            Logits of looking inside the image, `[n]`.
        """
        return self.out(self.narrow(self.hidden(features)).flatten(1)).squeeze(1)
