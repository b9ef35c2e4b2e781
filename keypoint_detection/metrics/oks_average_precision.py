"""COCO's keypoint metric: average precision and recall of instances by object keypoint similarity."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from keypoint_detection.metrics.gathering import fill_empty_states
from keypoint_detection.metrics.image_order import check_values, ordered_images
from keypoint_detection.metrics.instance_batch import InstanceBatch, InstanceRecord
from keypoint_detection.metrics.instance_matching import match_instances
from keypoint_detection.metrics.oks_curve import OKS_NUMBERS, OKSStatistic


def oks_average_precision(
    preds: Sequence[InstanceRecord], target: Sequence[InstanceRecord], sigmas: Sequence[float] | Tensor
) -> dict[str, Tensor]:
    """Return COCO's ten numbers; the definition is `OKSAveragePrecision`'s.

    Args:
        preds: A dict for each image: `keypoints [d, k, 2]`, `scores [d]`.
        target: Likewise; see `OKSAveragePrecision.update`.
        sigmas: Constants of the k keypoints, > 0.

    Returns:
        Float64 scalars in [0, 1], or -1 where there is no target of that size.

    Raises:
        ValueError: As `OKSAveragePrecision` raises.

    Example:
        >>> preds = [{"keypoints": torch.tensor([[[10.0, 13.0]]]), "scores": torch.tensor([0.9])}]
        >>> labels = {"keypoints": torch.tensor([[[10.0, 10.0]]]), "visibility": torch.tensor([[2]])}
        >>> target = [{**labels, "area": torch.tensor([2500.0])}]
        >>> numbers = oks_average_precision(preds, target, sigmas=[0.05])
        >>> round(float(numbers["ap50"]), 3), round(float(numbers["ap"]), 3), float(numbers["ap_large"])
        (1.0, 0.7, -1.0)
    """
    values = checked_sigmas(sigmas)
    batch = InstanceBatch.of_records(preds, target, len(values), torch.device("cpu"))
    batch = _prepared(batch, torch.arange(len(batch.has_id)))
    _warn_of_zero_areas(batch)
    return _named(OKSStatistic.of_matches(match_instances(batch, values)).value())


class OKSAveragePrecision(Metric):
    """COCO's ten numbers: AP and AR over OKS 0.50:0.05:0.95, at 0.50 and 0.75, of medium and large objects.

    The similarity of a detection to a labelled object is the mean of `exp(-d^2 / (2 area (2 sigma)^2))` over
    the labelled keypoints. In each image the best 20 detections take, by falling score, the most similar
    free object of at least the threshold. Precision over recall is drawn over all images, replaced by its
    greatest value at the same or a higher recall, and averaged over 101 recalls. The numbers equal
    pycocotools' to 1e-9 for any number of keypoints. Detections of equal score go by their image: by rising
    image_id, or in the order of the data set where images have no id.

    Beyond COCO: a keypoint of a detection that is NaN adds no similarity and is left out of the extent
    of its detection; a labelled keypoint that is not finite counts as not labelled; an object without
    labelled keypoints and without a box is similar to nothing. An object of area 0, as COCO has it, is
    found by an exact hit alone: `compute` warns of such objects. An image whose id comes twice with the
    same content counts once.

    Args:
        sigmas: Constants of the k keypoints, > 0, in units of the object's side (the root of its area).

    Source: COCO's keypoint evaluation (cocodataset.org) as pycocotools runs it; float64 on the CPU.

    Example:
        >>> metric = OKSAveragePrecision(sigmas=[0.025, 0.1])
        >>> points = torch.tensor([[[10.0, 10.0], [40.0, 30.0]]])
        >>> labels = {"keypoints": points, "visibility": torch.tensor([[2, 1]]), "area": torch.tensor([2e3])}
        >>> metric.update([{"keypoints": points + 1, "scores": torch.tensor([0.9])}], [labels])
        >>> round(float(metric.compute()["ap"]), 3)
        0.9
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = True

    position: list[Tensor] | Tensor
    has_id: list[Tensor]

    def __init__(self, sigmas: Sequence[float] | Tensor) -> None:
        super().__init__()
        self.sigmas = checked_sigmas(sigmas)
        # A collection lets metrics with equal states share one: instances equal by chance must not join two.
        self.add_state("definition", torch.tensor(self.sigmas, dtype=torch.float64), dist_reduce_fx="max")
        for name in (*InstanceBatch._fields, "position"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, preds: Sequence[InstanceRecord], target: Sequence[InstanceRecord]) -> None:
        """Store the instances of some images, on the device and without waiting for it.

        Args:
            preds: A dict for each image: `keypoints [d, k, 2]` in original-image pixels and `scores [d]`.
            target: A dict for each image: `keypoints [g, k, 2]` in the same pixels, `visibility [g, k]` (0
                where not labelled), `area [g]` of the objects in square pixels; where known `iscrowd [g]`,
                `boxes [g, 4]` (x, y, width, height), and `image_id`, an integer. Tensors or NumPy arrays.

        Raises:
            ValueError: Lists of different lengths, a missing key, or another shape.
        """
        batch = InstanceBatch.of_records(preds, target, len(self.sigmas), self.device)
        for name, part in batch._asdict().items():
            getattr(self, name).append(part)

    def sync(
        self,
        dist_sync_fn: Callable | None = None,
        process_group: Any = None,
        should_sync: bool = True,
        distributed_available: Callable | None = None,
    ) -> None:
        """Gather the state of all processes; one that saw no image takes part with empty tensors."""
        if not self._is_synced:
            fill_empty_states(self, InstanceBatch.empty(len(self.sigmas), self.device)._asdict())
            count = sum(len(part) for part in self.has_id)
            self.position = [torch.arange(count, device=self.device)]
        super().sync(dist_sync_fn, process_group, should_sync, distributed_available)

    def compute(self) -> dict[str, Tensor]:
        """Return the ten numbers in COCO's order: float64 scalars in [0, 1], or -1 where undefined.

        Raises:
            ValueError: A score that is NaN, an area that is negative or not finite, an image_id for only
                some images, or one that comes twice with different content; the message names the image.
        """
        batch = _prepared(*self._stored())
        _warn_of_zero_areas(batch)
        value = OKSStatistic.of_matches(match_instances(batch, self.sigmas)).value()
        return _named(value.to(self.device))

    def statistic(self) -> tuple[OKSStatistic, Tensor]:
        """Return what resampling needs: the numbers as a function of how often each image counts.

        Returns:
            The statistic over n images and, int64 `[n]` in its order, their ids, or where they have none
            their positions. All processes must call it.

        Raises:
            ValueError: As `compute` raises.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            stored = self._stored()
        batch = _prepared(*stored)
        has_ids = bool(batch.has_id.any())
        image_ids = batch.image_id if has_ids else torch.arange(len(batch.has_id))
        return OKSStatistic.of_matches(match_instances(batch, self.sigmas)), image_ids

    def _stored(self) -> tuple[InstanceBatch, Tensor]:
        """Return the images of the state, gathered or not, and their positions `[n]`, on the CPU."""
        parts = [getattr(self, name) for name in InstanceBatch._fields]
        empty = InstanceBatch.empty(len(self.sigmas), self.device)
        joined = (
            torch.cat([*part, none]) if isinstance(part, list) else part
            for part, none in zip(parts, empty, strict=True)
        )
        batch = InstanceBatch(*joined).cpu()
        # What one process saw is in order; the positions of several come with the gathered state.
        gathered = self.position if isinstance(self.position, Tensor) else torch.arange(len(batch.has_id))
        return batch, gathered.cpu()


def checked_sigmas(sigmas: Sequence[float] | Tensor) -> tuple[float, ...]:
    """Return the sigmas as numbers.

    Raises:
        ValueError: None given, or one that is not finite and > 0.
    """
    values = tuple(torch.as_tensor(sigmas, dtype=torch.float64).reshape(-1).tolist())
    # The squares must not vanish or overflow either.
    if not values or not all(value > 0 and 0 < (2 * value) ** 2 < math.inf for value in values):
        raise ValueError(
            f"expected a sigma for each keypoint, finite and > 0, got {', '.join(map(str, values)) or 'none'}"
        )
    return values


def _prepared(batch: InstanceBatch, position: Tensor) -> InstanceBatch:
    batch = ordered_images(batch, position)
    check_values(batch)
    return batch


def _warn_of_zero_areas(batch: InstanceBatch) -> None:
    countable = batch.labelled.any(1) & ~batch.crowd
    zero = int((countable & (batch.area == 0)).sum())
    if zero:
        warnings.warn(
            f"{zero} of {int(countable.sum())} labelled instances have area 0, where only an exact hit has "
            "an OKS above 0; give each instance the area of its mask, or of its box, in square pixels",
            UserWarning,
            stacklevel=3,
        )


def _named(values: Tensor) -> dict[str, Tensor]:
    return dict(zip(OKS_NUMBERS, values.nan_to_num(nan=-1.0).unbind(), strict=True))
