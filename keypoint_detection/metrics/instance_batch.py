"""Instances of many images as flat tensors, one image after the other: what COCO's metric stores."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

InstanceRecord = Mapping[str, Any]
"""What is known of one image: tensors or NumPy arrays by name, with a row for each instance."""


class InstanceBatch(NamedTuple):
    """Hold d detections and g labelled instances of k keypoints, ordered by image, of n images.

    Attributes:
        keypoints: `[d, k, 2]` float64 pixels, detections; NaN for a keypoint that was not found.
        scores: `[d]` float64.
        num_detections: `[n]` int64.
        target_keypoints: `[g, k, 2]` float64 pixels.
        labelled: `[g, k]` bool, the keypoints that count.
        area: `[g]` float64 square pixels.
        crowd: `[g]` bool.
        boxes: `[g, 4]` float64 pixels (x, y, width, height), NaN where there is none.
        num_targets: `[n]` int64.
        image_id: `[n]` int64, 0 where there is none.
        has_id: `[n]` bool.
    """

    keypoints: Tensor
    scores: Tensor
    num_detections: Tensor
    target_keypoints: Tensor
    labelled: Tensor
    area: Tensor
    crowd: Tensor
    boxes: Tensor
    num_targets: Tensor
    image_id: Tensor
    has_id: Tensor

    @classmethod
    def of_records(
        cls, preds: Sequence[InstanceRecord], target: Sequence[InstanceRecord], k: int, device: torch.device
    ) -> "InstanceBatch":
        """Join what a metric is given for a batch of images; only names and shapes are checked.

        It never waits for the device.

        Args:
            preds: One record per image: `keypoints [d, k, 2]`, `scores [d]`.
            target: Likewise `keypoints [g, k, 2]`, `visibility [g, k]`, `area [g]`, and where known
                `iscrowd [g]`, `boxes [g, 4]` and `image_id`, an integer.
            k: Number of keypoints of an instance.
            device: Where the tensors are to be.

        Raises:
            ValueError: Lists of different lengths, a missing key or another shape.
        """
        _check_records(preds, target, k)
        points = _joined(preds, "keypoints", (k, 2), device)
        targets = _joined(target, "keypoints", (k, 2), device)
        visible = _joined(target, "visibility", (k,), device) > 0
        crowd = _joined(target, "iscrowd", (), device, missing=0.0)
        image_id, has_id = _image_ids(target)
        return cls(
            points,
            _joined(preds, "scores", (), device),
            _sent(torch.tensor([len(record["scores"]) for record in preds], dtype=torch.int64), device),
            targets,
            visible & targets.isfinite().all(-1),
            _joined(target, "area", (), device),
            crowd != 0,
            _joined(target, "boxes", (4,), device, missing=torch.nan),
            _sent(torch.tensor([len(record["area"]) for record in target], dtype=torch.int64), device),
            _sent(image_id, device),
            _sent(has_id, device),
        )

    @classmethod
    def empty(cls, k: int, device: torch.device) -> "InstanceBatch":
        """Return a batch without images."""
        return cls.of_records([], [], k, device)

    def cpu(self) -> "InstanceBatch":
        """Return the batch on the CPU."""
        return InstanceBatch(*(part.cpu() for part in self))

    def take(self, images: Tensor) -> "InstanceBatch":
        """Return the batch of these images, int64 `[m]`, in that order."""
        detections, targets = (
            rows_of_images(counts, images) for counts in (self.num_detections, self.num_targets)
        )
        rows = [detections] * 2 + [images] + [targets] * 5 + [images] * 3
        return InstanceBatch._make(part[index] for part, index in zip(self, rows, strict=True))

    def name_of(self, image: int) -> str:
        """Return the id of an image, or its position where it has none, for a message."""
        return f"image_id {int(self.image_id[image])}" if self.has_id[image] else f"image number {image}"


def rows_of_images(counts: Tensor, images: Tensor) -> Tensor:
    """Return the rows of images `[m]` among rows ordered by image, `counts[i]` of image i."""
    taken = counts[images]
    shift = (counts.cumsum(0) - counts)[images] - (taken.cumsum(0) - taken)
    return shift.repeat_interleave(taken) + torch.arange(int(taken.sum()))


def _check_records(preds: Sequence[InstanceRecord], target: Sequence[InstanceRecord], k: int) -> None:
    if len(preds) != len(target):
        raise ValueError(
            f"expected preds and target with a dict for each image, got {len(preds)} and {len(target)} dicts"
        )
    found, labels = {"keypoints": (k, 2), "scores": ()}, {"keypoints": (k, 2), "visibility": (k,), "area": ()}
    optional = {"iscrowd": (), "boxes": (4,)}
    for index, record in enumerate(preds):
        _check_record(record, found, "preds", index)
    for index, record in enumerate(target):
        _check_record(record, labels, "target", index)
        given = {key: tail for key, tail in optional.items() if record.get(key) is not None}
        if given:
            _check_record(record, {"area": (), **given}, "target", index)


def _check_record(record: InstanceRecord, tails: dict[str, tuple[int, ...]], side: str, index: int) -> None:
    """Check that every key is there, with the shape (rows, *tail) and the same rows."""
    rows = None
    for key, tail in tails.items():
        if key not in record:
            hint = "; without areas OKS has no scale" if key == "area" else ""
            raise ValueError(f"{side}[{index}] needs the keys {', '.join(tails)}, got no {key!r}{hint}")
        shape = getattr(record[key], "shape", None)
        if shape is None:
            kind = type(record[key]).__name__
            raise ValueError(f"{side}[{index}][{key!r}] needs a tensor or a NumPy array, got {kind}")
        rows = shape[:1] if rows is None else rows
        if len(rows) != 1 or shape != (*rows, *tail):
            first = rows[0] if len(rows) == 1 else "instances"
            expected = ", ".join(map(str, (first, *tail)))
            raise ValueError(f"{side}[{index}][{key!r}] needs shape [{expected}], got {list(shape)}")


def _joined(
    records: Sequence[InstanceRecord],
    key: str,
    tail: tuple[int, ...],
    device: torch.device,
    *,
    missing: float | None = None,
) -> Tensor:
    """Return the rows of all records as float64 `[rows, *tail]` on a device.

    Args:
        records: One per image.
        key: Name of the rows.
        tail: Shape of a row.
        device: Where the rows are to be.
        missing: What an optional key holds where it is absent; the rows are then as many as areas.
    """
    parts: list[Any] = [record.get(key) for record in records]
    if missing is not None and any(part is None for part in parts):
        if all(part is None for part in parts):
            rows = sum(len(record["area"]) for record in records)
            return torch.full((rows, *tail), missing, dtype=torch.float64, device=device)
        parts = [
            np.full((len(record["area"]), *tail), missing) if part is None else part
            for record, part in zip(records, parts, strict=True)
        ]
    if not parts:
        return torch.zeros((0, *tail), dtype=torch.float64, device=device)
    if all(isinstance(part, np.ndarray) for part in parts):
        return _sent(torch.from_numpy(np.concatenate(parts, dtype=np.float64, casting="unsafe")), device)
    tensors = [torch.as_tensor(part) for part in parts]
    if len({(tensor.dtype, tensor.device) for tensor in tensors}) > 1:
        tensors = [_sent(tensor.double(), device) for tensor in tensors]
    return _sent(torch.cat(tensors).detach(), device).double()


def _image_ids(target: Sequence[InstanceRecord]) -> tuple[Tensor, Tensor]:
    """Return the ids of images, int64 `[n]`, and which have one, bool `[n]`; on whatever device they are."""
    given = [record.get("image_id") for record in target]
    has_id = torch.tensor([value is not None for value in given], dtype=torch.bool)
    for index, value in enumerate(given):
        if value is not None and not _is_integer(value):
            raise ValueError(f"target[{index}]['image_id'] needs one integer, got {value!r:.60}")
    if not any(isinstance(value, Tensor) for value in given):
        return torch.tensor(
            [0 if value is None else int(value) for value in given], dtype=torch.int64
        ), has_id
    device = next(value.device for value in given if isinstance(value, Tensor))
    ids = [
        _sent(torch.as_tensor(0 if value is None else value).reshape(()).long(), device) for value in given
    ]
    return torch.stack(ids), has_id


def _is_integer(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_floating_point()
    return isinstance(value, int | np.integer) or (
        isinstance(value, np.ndarray) and value.size == 1 and np.issubdtype(value.dtype, np.integer)
    )


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Move values without waiting for an accelerator; reading them on the CPU does wait."""
    return values.to(device, non_blocking=device.type != "cpu")
