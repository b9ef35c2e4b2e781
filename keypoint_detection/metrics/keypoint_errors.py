"""The table of point errors: each target's distance to its detection and its normalising length."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import assign_partners
from keypoint_detection.metrics.gathering import fill_empty_states

OWN_IMAGE = torch.iinfo(torch.int64).min
"""Stands for the id of an image that no other sample shows."""

GREATEST_RATIO = 2.0**40
"""Distances of this many lengths have no exact sum, and their lengths are no lengths."""


class KeypointErrors(NamedTuple):
    """Hold the p targets that count, ordered by sample, then channel; this is what the table stores.

    Attributes:
        distance: `[p]` float64 pixels to the detection assigned; NaN where the target is missed.
        length: `[p]` float64 pixels, what the distance is divided by; NaN where undefined.
        num_targets: `[n, c]` int64, the targets of each sample, an image or a crop of one, and channel.
        image: `[n]` int64, the id of the image that each sample shows; `OWN_IMAGE`, or None for all: one of
            its own.
    """

    distance: Tensor
    length: Tensor
    num_targets: Tensor
    image: Tensor | None = None


@torch.no_grad()
def keypoint_errors(
    preds: Tensor,
    scores: Tensor,
    target: Tensor,
    visibility: Tensor,
    *,
    length: Tensor | None = None,
    ignored: Tensor | None = None,
) -> KeypointErrors:
    """Return the distance of every target that counts to its detection, on the device of the input.

    Args:
        preds: `[n, c, k, 2]` detections in pixels, NaN padded; any floating type.
        scores: `[n, c, k]`, any range.
        target: `[n, c, m, 2]` ground truth in pixels.
        visibility: `[n, c, m]`; 0, or a target that is not finite, is absent.
        length: Pixels, `[n]` or `[n, c, m]`; one that is not finite and > 0 is undefined. None is 1 pixel.
        ignored: `[n, c, m]` bool, targets whose pairs and misses do not count; a detection on them disturbs
            nobody.

    Raises:
        ValueError: Shapes that do not fit, or a score that is NaN.

    Example:
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0], [90.0, 90.0]]]])
        >>> scores, visibility, length = torch.ones(1, 1, 1), torch.tensor([[[2, 2]]]), torch.tensor([50.0])
        >>> errors = keypoint_errors(preds, scores, target, visibility, length=length)
        >>> errors.distance.tolist(), errors.length.tolist(), errors.num_targets.tolist()
        ([5.0, nan], [50.0, 50.0], [[2]])
    """
    lengths = None if length is None else target_lengths(length, visibility)
    partners = assign_partners(preds, scores, target, visibility, ignored=ignored, length=lengths)
    distance = partners.distance[partners.counted]
    counted_length = torch.ones_like(distance) if lengths is None else lengths[partners.counted]
    return KeypointErrors(distance, counted_length, partners.counted.sum(-1))


def target_lengths(length: Tensor, visibility: Tensor) -> Tensor:
    """Return the length of every target, float64 `[n, c, m]`, NaN where it is not finite and > 0.

    Args:
        length: Pixels, `[n]` or `[n, c, m]`.
        visibility: `[n, c, m]`.
    """
    if length.shape not in (visibility.shape, visibility.shape[:1]):
        raise ValueError(
            f"expected one length per image {list(visibility.shape[:1])} or per target "
            f"{list(visibility.shape)}, got {list(length.shape)}"
        )
    length = length.double()
    length = length.masked_fill(~((length > 0) & length.isfinite()), torch.nan)
    return length[:, None, None].expand(visibility.shape) if length.ndim == 1 else length


def relative_errors(distance: Tensor, length: Tensor) -> Tensor:
    """Return distance / length; a ValueError says where a length is so small that it cannot be one."""
    ratio = distance / length
    if bool((ratio >= GREATEST_RATIO).any()):
        at = int(ratio.nan_to_num(-1.0).argmax())
        raise ValueError(
            f"expected distances below 2^40 lengths, got {float(distance.flatten()[at]):g} px and "
            f"a length of {float(length.flatten()[at]):g} px; lengths are pixels, 0 or NaN where undefined"
        )
    return ratio


def closeness(distance: Tensor, length: Tensor, alpha: float) -> Tensor:
    """Return what each target adds to the area under PCK from 0 to `alpha`, in [0, 1]; 0 where missed."""
    return (1.0 - distance / (alpha * length)).clamp(min=0.0).nan_to_num(0.0)


class KeypointErrorTable(Metric):
    """Collect the errors of all keypoints of all images; every point-wise number follows from them.

    The m targets of an image and channel, ignored ones included, get the m best-scoring detections as
    partners, by the least total distance (`assign_partners`).

    Args:
        num_channels: c.

    Example:
        >>> table = KeypointErrorTable(num_channels=1)
        >>> preds, target = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
        >>> table.update(preds, torch.tensor([[[0.9]]]), target, torch.tensor([[[2]]]))
        >>> table.compute().distance.tolist()
        [5.0]
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    distance: list[Tensor] | Tensor
    length: list[Tensor] | Tensor
    num_targets: list[Tensor] | Tensor
    image: list[Tensor] | Tensor

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        if num_channels < 1:
            raise ValueError(f"expected num_channels >= 1, got {num_channels}")
        self.num_channels = num_channels
        for name in KeypointErrors._fields:
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(
        self,
        preds: Tensor,
        scores: Tensor,
        target: Tensor,
        visibility: Tensor,
        *,
        length: Tensor | None = None,
        ignored: Tensor | None = None,
        image: Tensor | None = None,
    ) -> None:
        """Add a batch; for `image` see `KeypointErrors`, for the other arguments `keypoint_errors`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        errors = keypoint_errors(preds, scores, target, visibility, length=length, ignored=ignored)
        if image is None:
            image = torch.full((len(preds),), OWN_IMAGE)
        if image.shape != preds.shape[:1]:
            raise ValueError(
                f"expected an image id for each of {len(preds)} samples, got {list(image.shape)}"
            )
        for name, part in errors._replace(image=image.long().to(errors.distance.device))._asdict().items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
        fill_empty_states(self, self._nothing()._asdict())
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> KeypointErrors:
        """Return the errors of all images of all processes."""
        return KeypointErrors(*(torch.cat(parts) for parts in self._parts()))

    def errors(self) -> KeypointErrors:
        """Return the errors of the images of this process alone, on the CPU."""
        return KeypointErrors(*(torch.cat(parts).cpu() for parts in self._parts()))

    def _parts(self) -> list[list[Tensor]]:
        states = [getattr(self, name) for name in KeypointErrors._fields]
        listed = [state if isinstance(state, list) else [state] for state in states]
        nothing = [empty for empty in self._nothing() if empty is not None]
        return [[empty, *state] for empty, state in zip(nothing, listed, strict=True)]

    def _nothing(self) -> KeypointErrors:
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        counts = torch.zeros(0, self.num_channels, dtype=torch.int64, device=self.device)
        return KeypointErrors(none, none.clone(), counts, counts.new_zeros(0))

    def _wrap_compute(self, compute: Callable) -> Callable:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(wrapped)
        def computed() -> KeypointErrors:
            distance, length, num_targets, image = wrapped()
            # torchmetrics turns every tensor of one element into a scalar.
            counts = num_targets.reshape(-1, self.num_channels)
            return KeypointErrors(distance.reshape(-1), length.reshape(-1), counts, image.reshape(-1))

        return computed
