"""MultiMagnificationNet: concentric patches at several magnifications in, one logit of visibility out."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from keypoint_detection.models.backbones.base_backbone import check_at_least
from keypoint_detection.models.backbones.decoder import BatchNorm

LEAK = 0.1
"""Slope of the leaky ReLU for negative values."""

PUBLISHED_DROPOUT = 0.5
"""Share of the channels that the published network leaves out after each block."""


class PoolingBlock(nn.Module):
    """Apply a 3x3 convolution, batch normalisation, a leaky ReLU, dropout of channels and 2x2 max-pooling.

    Pooling is done before the leaky ReLU and the dropout, which gives the same numbers on a quarter of the
    pixels, since neither changes an order. It is not done before the normalisation, though that would be
    quicker still: with the statistics of the largest pixels alone, held-out views came out worse.

    Args:
        in_channels: Channels of the input, with those that are carried.
        out_channels: Channels of the output.
        dropout: Probability of leaving a channel out in training, in [0, 1).
    """

    def __init__(self, in_channels: int, out_channels: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = BatchNorm(out_channels)
        self.dropout = nn.Dropout2d(dropout)
        nn.init.kaiming_normal_(self.conv.weight, a=LEAK, nonlinearity="leaky_relu")
        nn.init.zeros_(self.conv.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, image: Tensor, carried: Tensor | None = None) -> Tensor:
        """Encode an image or features, together with what the finer level found.

        Args:
            image: `[n, c, p, p]`, p even.
            carried: `[n, in_channels - c, p / 2, p / 2]`, what this block type gave for the level of twice
                the magnification; None means zeros.

        Returns:
            `[n, out_channels, p / 2, p / 2]`.
        """
        pooled = F.max_pool2d(self.convolve(image, carried), 2)
        return self.dropout(F.leaky_relu_(pooled, LEAK))

    def convolve(self, image: Tensor, carried: Tensor | None = None) -> Tensor:
        """Convolve the image, joined with what is carried, padded by zeros to its size; then normalise.

        Pixel `i` of what is carried comes to pixel `p / 4 + i`. A level of half the magnification shows twice
        as much: its middle half is what the finer level showed, and pooling halved that to the same pixels.

        Args:
            image: As for `forward`.
            carried: As for `forward`.

        Returns:
            `[n, out_channels, p, p]`.
        """
        weight, bias, norm = self.conv.weight, self.conv.bias, self.norm
        assert bias is not None
        if self.training:
            return norm(_convolve_joined(image, carried, weight, bias))
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)  # one pass less over a large map
        weight, bias = weight * scale[:, None, None, None], (bias - norm.running_mean) * scale + norm.bias
        return _convolve_joined(image, carried, weight, bias)


def _convolve_joined(image: Tensor, carried: Tensor | None, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve as `PoolingBlock.convolve` tells, without a normalisation.

    Neither the padding nor, at the finest level, the zeros in the place of something carried are ever
    convolved: the kernel reaches one pixel into the padding, and the rest of the result stays zero.
    """
    n_channels = image.shape[1]
    convolved = F.conv2d(image, weight[:, :n_channels], bias, padding=1)
    if carried is None:
        return convolved
    border = (image.shape[-1] - carried.shape[-1]) // 2
    reached = F.conv2d(carried, weight[:, n_channels:], padding=2)
    return convolved + F.pad(reached, [border - 1] * 4)


class LevelEncoder(nn.Module):
    """Encode a patch by as many pooling blocks as it takes to reach a single pixel; 128 px take seven.

    Args:
        in_channels: Channels of the patch, with those that are carried.
        size_hidden: Channels of every block.
        patch_px: Side of the patch, a power of two.
        dropout: As for `PoolingBlock`.
    """

    def __init__(self, in_channels: int, size_hidden: int, patch_px: int, dropout: float) -> None:
        super().__init__()
        widths = [in_channels] + [size_hidden] * (patch_px.bit_length() - 2)
        self.blocks = nn.ModuleList(PoolingBlock(width, size_hidden, dropout) for width in widths)

    def forward(self, image: Tensor, carried: Tensor | None = None) -> Tensor:
        """Map a patch, and what is carried as for `PoolingBlock`, to `[n, size_hidden, 1, 1]`."""
        features = self.blocks[0](image, carried)
        for block in self.blocks[1:]:
            features = block(features)
        return features


