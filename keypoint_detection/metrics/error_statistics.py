"""The numbers that follow from the errors of points, each as a function of how often each sample counts."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from keypoint_detection.metrics.error_sums import fixed_point, floating_point
from keypoint_detection.metrics.image_statistics import RatioStatistic
from keypoint_detection.metrics.keypoint_errors import OWN_IMAGE, KeypointErrors, closeness, relative_errors


def error_statistics(
    errors: KeypointErrors, channel_names: Sequence[str], alphas: Sequence[float]
) -> list[RatioStatistic]:
    """Return every number that follows from the errors, each over all channels and then per channel.

    - `mean_error_px`: distances of pairs; `rmse_px`: root of the mean square over all pairs;
      `image_rmse_px`: that root within each image, over all samples of it, then the mean over the images
      that have a pair; it is stored with the first sample of its image.
    - `missed`: targets without a detection.
    - Of the targets with a length: `nme`, mean of distance / length over pairs; `pck@alpha`, share with
      distance < alpha * length, missed ones wrong; `pck_auc@alpha`, the area under PCK from 0 to the
      greatest alpha, divided by that alpha.

    A channel's column is called `channel/name`.

    Args:
        errors: Errors of n samples and c channels.
        channel_names: c names.
        alphas: Limits of PCK, > 0, in lengths; none of them where the errors were collected without lengths,
            which leaves out `nme` as well.

    Example:
        >>> errors = KeypointErrors(torch.tensor([3.0, torch.nan]), torch.ones(2), torch.tensor([[2]]))
        >>> [(s.columns[0], float(s.value()[0])) for s in error_statistics(errors, ["eye"], [6])][3:]
        [('missed', 1.0), ('nme', 3.0), ('pck@6', 0.5), ('pck_auc@6', 0.25)]
    """
    distance, length, num_targets = (part.cpu() for part in errors[:3])
    samples = _Samples(num_targets, tuple(channel_names), _first_samples(errors))
    missed = distance.isnan()
    squares, pairs = samples.add(distance.square()), samples.add(~missed)
    image_squares, image_pairs = samples.add_images(distance.square()), samples.add_images(~missed)
    image_rmse = (image_squares / image_pairs).sqrt().masked_fill(image_pairs == 0, 0.0)
    statistics = [
        samples.statistic("mean_error_px", samples.add(distance), pairs),
        RatioStatistic(samples.columns("rmse_px"), squares, pairs, root=True),
        samples.statistic("image_rmse_px", image_rmse, (image_pairs > 0).double()),
        samples.statistic("missed", samples.add(missed), None),
    ]
    return statistics + (_normalized_statistics(distance, length, samples, alphas) if len(alphas) else [])


def _first_samples(errors: KeypointErrors) -> Tensor:
    """Return for each of n samples the first one that shows the same image, `[n]`."""
    n = len(errors.num_targets)
    own = torch.arange(n)
    if errors.image is None:
        return own
    ids, group = errors.image.cpu().unique(return_inverse=True)
    first = own.new_full((len(ids),), n).scatter_reduce(0, group, own, "amin")
    return torch.where(errors.image.cpu() == OWN_IMAGE, own, first[group])


@dataclass(frozen=True)
class _Samples:
    num_targets: Tensor
    channel_names: tuple[str, ...]
    first: Tensor

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
        """Add up `[p]` numbers >= 0, NaN as nothing, per sample, `[n, 1 + c]`: over all channels, of each.

        The sums are fixed-point, so the order of a sample's targets and channels changes no bit.
        """
        return floating_point(self._totals(values))

    def add_images(self, values: Tensor) -> Tensor:
        """Add up likewise per image: all samples of one in the row of the first, 0 in the others."""
        total = self._totals(values)
        return floating_point(torch.zeros_like(total).index_add_(0, self.first, total))

    def _totals(self, values: Tensor) -> Tensor:
        """Return the sums in fixed-point, `[n, 1 + c, 2]`."""
        group = torch.arange(self.num_targets.numel()).repeat_interleave(self.num_targets.flatten())
        total = torch.zeros(self.num_targets.numel(), 2, dtype=torch.int64)
        total.index_add_(0, group, fixed_point(values.double()))
        total = total.reshape(*self.num_targets.shape, 2)
        return torch.cat([total.sum(1, keepdim=True), total], dim=1)


def _normalized_statistics(
    distance: Tensor, length: Tensor, samples: _Samples, alphas: Sequence[float]
) -> list[RatioStatistic]:
    ratio, measured = relative_errors(distance, length), samples.add(~length.isnan())
    statistics = [samples.statistic("nme", samples.add(ratio), samples.add(~ratio.isnan()))]
    for alpha in alphas:
        correct = samples.add(distance < alpha * length)
        statistics.append(samples.statistic(f"pck@{alpha:g}", correct, measured))
    area = samples.add(closeness(distance, length, max(alphas)))
    return [*statistics, samples.statistic(f"pck_auc@{max(alphas):g}", area, measured)]
