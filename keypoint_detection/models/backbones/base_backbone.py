"""The contract of every backbone: images of any size in, feature maps of a declared width and stride out."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def default_normalization(in_channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of images in [0, 1]: ImageNet's for 3 channels, else 0.5, 0.25."""
    if in_channels == len(IMAGENET_MEAN):
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,) * in_channels, (0.25,) * in_channels


def check_at_least(backbone: str, minimum: int, **options: int) -> None:
    """Check that integer options of a backbone reach a minimum.

    Raises:
        ValueError: If one of them is smaller; the message names the backbone, the option and the value.
    """
    for name, value in options.items():
        if value < minimum:
            raise ValueError(
                f"{backbone} needs {name} >= {minimum}, got {value}; use --{name} {minimum} or more."
            )


def check_output_stride(backbone: str, output_stride: int, largest: int) -> None:
    """Check that an output stride is a power of two up to the largest that the backbone can give.

    Raises:
        ValueError: If it is not; the message lists the strides that are possible.
    """
    possible = [2**level for level in range(largest.bit_length())]
    if output_stride not in possible:
        listed = ", ".join(map(str, possible))
        raise ValueError(f"{backbone} needs an output_stride of {listed}, got {output_stride}.")


class Backbone(nn.Module, ABC):
    """Turn normalised images of any size into feature maps.

    A subclass builds its layers and writes `forward_features` for sizes that are a multiple of
    `size_multiple`; padding, cropping and checking are done here, once. Feature `u` lies over the image pixel
    `x` with `u = (x + 0.5) / stride - 0.5`, so a subclass downsamples and upsamples symmetrically about pixel
    centres.

    Features end without a ReLU. A sparse heatmap first pushes all logits down; features that cannot be
    negative offer the short way of turning every head weight negative, after which they die at the peaks and
    the logit stays at the head's bias.

    A backbone of several stages (Hourglass, CPM) predicts heatmaps after each of them: it takes the number
    of heatmaps as its option `n_heatmaps`, which the detector fills in, and overrides `stage_outputs`. A
    backbone with a class token offers the option `class_token`, which the detector sets for direct
    regression. Weights that can be pretrained live in the attribute `encoder`.

    Attributes:
        when_to_use: One line for the table of `keypoint-detection backbones`.
        pretrained_sources: Where pretrained weights come from, for the same table.

    Args:
        in_channels: Channels of the image.
        out_channels: Channels of the features.
        stride: Image pixels per feature pixel.
        size_multiple: `forward_features` gets heights and widths that are multiples of this; itself a
            multiple of `stride`.
        image_mean: Mean of each image channel in [0, 1] that the network expects to be subtracted; None takes
            `default_normalization`.
        image_std: Standard deviation of each image channel, to divide by afterwards; None likewise.
    """

    when_to_use: ClassVar[str] = ""
    pretrained_sources: ClassVar[str] = "none"

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        size_multiple: int,
        *,
        image_mean: tuple[float, ...] | None = None,
        image_std: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        mean, std = default_normalization(in_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.size_multiple = size_multiple
        self.image_mean = mean if image_mean is None else image_mean
        self.image_std = std if image_std is None else image_std

    @abstractmethod
    def forward_features(self, image: Tensor) -> Tensor:
        """Compute features of an image whose height and width are multiples of `size_multiple`.

        Args:
            image: Float `[n, in_channels, h, w]`, normalised.

        Returns:
            `[n, out_channels, h / stride, w / stride]`.
        """

    def stage_outputs(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute features of the last stage, and what the stages before it predict.

        Args:
            image: As for `forward_features`.

        Returns:
            Features `[n, out_channels, h / stride, w / stride]`, and of each earlier stage its heatmap logits
            `[n, n_heatmaps, h / stride, w / stride]`; a backbone of one stage has none.
        """
        return self.forward_features(image), []

    @property
    def pretrained_part(self) -> nn.Module:
        """The part that pretrained weights fill and that freezing holds still: `encoder`, or everything."""
        encoder = getattr(self, "encoder", None)
        return encoder if isinstance(encoder, nn.Module) else self

    def forward(self, image: Tensor) -> Tensor:
        """Compute features of an image of any size.

        Args:
            image: Float `[n, in_channels, h, w]`, scaled to [0, 1], normalised by `image_mean` and
                `image_std`.

        Returns:
            `[n, out_channels, ceil(h / stride), ceil(w / stride)]`.

        Raises:
            ValueError: If the image is not 4-D, has another number of channels, or has a side of 0.
        """
        return self.forward_stages(image)[0]

    def forward_stages(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Compute features of an image of any size, and the heatmap logits of the stages before the last.

        The image is continued to the right and below by its last column and row up to the size multiple, and
        the features are cropped again, so that no coordinate moves. On the CPU the work is done in
        channels-last memory, in which convolutions and pooling are much faster; the features may come back in
        that format.

        Args:
            image: As for `forward`.

        Returns:
            As `stage_outputs`, for heights and widths of `ceil(h / stride)` and `ceil(w / stride)`.

        Raises:
            ValueError: As `forward`.
        """
        self._check_image(image)
        height, width = image.shape[-2:]
        right, below = -width % self.size_multiple, -height % self.size_multiple
        if image.device.type == "cpu":
            image = image.contiguous(memory_format=torch.channels_last)
        if right or below:
            image = F.pad(image, (0, right, 0, below), mode="replicate")
        features, earlier = self.stage_outputs(image)
        rows, columns = -(-height // self.stride), -(-width // self.stride)
        return features[:, :, :rows, :columns], [logits[:, :, :rows, :columns] for logits in earlier]

    def _check_image(self, image: Tensor) -> None:
        name, shape = type(self).__name__, list(image.shape)
        needed = f"{name} needs images of shape [n, {self.in_channels}, h, w] with h and w >= 1, got {shape}"
        if image.ndim != 4:
            raise ValueError(f"{needed}; give a batch of images, channels before height and width.")
        if shape[1] != self.in_channels:
            raise ValueError(
                f"{needed}; load images with {self.in_channels} channels or build the backbone with "
                f"--n_channels_in {shape[1]}."
            )
        if 0 in shape[2:]:
            raise ValueError(f"{needed}; the image has no pixels.")