class MultiMagnificationNet(nn.Module):
    """Tell from concentric patches at several magnifications whether the point in their middle is visible.

    Without alignment every level is encoded on its own, and the encodings are concatenated. With it one block
    encodes the finest level, the result is laid over the next level in the place that it shows, one block
    encodes both, and so on; the coarsest level goes through all blocks. Alignment needs levels that halve the
    magnification each; it is exact to the pixel where the patch of a level begins at an even pixel, else, as
    the centre of each patch is rounded to its own pixels, off by half a pixel of the coarser level.

    Source: the eight variants of the camvis2 study of point visibility on webcam images.

    Args:
        num_levels: Magnifications.
        num_channels: Channels per level: three of colour, and depth.
        size_hidden: Channels of every block, and of the hidden layer of the MLP.
        share_weights: Encode all levels by the same weights, in one batch.
        use_mlp: Classify by one hidden layer; False: linearly.
        align_features: Carry features from level to level.
        patch_px: Side of the patches, a power of two from 4.
        dropout: Probability of leaving out a channel in training, in [0, 1). The published value is the
            default; it is heavy for a training of minutes.

    Raises:
        ValueError: If a value is out of its range.
    """

    def __init__(  # noqa: PLR0917  the six options of the published table, in its order
        self,
        num_levels: int = 5,
        num_channels: int = 4,
        size_hidden: int = 128,
        share_weights: bool = True,
        use_mlp: bool = True,
        align_features: bool = False,
        *,
        patch_px: int = 128,
        dropout: float = PUBLISHED_DROPOUT,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_at_least(name, 2 if align_features else 1, num_levels=num_levels)
        check_at_least(name, 1, num_channels=num_channels, size_hidden=size_hidden)
        check_patch_px(name, patch_px)
        check_dropout(name, dropout)
        self.num_levels, self.num_channels, self.patch_px = num_levels, num_channels, patch_px
        self.align_features = align_features
        width = num_channels + size_hidden if align_features else num_channels
        n_encoders = 1 if share_weights or align_features else num_levels
        encoders = [LevelEncoder(width, size_hidden, patch_px, dropout) for _ in range(n_encoders)]
        self.encoders = nn.ModuleList(encoders)
        n_steps = num_levels - 1 if align_features else 0
        self.steps = nn.ModuleList(PoolingBlock(width, size_hidden, dropout) for _ in range(n_steps))
        if share_weights:
            for step in self.steps:
                _share_weights(step, encoders[0].blocks[0])
        n_features = size_hidden if align_features else num_levels * size_hidden
        self.classifier = make_classifier(n_features, size_hidden, dropout, use_mlp=use_mlp)

    def forward(self, patches: Tensor) -> Tensor:
        """Classify points.

        Args:
            patches: Float `[n, num_levels * num_channels, patch_px, patch_px]`, normalised; the channels of
                the finest level come first.

        Returns:
            Logits of visibility, `[n]`.

        Raises:
            ValueError: If the patches have another shape.
        """
        check_patches(patches, type(self).__name__, self.num_levels, self.num_channels, self.patch_px)
        features = (
            self._aligned(patches)
            if self.align_features
            else encode_levels(self.encoders, patches, self.num_levels)
        )
        return self.classifier(features).flatten()

    def _aligned(self, patches: Tensor) -> Tensor:
        """Carry the encoding of each level to the next; the last gives `[n, size_hidden, 1, 1]`."""
        carried = None
        levels = [in_fast_memory(level) for level in patches.chunk(self.num_levels, dim=1)]
        for step, level in zip(self.steps, levels[:-1], strict=True):
            carried = step(level, carried)
        return self.encoders[0](levels[-1], carried)


def _share_weights(block: nn.Module, first: nn.Module) -> None:
    """Let a block use the parameters of another, but count its own running statistics.

    Nothing is carried to the finest level, so that its statistics are unlike those of the others: normalised
    by a mixture of all, the network would not be in use what it was in training.
    """
    block.conv = first.conv
    block.norm.weight, block.norm.bias = first.norm.weight, first.norm.bias  # pyright: ignore


def make_classifier(n_features: int, size_hidden: int, dropout: float, *, use_mlp: bool) -> nn.Sequential:
    """Return what maps `[n, n_features, 1, 1]` to `[n, 1, 1, 1]`: one linear layer, or one hidden layer."""
    if not use_mlp:
        return nn.Sequential(nn.Conv2d(n_features, 1, 1))
    return nn.Sequential(
        nn.Conv2d(n_features, size_hidden, 1),
        BatchNorm(size_hidden),  # a batch of one in training is normalised by the running statistics
        nn.LeakyReLU(LEAK),
        nn.Dropout(dropout),
        nn.Conv2d(size_hidden, 1, 1),
    )


def encode_levels(encoders: nn.ModuleList, patches: Tensor, num_levels: int) -> Tensor:
    """Encode every level on its own.

    Args:
        encoders: One for each level, or a single one, which gets all levels in one batch; each maps
            `[n, c, p, p]` to `[n, f, 1, 1]`.
        patches: `[n, num_levels * c, p, p]`.
        num_levels: Magnifications.

    Returns:
        `[n, num_levels * f, 1, 1]`, the finest level first.
    """
    if len(encoders) > 1:
        levels = patches.chunk(num_levels, dim=1)
        encoded = [encoder(in_fast_memory(level)) for encoder, level in zip(encoders, levels, strict=True)]
        return torch.cat(encoded, dim=1)
    n, n_channels, height, width = patches.shape
    levels = patches.reshape(n * num_levels, n_channels // num_levels, height, width)
    encoded = encoders[0](in_fast_memory(levels))
    return encoded.reshape(n, num_levels * encoded.shape[1], 1, 1)


def in_fast_memory(image: Tensor) -> Tensor:
    """Return an image in channels-last memory on the CPU, where that makes convolutions much faster."""
    if image.device.type != "cpu":
        return image
    return image.contiguous(memory_format=torch.channels_last)


def check_patch_px(network: str, patch_px: int) -> None:
    """Check the side of a patch.

    Raises:
        ValueError: It is not a power of two from 4.
    """
    if patch_px < 4 or patch_px & (patch_px - 1):
        raise ValueError(f"{network} needs a patch_px that is a power of two from 4, got {patch_px}.")


def check_dropout(network: str, dropout: float) -> None:
    """Check a probability of dropout.

    Raises:
        ValueError: It is outside [0, 1).
    """
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"{network} needs a dropout in [0, 1), got {dropout}.")


def check_patches(patches: Tensor, network: str, num_levels: int, num_channels: int, patch_px: int) -> None:
    """Check the shape of patches.

    Raises:
        ValueError: It is another one than `[n, num_levels * num_channels, patch_px, patch_px]`.
    """
    if patches.ndim != 4 or patches.shape[1:] != (num_levels * num_channels, patch_px, patch_px):
        raise ValueError(
            f"{network} needs patches of shape [n, {num_levels * num_channels}, {patch_px}, {patch_px}] "
            f"({num_levels} levels of {num_channels} channels), got {list(patches.shape)}; crop patches of "
            "that size, or build the network for this one."
        )
