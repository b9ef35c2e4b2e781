"""Hard keypoint mining: a loss that only the worst channels of each image count in."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

ChannelLoss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""A loss of heatmaps or points: output, target and weight -> one value per channel `[c]`."""


def mined(loss: ChannelLoss, n_hardest: int, n_channels: int) -> ChannelLoss:
    """Return a loss restricted to the hardest channels of each image, or the loss itself if that is all.

    Args:
        loss: Any loss of a head.
        n_hardest: Channels per image that count, `--ohkm`; 0 takes all.
        n_channels: Channels that there are.

    Raises:
        ValueError: If there are fewer channels than asked for, or the number is negative.
    """
    if not 0 <= n_hardest <= n_channels:
        raise ValueError(
            f"--ohkm: expected 0 (off) to {n_channels}, the number of channels, got {n_hardest}; it is the "
            "number of channels per image that count"
        )
    return loss if n_hardest in (0, n_channels) else partial(hardest_channels, loss, n_hardest)


def hardest_channels(
    loss: ChannelLoss, n_hardest: int, output: Tensor, target: Tensor, weight: Tensor | None = None
) -> Tensor:
    """Let the channels with the largest loss in an image count, and the others be 0.

    Every image gets its own choice, by the mean loss of each of its maps. The rest of the sum is what it is
    without mining: with `n_hardest` equal to c this is the loss itself.

    Args:
        loss: Any loss of a head.
        n_hardest: Channels per image that count.
        output: `[n, c, h, w]` or `[n, c, 2]`, as the loss takes it.
        target: Likewise.
        weight: As the loss takes it: `[n, c, h, w]` or `[n, c]`.

    Returns:
        `[c]`, float32.

    Source: Chen et al., Cascaded Pyramid Network for Multi-Person Pose Estimation, CVPR 2018 (arXiv
    1711.07319, section 3.2); its mean over the chosen channels is a sum here, as without mining.
    """
    n_images, n_channels = output.shape[:2]
    # Each map as a channel of one image: the loss then gives one value for each.
    maps = [None if part is None else part.flatten(0, 1)[None] for part in (output, target, weight)]
    values = loss(*maps).view(n_images, n_channels)  # pyright: ignore[reportArgumentType]
    order = values.detach().argsort(dim=1, descending=True, stable=True)
    chosen = order.argsort(dim=1) < n_hardest
    return (torch.where(chosen, values, 0.0) * _image_shares(weight, values)).sum(dim=0)


def _image_shares(weight: Tensor | None, values: Tensor) -> Tensor:
    """Return how much each image counts for the mean of a channel, `[n, c]`; the sum over images is 1."""
    if weight is None:
        return torch.full_like(values, 1.0 / max(len(values), 1))
    mass = weight.float().reshape(*values.shape, -1).sum(dim=-1)
    return mass / mass.sum(dim=0).clamp(min=torch.finfo(mass.dtype).tiny)
