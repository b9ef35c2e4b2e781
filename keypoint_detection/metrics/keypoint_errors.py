"""The table of point errors: each target's distance to its detection and its normalising length."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.assignment import assign_partners
from keypoint_detection.metrics.error_sums import fixed_point, floating_point
from keypoint_detection.metrics.image_statistics import RatioStatistic

GREATEST_RATIO = 2.0**40
"""Distances of this many lengths have no exact sum, and their lengths are no lengths."""


class KeypointErrors(NamedTuple):
    """Hold the p targets that count, ordered by image, then channel; this is what the table stores.

    Attributes:
        distance: `[p]` float64 pixels to the detection assigned; NaN where the target is missed.
        length: `[p]` float64 pixels, what the distance is divided by; NaN where undefined.
        num_targets: `[n, c]` int64, the targets of each image and channel.
    """

    distance: Tensor
    length: Tensor
    num_targets: Tensor


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
    ) -> None:
        """Add a batch; for the arguments see `keypoint_errors`."""
        if preds.ndim != 4 or preds.shape[1] != self.num_channels:
            raise ValueError(f"expected preds [n, {self.num_channels}, k, 2], got {list(preds.shape)}")
        errors = keypoint_errors(preds, scores, target, visibility, length=length, ignored=ignored)
        for name, part in errors._asdict().items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
        for name, empty in self._nothing()._asdict().items():
            state = getattr(self, name)
            if isinstance(state, list) and not state:
                state.append(empty)
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
        return [[empty, *state] for empty, state in zip(self._nothing(), listed, strict=True)]

    def _nothing(self) -> KeypointErrors:
        none = torch.zeros(0, dtype=torch.float64, device=self.device)
        counts = torch.zeros(0, self.num_channels, dtype=torch.int64, device=self.device)
        return KeypointErrors(none, none.clone(), counts)

    def _wrap_compute(self, compute: Callable) -> Callable:
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(wrapped)
        def computed() -> KeypointErrors:
            distance, length, num_targets = wrapped()
            # torchmetrics turns every tensor of one element into a scalar.
            counts = num_targets.reshape(-1, self.num_channels)
            return KeypointErrors(distance.reshape(-1), length.reshape(-1), counts)

        return computed


def error_statistics(
    errors: KeypointErrors, channel_names: Sequence[str], alphas: Sequence[float]
) -> list[RatioStatistic]:
    """Return every number that follows from the errors, each over all channels and then per channel.

    - `mean_error_px`: distances of pairs; `rmse_px`: root of the mean square over all pairs;
      `image_rmse_px`: that root within each image, then the mean over the images that have a pair.
    - `missed`: targets without a detection.
    - Of the targets with a length: `nme`, mean of distance / length over pairs; `pck@alpha`, share with
      distance < alpha * length, missed ones wrong; `pck_auc@alpha`, the area under PCK from 0 to the
      greatest alpha, divided by that alpha.

    A channel's column is called `channel/name`.

    Args:
        errors: Errors of n images and c channels.
        channel_names: c names.
        alphas: Limits of PCK, > 0, in lengths; none of them where the errors were collected without lengths,
            which leaves out `nme` as well.

    Example:
        >>> errors = KeypointErrors(torch.tensor([3.0, torch.nan]), torch.ones(2), torch.tensor([[2]]))
        >>> [(s.columns[0], float(s.value()[0])) for s in error_statistics(errors, ["eye"], [6])][3:]
        [('missed', 1.0), ('nme', 3.0), ('pck@6', 0.5), ('pck_auc@6', 0.25)]
    """
    distance, length, num_targets = (part.cpu() for part in errors)
    images = _Images(num_targets, tuple(channel_names))
    missed = distance.isnan()
    squares, pairs = images.add(distance.square()), images.add(~missed)
    image_rmse = (squares / pairs).sqrt().masked_fill(pairs == 0, 0.0)
    statistics = [
        images.statistic("mean_error_px", images.add(distance), pairs),
        RatioStatistic(images.columns("rmse_px"), squares, pairs, root=True),
        images.statistic("image_rmse_px", image_rmse, (pairs > 0).double()),
        images.statistic("missed", images.add(missed), None),
    ]
    return statistics + (_normalized_statistics(distance, length, images, alphas) if len(alphas) else [])


@dataclass(frozen=True)
class _Images:
    num_targets: Tensor
    channel_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.channel_names) != self.num_targets.shape[1]:
            raise ValueError(
                f"expected one name for each of {self.num_targets.shape[1]} channels, "
                f"got {len(self.channel_names)}"
            )

    def columns(self, name: str) -> tuple[str, ...]:
        return (name, *(f"{channel}/{name}" for channel in self.channel_names))

    def statistic(self, name: str, numerator: Tensor, denominator: Tensor | None) -> RatioStatistic:
        return RatioStatistic(self.columns(name), numerator, denominator)

    def add(self, values: Tensor) -> Tensor:
        """Add up `[p]` numbers >= 0, NaN as nothing, per image, `[n, 1 + c]`: over all channels, of each.

        The sums are fixed-point, so the order of an image's targets and channels changes no bit.
        """
        group = torch.arange(self.num_targets.numel()).repeat_interleave(self.num_targets.flatten())
        total = torch.zeros(self.num_targets.numel(), 2, dtype=torch.int64)
        total.index_add_(0, group, fixed_point(values.double()))
        total = total.reshape(*self.num_targets.shape, 2)
        return floating_point(torch.cat([total.sum(1, keepdim=True), total], dim=1))


def _normalized_statistics(
    distance: Tensor, length: Tensor, images: _Images, alphas: Sequence[float]
) -> list[RatioStatistic]:
    ratio, measured = relative_errors(distance, length), images.add(~length.isnan())
    statistics = [images.statistic("nme", images.add(ratio), images.add(~ratio.isnan()))]
    for alpha in alphas:
        correct = images.add(distance < alpha * length)
        statistics.append(images.statistic(f"pck@{alpha:g}", correct, measured))
    area = images.add(closeness(distance, length, max(alphas)))
    return [*statistics, images.statistic(f"pck_auc@{max(alphas):g}", area, measured)]
