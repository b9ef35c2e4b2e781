"""The flip test: average a prediction with the one for the mirrored image, exactly, without a shift."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from keypoint_detection.data.channels import Channels, channel_name
from keypoint_detection.data.symmetry import Symmetry
from keypoint_detection.models.heads import RegressionHead

if TYPE_CHECKING:
    from keypoint_detection.models.detector import KeypointDetector


def mirrored_channels(
    channels: Channels, pairs: Iterable[Sequence[str]] | None = None, symmetry: Symmetry | None = None
) -> list[int]:
    """Return the channel that each channel becomes in a mirror.

    Args:
        channels: Keypoint names per channel.
        pairs: `(left, right)` names, also of names that no channel holds; None takes those of the symmetry.
        symmetry: What the data set declares; without pairs there, they are found from the names.

    Returns:
        An index per channel; its own where the mirror exchanges its names among themselves.

    Raises:
        ValueError: A channel has no partner: none holds the names of its other side.
    """
    symmetry = symmetry or Symmetry()
    pairs = symmetry.pairs if pairs is None else list(pairs)
    # A declared name that is in no channel is still a name, so that no channel is taken for its own partner.
    groups = [*channels, *(pairs or []), *symmetry.cyclic, *symmetry.interchangeable]
    mirror = symmetry.mirror(list(dict.fromkeys(name for group in groups for name in group)), pairs)
    index_of_names: dict[frozenset[str], int] = {}
    for index, channel in enumerate(channels):
        index_of_names.setdefault(frozenset(channel), index)
    order = []
    for index, channel in enumerate(channels):
        mirrored = frozenset(mirror.swap[name] for name in channel)
        if mirrored not in index_of_names or not mirrored.isdisjoint(mirror.unpaired):
            raise ValueError(
                f"flip test: expected a channel for the mirrored names of channel {channel_name(channel)!r}, "
                f"got none ({', '.join(map(channel_name, channels))}); declare the pairs of names with "
                "--symmetric_keypoints 'left=right; ...'"
            )
        order.append(index if mirrored == frozenset(channel) else index_of_names[mirrored])
    return order


def forward_with_flip(detector: "KeypointDetector", image: Tensor, order: Sequence[int]) -> Tensor:
    """Predict with the mean of an image and its mirror image.

    Heatmaps: the image is first padded at the right and below to the size multiple of the backbone, by its
    last pixels as the backbone does it; left to the backbone, the mirrored image would get the padding at its
    other side.
    Then `x' = W - 1 - x` is `u' = W / stride - 1 - u` on the heatmap, which is its mirror without a shift.
    The mean is of the probabilities.

    Points of direct regression are relative to the size of the image that the network gets, so nothing is
    padded; they are mirrored by `1 - x`, which is exact for widths that are a multiple of the stride.

    Args:
        detector: In evaluation mode.
        image: uint8 `[n, c_in, h, w]`.
        order: The channel that each one becomes in a mirror, see `mirrored_channels`.

    Returns:
        What `detector(image)` gives, of the same shape and type: logits of the mean, or the mean points.
    """
    order = list(order)
    if isinstance(detector.head, RegressionHead):
        mirrored = detector(image.flip(-1))[:, order]
        mirrored = torch.stack([1.0 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
        return (detector(image) + mirrored) / 2
    (height, width), stride = image.shape[-2:], detector.backbone.stride
    image = _padded(image, detector.backbone.size_multiple)  # a multiple of the stride
    logits = mean_of_logits(detector(image), detector(image.flip(-1)).flip(-1)[:, order])
    return logits[..., : -(-height // stride), : -(-width // stride)]


def _padded(image: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column up to a multiple of both sides; torch pads no uint8 that way."""
    rows, columns = (
        torch.arange(side + -side % multiple, device=image.device).clamp(max=side - 1)
        for side in image.shape[-2:]
    )
    return image.index_select(-2, rows).index_select(-1, columns)


def mean_of_logits(first: Tensor, second: Tensor) -> Tensor:
    """Return the logit of the mean of two probabilities that are given as logits, of the same type.

    It is `log(p + q) - log((1 - p) + (1 - q))` from log-sigmoids: `p` itself would round to 0 or 1, whose
    logits are infinite.

    Args:
        first: Logits of any shape.
        second: Logits of the same shape.
    """
    precise = torch.promote_types(first.dtype, torch.float32)
    one, other = first.to(precise), second.to(precise)
    likely = torch.logaddexp(F.logsigmoid(one), F.logsigmoid(other))
    unlikely = torch.logaddexp(F.logsigmoid(-one), F.logsigmoid(-other))
    return (likely - unlikely).to(first.dtype)
